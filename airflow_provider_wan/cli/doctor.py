# SPDX-License-Identifier: Apache-2.0
"""The command ``doctor``: checks everything that a task needs, without spending anything."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import ModelInfo, parse_model_ids
from airflow_provider_wan.api.redaction import clean_text, public_url, redact
from airflow_provider_wan.api.request import MODELS, I2VRequest
from airflow_provider_wan.api.wire import HttpRequest, HttpResponse, TransportError
from airflow_provider_wan.cli.arguments import open_hook
from airflow_provider_wan.cli.output import format_line, print_json
from airflow_provider_wan.s3.errors import S3_ERRORS, get_error_code, get_http_status

if TYPE_CHECKING:
    from airflow_provider_wan.api.config import WanConfig

# Proofs of absence allow clocks to differ by some minutes; presigned URLs and S3 itself by less than 15.
_CLOCK_WARNING = 60.0
_CLOCK_LIMIT = 300.0


class CheckStatus(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One check.

    :param name: what was checked.
    :param status: its result.
    :param detail: what was found, and what to do.
    """

    name: str
    status: CheckStatus
    detail: str


class CheckError(Exception):
    """A check failed."""


class Doctor:
    """Checks a connection, and what it leads to.

    :param config: the connection.
    """

    def __init__(self, config: WanConfig) -> None:
        self._config = config
        self._models: HttpResponse | None = None

    def check_network(self) -> str:
        """Return which proxy and certificates the connection leads to."""
        network, url = self._config.network, self._config.base_url
        proxy = network.find_proxy(url)
        bundle = network.ca_bundle or "the system's and certifi's"
        network.ssl_context()
        return f"proxy: {public_url(proxy) if proxy else 'none'}; certificates: {bundle}"

    def check_requests(self) -> str:
        """Reach the API as workers do when they submit."""
        from airflow_provider_wan.api.client import HttpTransport

        transport, request = HttpTransport(self._config), self._build_models_request()
        try:
            opened = transport.connect(request)
            try:
                self._models = opened.send(request.timeout)
            finally:
                opened.close()
        except TransportError as error:
            raise CheckError(f"{error}. Check host, proxy and certificates") from None
        finally:
            transport.close()
        return f"HTTP {self._models.status} from {self._config.base_url}"

    def check_aiohttp(self) -> str:
        """Reach the API as workers and triggerers do when they poll."""
        from airflow_provider_wan.api.async_client import AiohttpTransport

        async def send() -> HttpResponse:
            transport = AiohttpTransport(self._config)
            try:
                return await transport.send(self._build_models_request())
            finally:
                await transport.close()

        try:
            response = asyncio.run(send())
        except TransportError as error:
            raise CheckError(f"{error}. Check host, proxy and certificates") from None
        return f"HTTP {response.status} from {self._config.base_url}"

    def check_key(self) -> str:
        """Return which models the key may use."""
        response = self._require_models()
        if response.status in (401, 403):
            raise CheckError(f"HTTP {response.status}: the key is refused. Correct the connection's password")
        if response.status != 200:
            raise CheckError(f"HTTP {response.status} from the list of models")
        models = parse_model_ids(_parse_json(response))
        return f"accepted; it may use {len(models)} models: {', '.join(sorted(models)[:10])}"

    def check_clock(self) -> tuple[CheckStatus, str]:
        """Compare this machine's clock with the API's."""
        date = self._require_models().headers.get("date")
        try:
            difference = time.time() - parsedate_to_datetime(date or "").timestamp()
        except (TypeError, ValueError):
            return CheckStatus.SKIPPED, "the API's response has no date"
        detail = f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the API's"
        if abs(difference) > _CLOCK_LIMIT:
            return CheckStatus.FAILED, f"{detail}: set this machine's clock"
        return (CheckStatus.WARNING if abs(difference) > _CLOCK_WARNING else CheckStatus.OK), detail

    def check_model(self) -> tuple[CheckStatus, str]:
        """Compare the model's parameters and price with the payload and the prices in use."""
        from airflow_provider_wan.api.client import WanClient

        client = WanClient(self._config)
        try:
            info = client.get_model(self._config.model)
        finally:
            client.close()
        faults = [
            *_compare_parameters(info),
            *_compare_price(info, self._config.get_prices(self._config.model).values()),
        ]
        reported = "unknown" if info.price is None else f"${info.price:.4g} per {info.unit or 'unit'}"
        detail = f"{info.model_id}; price by the API: {reported}"
        return (CheckStatus.WARNING if faults else CheckStatus.OK), "; ".join([detail, *faults])

    def _build_models_request(self) -> HttpRequest:
        return HttpRequest("GET", self._config.url("/models"))

    def _require_models(self) -> HttpResponse:
        if self._models is None:
            raise CheckError("the API was not reached")
        return self._models


