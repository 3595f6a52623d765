# SPDX-License-Identifier: Apache-2.0
"""The parts of the documentation that are generated from the code.

They stand between ``<!-- made: name -->`` and ``<!-- end -->``. ``python -m dev.docs.generated`` rewrites them,
and the examples that are extracted from ``dags/``.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from airflow_provider_wan.ledger import entry as entries
from airflow_provider_wan.ledger import open_store
from dev.docs.pages import PAGES, ROOT, cut, parse_blocks
from dev.testkit.ledger import NOW, a_claim

COMMANDS = ("doctor", "ledger", "unarchived", "harvest", "spend", "reconcile")
_PART = re.compile(r"(<!-- made: ([\w:-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def connection_fields() -> str:
    from airflow_provider_wan.api.config import DEFAULT_BASE_URL
    from airflow_provider_wan.api.pricing import DEFAULT_PRICES
    from airflow_provider_wan.get_provider_info import get_provider_info

    form = get_provider_info()["connection-types"][0]
    names = form["ui-field-behaviour"]["relabeling"]
    rows = [
        (names["password"], "`password`", "required", "Stored encrypted by Airflow."),
        (
            names["host"],
            "`host`",
            f"`{DEFAULT_BASE_URL}`",
            "http or https, without user, password, query string and fragment.",
        ),
    ]
    prices = "{" + ", ".join(f'"{name}": {price:.2f}' for name, price in DEFAULT_PRICES.items()) + "}"
    for name, field in form["conn-fields"].items():
        default = {"prices": prices}.get(name, field["schema"].get("default"))
        default_text = "none" if default is None else f"`{default}`"
        rows.append((field["label"], f"`{name}` in `extra`", default_text, field["description"]))
    return table(("form field", "connection field", "default", "meaning"), rows)


def prices() -> str:
    from airflow_provider_wan.api.config import WanConfig
    from airflow_provider_wan.api.pricing import DEFAULT_PRICES
    from airflow_provider_wan.api.request import DURATIONS

    config = WanConfig(api_key="tests-key-1f9d3b")
    rows = []
    for resolution, price in DEFAULT_PRICES.items():
        clips = [f"${config.cost(resolution, seconds):.2f}" for seconds in DURATIONS]
        rows.append((resolution, f"${price:.2f}", *clips))
    return table(("resolution", "per second", *(f"clip of {seconds} s" for seconds in DURATIONS)), rows)


def next_attempt() -> str:
    from airflow_provider_wan.ledger.rules import as_markdown

    return as_markdown()


def failures() -> str:
    from airflow_provider_wan.ledger.failures import FAILURE_RULES

    rows = [(rule.meaning, rule.kind.value, "`" + rule.pattern.replace("|", "\\|") + "`") for rule in FAILURE_RULES]
    rows.append(("anything else, or no reason at all", "transient", ""))
    return table(("reason", "kind", "matches (regular expression, case-insensitive)"), rows)


def policy() -> str:
    from airflow_provider_wan.ledger.rules import Policy

    descriptions = parameters(Policy)
    rows = [(f"`{field.name}`", f"{field.default:g}", descriptions[field.name]) for field in fields(Policy)]
    return table(("name", "value", "meaning"), rows)


def envelope() -> str:
    from airflow_provider_wan.api.wire import CONNECT_TIMEOUT
    from airflow_provider_wan.ledger.rules import Policy

    policy = Policy()
    rows = [
        ("connecting (name look-up, all addresses, proxy, TLS) until the attempt gives up", f"{CONNECT_TIMEOUT:g}"),
        ("oldest intent after which a POST is still sent", f"{policy.max_intent_age:g}"),
        ("sending the POST and receiving the whole response", f"{policy.post_timeout:g}"),
        ("from the first byte of the POST until the service can no longer accept it", f"{policy.longest_post:g}"),
        ("from the acceptance until the list shows the request", f"{policy.list_lag:g}"),
        ("difference between the clocks of a worker and of the API", f"{policy.clock_margin:g}"),
        ("time between the two scans that prove an absence", f"{policy.absence_confirm_interval:g}"),
        (
            "freeze of a worker between its last check and the first byte, which nothing notices",
            f"{policy.pause_allowance:g}",
        ),
    ]
    return table(("at most", "seconds"), rows)


def faults() -> str:
    from airflow_provider_wan.sandbox.faults import Fault, InjectionPoint

    where = {
        InjectionPoint.SUBMIT: "the response to the POST",
        InjectionPoint.LIFE: "the outcome of an accepted request",
        InjectionPoint.SHAPE: "how a request is reported",
        InjectionPoint.GET: "the response to a poll",
        InjectionPoint.LIST: "the response to the list",
        InjectionPoint.RESULT: "the result file",
    }
    rows = [
        (text, ", ".join(f"`{fault.value}`" for fault in Fault if fault.point is point))
        for point, text in where.items()
    ]
    return table(("affects", "faults"), rows)


def sandbox_options() -> str:
    from airflow_provider_wan.sandbox.__main__ import build_parser

    rows = []
    for action in build_parser()._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        flag = action.option_strings[0]
        option = flag if action.nargs == 0 else f"{flag} {action.metavar or action.dest.upper()}"
        text = str(action.help).split("; repeatable:")[0].replace("%(default)s", str(action.default))
        if action.choices:
            text += f": {', '.join(map(str, action.choices))}"
        plain = action.default not in (None, [], False) and "default:" not in text
        rows.append((f"`{option}`", text + (f" (default: {action.default})" if plain else "")))
    return table(("option", "meaning"), rows)


def batch_parts() -> dict[str, Any]:
    document = json.loads((ROOT / "docs" / "benchmarks" / "batch.json").read_text(encoding="utf-8"))
    return {each["part"]: each for each in document["results"]}


def batch_figures() -> str:
    parts = batch_parts()
    names = {
        "loop": "`deferrable=False`, `max_in_flight=60`",
        "deferrable": "deferral cycles, `max_in_flight=100`, each in a separate process, without Airflow's own delays",
        "killed": "`deferrable=False`, killed 10 times",
    }
    rows = [
        (
            names[name],
            f"{part['seconds']:.0f} s",
            f"{100 * part['utilisation']:.1f}%",
            f"{part['charges']}, ${part['cost']:.2f}",
            f"{part['memory_first']:.0f} MB, {part['memory_last']:.0f} MB",
        )
        for name in names
        for part in (parts[name],)
    ]
    header = ("", "time", "share of the API limit used", "charges", "memory: first third, last third")
    dry = parts["dry-run"]
    per_second = dry["rows"] / dry["seconds"]
    text = (
        f"A dry run over {dry['rows']:,} rows takes {dry['seconds']:.0f} s, that is {per_second:,.0f} rows a "
        f"second, and {dry['memory_most']:.0f} MB (`python -m benchmarks.batch dry-run`)."
    )
    return f"{table(header, rows)}\n\n{text}"


def ways_figures() -> str:
    ways = batch_parts()["ways"]
    rows = [
        (name, str(each["workers"]), f"{each['cpu_seconds']:.0f} s", f"{each['seconds']:.0f} s", str(each["charges"]))
        for name, each in ways["figures"].items()
    ]
    return table(("", "worker starts", "CPU of scheduler and workers", "elapsed", "charges"), rows)


def make_targets() -> str:
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return table(("command", "what it does"), [(f"`make {name}`", text) for name, text in found])


def arguments(name: str) -> Callable[[], str]:
    """The arguments of an operator: from its signature, its docstring and its template fields."""

    def make() -> str:
        operator = OPERATORS[name]()
        # A base class of this package documents the arguments that its subclasses share.
        classes = [each for each in operator.__mro__ if each.__module__.startswith("airflow_provider_wan.")]
        descriptions: dict[str, str] = {}
        declared: dict[str, inspect.Parameter] = {}
        for each in classes:
            descriptions = parameters(each) | descriptions
            declared |= {
                parameter.name: parameter
                for parameter in inspect.signature(each.__init__).parameters.values()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
                and parameter.name not in declared
                and (name, parameter.name) not in ABSENT
            }
        rows = []
        for parameter in declared.values():
            needed = parameter.default is inspect.Parameter.empty
            default = "required" if needed else DEFAULTS.get((name, parameter.name), _code(repr(parameter.default)))
            templated = "yes" if parameter.name in operator.template_fields else ""
            meaning = MEANINGS.get((name, parameter.name)) or descriptions[parameter.name]
            rows.append((f"`{parameter.name}`", default, templated, meaning))
        return table(("argument", "default", "templated", "meaning"), rows)

    return make


def _i2v() -> Any:
    from airflow_provider_wan.operators.wan import WanI2VOperator

    return WanI2VOperator


def _image_to_video() -> Any:
    from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator

    return WanImageToVideoOperator


def _batch() -> Any:
    from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator

    return WanI2VBatchOperator


def _sensor() -> Any:
    from airflow_provider_wan.sensors.wan import WanRequestSensor

    return WanRequestSensor


def _ingest() -> Any:
    from airflow_provider_wan.transfers.s3_to_wan import S3ToWanOperator

    return S3ToWanOperator


def _archive() -> Any:
    from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator

    return WanToS3Operator


OPERATORS: dict[str, Callable[[], Any]] = {
    "WanI2VOperator": _i2v,
    "WanImageToVideoOperator": _image_to_video,
    "WanI2VBatchOperator": _batch,
    "WanRequestSensor": _sensor,
    "S3ToWanOperator": _ingest,
    "WanToS3Operator": _archive,
}
# Defaults that depend on the configuration, or that need words.
DEFAULTS = {
    ("WanI2VOperator", "deferrable"): "`[operators] default_deferrable`",
    ("WanImageToVideoOperator", "deferrable"): "`[operators] default_deferrable`",
    ("WanI2VBatchOperator", "deferrable"): "`[operators] default_deferrable`",
    ("WanRequestSensor", "deferrable"): "`[operators] default_deferrable`",
    ("WanToS3Operator", "max_bytes"): "2 GiB",
}
# Arguments of a base class that the operator itself sets.
ABSENT = {("WanImageToVideoOperator", "img_url")}
# Arguments that a base class documents.
MEANINGS = {("WanRequestSensor", "timeout"): "seconds, or a timedelta, until the sensor gives up."}


def command_help(command: str) -> Callable[[], str]:
    def part() -> str:
        from airflow_provider_wan.cli.main import build_parser

        width = patch.dict(os.environ, {"COLUMNS": "100"})
        with width, redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
            build_parser().parse_args([command, "--help"])
        return f"```text\n{printed.getvalue().rstrip()}\n```"

    return part


def spend_output() -> str:
    """Return the output of `wan-provider spend` for a small ledger."""
    from airflow_provider_wan.cli.main import main

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as printed:
        store = open_store(f"file://{folder}")
        for number, dag in enumerate(("first_clip", "nightly", "nightly")):
            entry = replace(a_claim(), fingerprint=str(number) * 64, dag_id=dag, run_id="scheduled__2026-11-24")
            entry = entries.submitted(entries.record_intent(entry, NOW), f"request-{number}", NOW)
            store.create(entry if number == 2 else entries.succeeded(entry, NOW))
        with patch("airflow_provider_wan.cli.main.keep_logs_out_of_the_output"):
            main(["spend", "--ledger", store.uri])
    return f"```text\n{printed.getvalue().rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    **{f"command:{name}": command_help(name) for name in COMMANDS},
    "spend-output": spend_output,
    "connection-fields": connection_fields,
    "prices": prices,
    "next-attempt": next_attempt,
    "failures": failures,
    "policy": policy,
    "envelope": envelope,
    "faults": faults,
    "sandbox-options": sandbox_options,
    "batch-figures": batch_figures,
    "ways-figures": ways_figures,
    "make-targets": make_targets,
    **{f"arguments:{name}": arguments(name) for name in OPERATORS},
}


def parameters(documented: Any) -> dict[str, str]:
    """Return the docstring's description of each parameter, as Markdown."""
    text = inspect.cleandoc(documented.__doc__ or "")
    found = re.findall(r"^:param (\w+): (.*?)(?=^:|\Z|\n\n)", text, re.MULTILINE | re.DOTALL)
    return {name: _markdown(content) for name, content in found}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def _markdown(text: str) -> str:
    text = re.sub(r"\s*\(templated[^)]*\)", "", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def _code(text: str) -> str:
    return "`" + text.replace("'", '"').replace("|", "\\|") + "`"


def renewed(page: Path) -> str:
    """Return the page with its generated parts and its examples up to date."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}{PARTS[found[2]]()}\n{found[4]}"

    text = _PART.sub(part, page.read_text(encoding="utf-8"))
    for block in parse_blocks(page):
        if block.source:
            opening = "<!-- from {}: {} -->\n```{}\n".format(*block.source, block.language)
            text = text.replace(opening + block.text, opening + cut(*block.source))
    return text


def names(page: Path) -> list[str]:
    """Return the names of a page's generated parts."""
    return [found[1] for found in _PART.findall(page.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(renewed(each), encoding="utf-8")
