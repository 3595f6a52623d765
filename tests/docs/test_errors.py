# SPDX-License-Identifier: Apache-2.0
"""The pages about errors agree with the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import pytest

from airflow_provider_wan.api import errors as api_errors
from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.batch import errors as batch_errors
from airflow_provider_wan.ledger import errors as ledger_errors
from airflow_provider_wan.ledger import manual_resolution, recovery
from airflow_provider_wan.media import archive, fetch
from dev.docs.pages import ROOT, rows

PAGE = ROOT / "docs" / "reference" / "errors.md"
HEADINGS = (
    "Nothing was accepted",
    "Something may have been accepted",
    "A poll received no answer",
    "The request was accepted, and there is no clip",
    "The clip was made, and its file is not good",
    "The ledger",
    "Batch and manual resolution",
)
# Whether a retry helps depends on the case, or on the ledger.
SPECIAL = {
    "WanClipFailedError": "unless permanent",
    "WanInDoubtError": "through the ledger",
    "WanBatchError": "if it can make progress",
}
# Airflow's own messages.
FOREIGN = {"isn't defined"}


def defined(module: ModuleType) -> Iterator[type[WanError]]:
    for name, value in vars(module).items():
        public = inspect.isclass(value) and issubclass(value, WanError) and not name.startswith("_")
        if public and value.__module__ == module.__name__ and value is not WanError:
            yield value


def documented() -> dict[str, tuple[str, str]]:
    lines = [row for heading in HEADINGS for row in rows(PAGE, heading)]
    names = [row[0].strip("`") for row in lines]
    assert len(names) == len(set(names)), "an error has two rows"
    return {name: (row[1], row[2]) for name, row in zip(names, lines, strict=True)}


def test_every_error_has_a_row_that_says_whether_it_is_paid_and_whether_a_retry_helps() -> None:
    expected = {}
    for module in (api_errors, ledger_errors, fetch, archive, recovery, batch_errors, manual_resolution):
        for error in defined(module):
            retry = "yes" if error.retry in (api_errors.Retry.LATER, api_errors.Retry.RESUME) else "no"
            expected[error.__name__] = (error.paid.value, SPECIAL.get(error.__name__, retry))
    assert documented() == expected


def test_a_refused_submission_costs_nothing_by_the_page_too() -> None:
    names = {row[0].strip("`") for row in rows(PAGE, "Nothing was accepted")}
    below = {error.__name__ for error in defined(api_errors) if issubclass(error, api_errors.WanRefusedError)}
    assert names == below


@cache
def messages() -> frozenset[str]:
    """Return every text in the code, with ``…`` for each value."""
    found = set()
    for path in (ROOT / "airflow_provider_wan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(map(without_values, found))


def without_values(text: str) -> str:
    """Return the text with ``…`` for each value: numbers, quoted words, format fields."""
    text = re.sub(r"%\.?\d*[sdf]|'\w+'|\d+", "…", text)
    return re.sub(r"…(?:, …)+", "…", text)


def symptoms() -> list[str]:
    cells = [row[0] for row in rows(ROOT / "docs" / "how-to" / "troubleshooting.md", "Find the message")]
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]


def occurs(symptom: str) -> bool:
    # A refused value is reported as field=value: rule, of which the code has the rule.
    field, _, rule = symptom.partition(": ")
    wanted = without_values(rule if "=" in field else symptom)
    return any(wanted in text for text in messages())


def test_the_messages_of_the_troubleshooting_page_are_those_that_the_code_gives() -> None:
    assert not [symptom for symptom in symptoms() if symptom not in FOREIGN and not occurs(symptom)]


def test_a_message_that_the_code_does_not_give_would_be_noticed() -> None:
    assert not occurs("The kettle is empty")


def test_the_example_of_a_refusal_is_what_the_refusal_says() -> None:
    from airflow_provider_wan.api.errors import WanValidationError
    from airflow_provider_wan.operators.arguments import parse_clip_field

    with pytest.raises(WanValidationError) as refusal:
        parse_clip_field("duration", "five")
    page = (ROOT / "docs" / "reference" / "operators.md").read_text(encoding="utf-8")
    example = re.search(r"`(duration='five'[^`]+)`", page)
    assert example
    assert str(refusal.value).startswith(" ".join(example[1].split()))