def check_up(args: argparse.Namespace) -> int:
    """Check everything, and print what was found.

    :param args: parsed command line.
    """
    config = open_hook(args).config
    doctor = Doctor(config)
    checks = [
        Check("connection", CheckStatus.OK, f"{args.wan_conn_id}: {config.account.name}"),
        _run("network", doctor.check_network),
        _run("API by requests (workers)", doctor.check_requests),
        _run("API by aiohttp (triggerers)", doctor.check_aiohttp),
        _run("key", doctor.check_key),
        _run("model", doctor.check_model),
        _run("clock", doctor.check_clock),
        _run("ledger", lambda: _check_ledger(args)),
        _run("S3", lambda: _check_s3(args)),
    ]
    failed = [check.name for check in checks if check.status is CheckStatus.FAILED]
    if args.json:
        print_json({"ok": not failed, "checks": [vars(check) | {"status": check.status.value} for check in checks]})
    else:
        for check in checks:
            print(f"{check.status.value:<8}{check.name:<29}{check.detail}")
    if failed:
        print(f"wan-provider: {len(failed)} of {len(checks)} checks failed: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


def _run(name: str, check: Callable[[], str | tuple[CheckStatus, str]]) -> Check:
    try:
        found = check()
    except (CheckError, WanError, *S3_ERRORS, OSError) as error:
        found = CheckStatus.FAILED, str(error)
    except Exception as error:
        found = CheckStatus.FAILED, f"{type(error).__name__}: {error}"
    status, detail = (CheckStatus.OK, found) if isinstance(found, str) else found
    return Check(name, status, format_line(clean_text(redact(detail))))


def _check_ledger(args: argparse.Namespace) -> str:
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.ledger import open_store
    from airflow_provider_wan.operators.ledger_context import resolve_ledger_uri

    store = open_store(resolve_ledger_uri(args.ledger), s3_client=lambda: create_s3_client(args.aws_conn_id))
    store.probe()
    next(store.fingerprints(), None)
    return f"{store.uri}: readable, writable, and conditional writes are honoured"


def _check_s3(args: argparse.Namespace) -> tuple[CheckStatus, str]:
    """Write, read, list and delete one small object, with conditions."""
    if args.output is None:
        return CheckStatus.SKIPPED, "name the place of your clips: --output s3://bucket/prefix/"
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.s3.objects import find_object, list_objects
    from airflow_provider_wan.s3.uri import parse_s3_prefix

    bucket, prefix = parse_s3_prefix(args.output, "--output")
    key, client = f"{prefix}_wan-doctor-{uuid4().hex}", create_s3_client(args.aws_conn_id)
    steps: dict[str, Callable[[], Any]] = {
        "s3:PutObject": lambda: client.put_object(Bucket=bucket, Key=key, Body=b"wan-provider doctor"),
        "s3:GetObject": lambda: _require(find_object(client, bucket, key), "the object that was written is not there"),
        "s3:ListBucket": lambda: _require(list(list_objects(client, bucket, key)), "the list misses it"),
        "If-None-Match": lambda: _check_condition(client, bucket, key),
        "s3:DeleteObject": lambda: client.delete_object(Bucket=bucket, Key=key),
    }
    missing = []
    for name, step in steps.items():
        try:
            step()
        except CheckError as error:
            missing.append(f"{name}: {error}")
        except S3_ERRORS as error:
            missing.append(f"{name}: {get_error_code(error) or type(error).__name__}")
            if name == "s3:PutObject":
                break
    if missing:
        raise CheckError(f"{args.output}: {'; '.join(missing)}")
    return CheckStatus.OK, f"{args.output}: {', '.join(steps)}"


def _check_condition(client: Any, bucket: str, key: str) -> None:
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"second", IfNoneMatch="*")
    except S3_ERRORS as error:
        if get_http_status(error) == 412:
            return
        raise
    raise CheckError("the server ignores conditions on writes")


def _require(found: object, message: str) -> None:
    if not found:
        raise CheckError(message)


def _parse_json(response: HttpResponse) -> object:
    try:
        return json.loads(response.body)
    except ValueError:
        raise CheckError("the list of models is not JSON: something else than the API answers") from None


def _compare_parameters(info: ModelInfo) -> list[str]:
    listed = info.raw.get("parameters")
    items: list[Any] = listed if isinstance(listed, list) else []
    named = {str(each["name"]): each for each in items if isinstance(each, dict) and isinstance(each.get("name"), str)}
    if not named:
        return ["the API names no parameters"]
    sent = {field.name for field in fields(MODELS.get(info.model_id, I2VRequest))} - {"model"}
    faults = []
    if unknown := sorted(sent - named.keys()):
        faults.append(f"the API does not name these fields, which it may ignore: {', '.join(unknown)}")
    required = sorted(name for name, each in named.items() if each.get("required") is True)
    if missing := [name for name in required if name not in sent]:
        faults.append(f"the API requires fields that are not sent: {', '.join(missing)}")
    return faults


def _compare_price(info: ModelInfo, prices: Iterable[float]) -> list[str]:
    if info.price is None:
        return []
    known = sorted(set(prices))
    if not known:
        return ["there is no price for this model: set [wan] prices"]
    if any(abs(info.price - price) <= 0.005 * price for price in known):
        return []
    reported = ", ".join(f"${price:.4g}" for price in known)
    return [f"the prices in use per second are {reported}: correct [wan] prices if the API's price is per second"]
