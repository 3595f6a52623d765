# SPDX-License-Identifier: Apache-2.0
"""
The fingerprint of a clip: its key in the ledger.

The same content has the same fingerprint within its scope:

=========== =========== =====================================================================
``reuse``   scope       effect
=========== =========== =====================================================================
``run``     the Dag run each Dag run pays for its own clip; all tasks of a run share it
``content`` none        a clip is paid for once, for all runs and Dags that share the ledger
=========== =========== =====================================================================

An idempotency key makes it another clip: the same key is the same clip in every retry and clear, and each new key makes
exactly one new clip. No part of a fingerprint depends on a map index, a loop iteration or a try number: Airflow gives
these anew after a clear, and the clip that they named would be paid for again.

A user's seed is part of the fingerprint. A drawn seed is not: it differs from claim to claim.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import identity_url
from airflow_provider_wan.api.request import DEFAULT_MODEL, MODELS, WanRequest

URL_FIELDS = ("img_url", "audio_url", "first_frame", "last_frame", "first_clip", "driving_audio")
_FORMAT = "wan-ledger-1"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SENT_FIELDS = {
    model: tuple(field.name for field in fields(request_class) if field.name != "model")
    for model, request_class in MODELS.items()
}


class Reuse(StrEnum):
    """Where a clip is shared."""

    RUN = "run"
    CONTENT = "content"


def build_scope(reuse: str, *, run: str) -> str:
    """
    Return the scope of a ``reuse``.

    :param reuse: ``run`` or ``content``.
    :param run: name of the Dag run, such as ``dag_id/run_id``.
    :raises WanValidationError: if ``reuse`` is neither of the two, or the name it needs is empty.
    """
    if reuse not in tuple(Reuse):
        remedy = "To make a clip of its own for each task, set idempotency_key"
        raise WanValidationError("reuse", reuse, f"must be one of {', '.join(Reuse)}", remedy)
    if reuse == Reuse.CONTENT:
        return ""
    if not run:
        raise WanValidationError("reuse", reuse, "needs the name of the Dag run, which is empty")
    return f"{reuse}:{run}"


def parse_idempotency_key(value: object) -> str | None:
    """
    Return an idempotency key, or None if it is unset.

    A template renders to text: an empty text and ``None`` are unset. An integer, such as a loop's index in a native
    template, is taken as text. ``True`` and ``False`` are refused, since they name no clip.

    :param value: the argument, or the value of a manifest's column.
    :raises WanValidationError: if the value can't be a key.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if (value is not None and not isinstance(value, str)) or str(value).strip().lower() in ("true", "false"):
        raise WanValidationError(
            "idempotency_key",
            value,
            "must be text that names the clip",
            "Each new text makes one new clip, and pays for it once; '' or None is unset",
        )
    key = (value or "").strip()
    return None if key.lower() in ("", "none") else key


def compute_fingerprint(
    request: WanRequest,
    *,
    scope: str = "",
    media_sha256: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> str:
    """
    Return the fingerprint of a clip: a SHA-256 of 64 hex digits.

    :param request: the request, with the user's seed or without one.
    :param scope: from :func:`build_scope`.
    :param media_sha256: SHA-256 of the bytes of its files, by the arguments' names (``img_url``, ``audio_url``,
        ``last_frame``, ``first_clip``), as far as they are known; otherwise a URL is used, without what only signs it.
    :param idempotency_key: from :func:`parse_idempotency_key`; another key is another clip.
    :raises WanValidationError: if a hash is not a SHA-256.
    """
    digests = media_sha256 or {}
    payload = request.to_payload()
    parameters = normalize_payload(payload, request.model)
    identities: dict[str, str | None] = {"img_url": None, "audio_url": None}
    for name, field in request.MEDIA_FIELDS.items():
        identity = _identify_media(name, payload.get(field), digests.get(name))
        if name in identities:
            parameters.pop(field, None)
            identities[name] = identity
        elif name in digests and field in parameters:
            parameters[field] = identity
    return _hash_json([_FORMAT, request.model, *identities.values(), parameters, scope, idempotency_key])


def hash_payload(payload: Mapping[str, Any], model: str = DEFAULT_MODEL) -> str:
    """
    Return the SHA-256 of a payload or of its echo, which identifies it in the API's list.

    Signatures of URLs, null values, and fields that this provider does not send are left out.

    :param payload: the payload.
    :param model: the model id as sent.
    """
    return _hash_json({name: value for name, value in normalize_payload(payload, model).items() if value is not None})


def normalize_payload(payload: Mapping[str, Any], model: str = DEFAULT_MODEL) -> dict[str, Any]:
    """
    Return the fields of a payload that this provider sends, with URLs as they identify their objects.

    :param payload: the payload.
    :param model: the model id as sent. Of a model whose rules are not known, all fields are returned.
    """
    if model not in _SENT_FIELDS:
        return {name: _identify_urls(value) for name, value in payload.items()}
    sent = {name: payload[name] for name in _SENT_FIELDS[model] if name in payload}
    for name in URL_FIELDS:
        if isinstance(sent.get(name), str):
            sent[name] = identity_url(sent[name])
    return sent


def _identify_urls(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return identity_url(value)
    if isinstance(value, list):
        return [_identify_urls(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _identify_urls(each) for name, each in value.items()}
    return value


def _identify_media(name: str, url: str | None, digest: str | None) -> str | None:
    if url is None:
        return None
    if digest is None:
        return f"url:{identity_url(url)}"
    if not _SHA256.fullmatch(digest):
        raise WanValidationError(f"media_sha256[{name!r}]", digest, "must be 64 lower-case hex digits")
    return f"sha256:{digest}"


def _hash_json(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
