# SPDX-License-Identifier: Apache-2.0
"""No secret that the API repeats from a request enters a message, a record or an exception."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest

from airflow_provider_wan.api.async_client import AsyncWanClient
from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.api.redaction import redact
from airflow_provider_wan.api.request import I2VRequest
from dev.testkit import scripted_server as wire
from dev.testkit.scripted_server import WireServer

KEY = "sk-Zq/7+x=0123456789abcdefGHIJ"
PROMPT = 'A "brave" lighthouse keeper, née Müller, climbs\nthe stairs & waves'
SIGNATURE = "c0ffee0123456789c0ffee"
SIGNED = f"https://bucket.example.com/cat.jpg?X-Amz-Credential=AKIA&X-Amz-Signature={SIGNATURE}"
MARKS = ("0123456789abcdefGHIJ", "brave", "lighthouse keeper", "waves", SIGNATURE)

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "url twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": lambda text: json.dumps(text)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps({"sent": text})),
    "escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "unicode escapes": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "html": html.escape,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 of json": lambda text: base64.b64encode(json.dumps({"sent": text}).encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex after 0x": lambda text: "0x" + text.encode().hex(),
    "hex with colons": lambda text: text.encode().hex(":"),
    "base64 after a word": lambda text: "token_" + base64.b64encode(text.encode()).decode(),
    "base64 after a path": lambda text: "auth/" + base64.b64encode(text.encode()).decode(),
    "base64 twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "octal escapes": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "long unicode escapes": lambda text: "".join(f"\\U{ord(char):08x}" for char in text),
    "braced unicode escapes": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "other spaces": lambda text: text.replace(" ", "\n  "),
}
SECRETS = {
    "the key": f"Bearer {KEY}",
    "the key alone": KEY,
    "the prompt": PROMPT,
    "a signed URL": SIGNED,
    "a signed URL without a scheme": SIGNED.removeprefix("https://"),
    "a query alone": SIGNED.split("?")[1],
}


def marks(text: str) -> list[str]:
    return [mark for mark in MARKS if mark in text]


@pytest.fixture(autouse=True)
def _sent() -> None:
    WanConfig(KEY)
    I2VRequest(SIGNED, prompt=PROMPT)


def _reveal(text: str) -> Iterator[str]:
    """Return the text as it is, and with its encodings decoded."""
    yield text
    yield unquote(unquote(text))
    yield unquote_plus(text)
    yield html.unescape(text)
    for word in text.replace("'", " ").replace('"', " ").split():
        try:
            yield base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_").decode("utf-8", "replace")
        except ValueError:
            continue
        try:
            yield bytes.fromhex(word).decode("utf-8", "replace")
        except ValueError:
            continue
    yield text.encode("latin-1", "replace").decode("unicode_escape", "replace")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_text_that_repeats_a_secret_in_any_encoding_is_redacted(secret: str, encoding: str) -> None:
    redacted = redact(f"invalid request: {ENCODINGS[encoding](SECRETS[secret])} was sent")
    for revealed in _reveal(redacted):
        assert not marks(revealed), redacted
    assert redacted.startswith("invalid request")


@pytest.mark.parametrize(
    "text",
    [
        "invalid payload parameters: img_url (Required parameter is missing)",
        "GET /requests?model_id=wan2.6-i2v&limit=100, for a request made since then with seed 7",
        "Backend error (400). Please try again.",
        "expires_in=5: must be 60 s to 7 days",
        "duration='5': must be one of the integers 5, 10, 15 (seconds)",
        "Clip 3f0c9a7be1d24c55a6f1f0e2c1b6d7a8 failed as request 6f1e8f0e-1b5c-4c5e-9a39-0d3b8f6a2f11",
        "s3://bucket/holiday%20no+1.png is 100% fine, isn't it?",
        "Bearer authentication is required",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("fail", "Backend: fail to download media", "Backend: fail to download media"),
        ("error", 'error: {"prompt": "error", "code": 3}', 'error: {"prompt": "***", "code": 3}'),
        ("Cat", r"bad payload {\"prompt\": \"cat\"}", r"bad payload {\"prompt\": \"cat\"}"),
        ("Neon", r"bad payload {\"prompt\": \"Neon\"}", 'bad payload {"prompt": "***"}'),
        ("Neon", "the prompt 'neon' is refused; a neon sign", "the prompt '***' is refused; a neon sign"),
        ("a red bike", "no: a red bike is refused", "no: *** is refused"),
    ],
)
def test_a_prompt_of_one_word_is_taken_out_in_quotes_only_and_blanks_no_reason(
    prompt: str, text: str, expected: str
) -> None:
    assert redact(text, prompts=[prompt]) == expected


def test_a_part_of_a_secret_is_taken_out_as_well() -> None:
    assert not marks(redact(f"unknown key {KEY[:24]}…"))
    assert "lighthouse" not in redact(f"the prompt '{PROMPT[:40]}…' is refused")


def hostile(status: int) -> wire.Script:
    everything = [encode(secret) for secret in SECRETS.values() for encode in ENCODINGS.values()]
    body = {
        "error": {
            "message": f"invalid API key Bearer {KEY}",
            "details": everything[:20],
            "code": KEY,
            "status": PROMPT,
        },
        "errors": everything,
        KEY: PROMPT,
    }
    return wire.answers(status, body, f"X-Echo: {KEY}", f"Content-Type: application/json; sent={KEY}")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 403, 404, 410, 422, 429, 500, 502, 503])
@pytest.mark.parametrize("call", ["submit", "get", "list", "models", "get in a triggerer"])
def test_no_exception_holds_what_a_hostile_api_repeats(status: int, call: str) -> None:
    with WireServer([hostile(status)]) as server:
        config = WanConfig(KEY, server.url)
        client = WanClient(config, sleep=lambda _: None)

        async def poll_once() -> None:
            poller = AsyncWanClient(config, include_reasons=False)
            try:
                await poller.get_request("r1")
            finally:
                await poller.close()

        calls: dict[str, Callable[[], object]] = {
            "submit": lambda: client.submit(I2VRequest(SIGNED, prompt=PROMPT)),
            "get": lambda: client.get_request("r1"),
            "list": client.list_requests,
            "models": client.list_models,
            "get in a triggerer": lambda: asyncio.run(poll_once()),
        }
        with pytest.raises(WanError) as raised:
            calls[call]()
        client.close()
    for error in chain(raised.value):
        assert not marks(f"{error!r} {error} {vars(error)}"), error


@pytest.mark.parametrize("echoed", [True, False])
def test_the_reason_of_a_failure_that_repeats_the_prompt_is_redacted(echoed: bool) -> None:
    prompt = "Zwölf Boxkämpfer jagen Viktor quer über den Deich" if echoed else PROMPT
    record = RequestRecord.parse(
        {
            "request_id": "r1",
            "status": "failed",
            "payload": {"prompt": prompt} if echoed else {},
            "outcome": {"error": f"the prompt {prompt!r} at {SIGNED} with {KEY} is refused"},
        }
    )
    assert record.error is not None
    assert "Boxkämpfer" not in record.error
    assert not marks(record.error)
    assert "is refused" in record.error
