# SPDX-License-Identifier: Apache-2.0
"""The contract's rules for headers and payloads; violations are answered with the API's own messages."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_wan.sandbox import responses
from airflow_provider_wan.sandbox.config import MODEL, MODEL_27, SandboxConfig
from airflow_provider_wan.sandbox.responses import SandboxResponse

DEFAULTS: dict[str, Any] = {
    "prompt": "",
    "negative_prompt": "",
    "audio_url": None,
    "resolution": "1080P",
    "duration": 5,
    "prompt_extend": True,
    "shot_type": "single",
    "audio": True,
    "watermark": False,
}
MAX_SEED = 2**31 - 1


def _url(value: object) -> str | None:
    if not isinstance(value, str):
        return "Expected string"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "Invalid URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "Invalid URL"
    return None


def _nullable_url(value: object) -> str | None:
    return None if value is None else _url(value)


def _text(limit: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "Expected string"
        return f"Maximum length is {limit}" if len(value) > limit else None

    return check


def _choice(*allowed: str | int) -> Callable[[object], str | None]:
    kind = "integer" if isinstance(allowed[0], int) else "string"
    names = ", ".join(str(value) for value in allowed)

    def check(value: object) -> str | None:
        if type(value) is not type(allowed[0]):
            return f"Expected {kind}"
        return None if value in allowed else f"Must be one of: {names}"

    return check


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "Expected boolean"


def _seed(value: object) -> str | None:
    if type(value) is not int:
        return "Expected integer"
    return None if 0 <= value <= MAX_SEED else f"Must be between 0 and {MAX_SEED}"


RULES: dict[str, Callable[[object], str | None]] = {
    "img_url": _url,
    "prompt": _text(1500),
    "negative_prompt": _text(500),
    "audio_url": _nullable_url,
    "resolution": _choice("720P", "1080P"),
    "duration": _choice(5, 10, 15),
    "prompt_extend": _boolean,
    "shot_type": _choice("single", "multi"),
    "audio": _boolean,
    "watermark": _boolean,
    "seed": _seed,
}


def _integer(lowest: int, highest: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if type(value) is not int:
            return "Expected integer"
        return None if lowest <= value <= highest else f"Must be between {lowest} and {highest}"

    return check


RULES_27: dict[str, Callable[[object], str | None]] = {
    **{name: RULES[name] for name in ("prompt", "negative_prompt", "resolution", "prompt_extend", "watermark", "seed")},
    **dict.fromkeys(("first_frame", "last_frame", "first_clip", "driving_audio"), _nullable_url),
    "duration": _integer(2, 15),
}
#: By model id. Any other model takes any payload.
MODEL_RULES = {MODEL: RULES, MODEL_27: RULES_27}


def drop_unknown(model: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a model has."""
    rules = MODEL_RULES.get(model)
    return {name: value for name, value in payload.items() if rules is None or name in rules}


def find_payload_problems(payload: Mapping[str, Any], model: str = MODEL) -> list[str]:
    """Return the violations of a payload, parameter by parameter."""
    rules = MODEL_RULES.get(model)
    if rules is None:
        return []
    problems = [] if model != MODEL or "img_url" in payload else ["img_url (Required parameter is missing)"]
    for name, value in payload.items():
        rule = rules.get(name)
        problem = "Unknown parameter" if rule is None else rule(value)
        if problem:
            problems.append(f"{name} ({problem})")
    return problems


def check_access(config: SandboxConfig, headers: Mapping[str, str]) -> SandboxResponse | None:
    """Reject a call with an unknown key or organization.

    :param headers: headers with lower-case names.
    :returns: the error response, or None if access is granted.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    given = key.encode(errors="surrogateescape")
    if scheme != "Bearer" or not hmac.compare_digest(given, config.api_key.encode()):
        return responses.unauthorized()
    organization = headers.get("x-organization-id")
    if organization is None:
        return None
    if not organization or (config.organizations and organization not in config.organizations):
        return responses.forbidden("You are not a member of this organization")
    return None


def resolve_organization(config: SandboxConfig, headers: Mapping[str, str]) -> str:
    """Return the organization that a call is made for."""
    default = config.organizations[0] if config.organizations else "org-sandbox"
    return headers.get("x-organization-id") or default


def read_object(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | SandboxResponse:
    """Parse the JSON object in a request body.

    :returns: the object, or the error response.
    """
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return responses.error(400, "Content-Type must be application/json")
    try:
        value = json.loads(body)
    except ValueError:
        return responses.error(400, "invalid request body: not valid JSON")
    if not isinstance(value, dict):
        return responses.error(400, "invalid request body: expected an object")
    return value


def check_submission(config: SandboxConfig, value: Mapping[str, Any]) -> SandboxResponse | None:
    """Validate a submission.

    :returns: the error response, or None if it is valid.
    """
    unknown = sorted(set(value) - {"model", "payload"})
    if unknown:
        return responses.error(400, f"invalid request body: unknown field {unknown[0]}")
    model, payload = value.get("model"), value.get("payload")
    if not isinstance(model, str) or not model:
        return responses.error(400, "invalid request body: model is required")
    if model not in config.models:
        return responses.no_model(model)
    if not isinstance(payload, dict):
        return responses.error(400, "invalid request body: payload is required")
    known = drop_unknown(model, payload) if config.drop_unknown else payload
    problems = find_payload_problems(known, model)
    if problems:
        return responses.error(400, "invalid payload parameters: " + ", ".join(problems))
    return None
