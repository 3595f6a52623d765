# SPDX-License-Identifier: Apache-2.0
"""
The fingerprint of a clip: its key in the ledger.

The same content has the same fingerprint within its scope:

=========== =================== =====================================================================
``reuse``   scope               effect
=========== =================== =====================================================================
``run``     the dag run         each dag run pays for its own clip; all tasks of a run share it
``content`` none                a clip is paid for once, for all runs and Dags that share the ledger
``never``   the task instance   every task instance pays for its own clip
=========== =================== =====================================================================

The scope of ``never`` is the task instance (dag, run, task, map index) and not the single try: Airflow increments
the try number for a retry after a crash and for a clear alike, and a crash must not pay twice. So with ``never`` too,
a clear returns the same clip. ``force_new`` makes a new one: its token is part of the fingerprint and stays the same
in each retry, so each token makes exactly one new clip.

A user's seed is part of the fingerprint. A drawn seed is not: it differs from claim to claim.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import identity_url
from airflow_provider_wan.api.request import I2VRequest

URL_FIELDS = ("img_url", "audio_url")
_FORMAT = "wan-ledger-1"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SENT_FIELDS = tuple(name for name in I2VRequest.__dataclass_fields__ if name != "model")


class Reuse(StrEnum):
    """Where a clip is shared."""

    RUN = "run"
    CONTENT = "content"
    NEVER = "never"


def build_scope(reuse: str, *, run: str, task: str) -> str:
    """
    Return the scope of a ``reuse``.

    :param reuse: ``run``, ``content`` or ``never``.
    :param run: name of the dag run, such as ``dag_id/run_id``.
    :param task: name of the task instance, such as ``dag_id/run_id/task_id/map_index``.
    :raises WanValidationError: if ``reuse`` is none of the three, or the name it needs is empty.
    """
    if reuse not in tuple(Reuse):
        raise WanValidationError("reuse", reuse, f"must be one of {', '.join(Reuse)}")
    if reuse == Reuse.CONTENT:
        return ""
    name = run if reuse == Reuse.RUN else task
    if not name:
        raise WanValidationError("reuse", reuse, "needs the name of the dag run or task instance, which is empty")
    return f"{reuse}:{name}"


def compute_fingerprint(
    request: I2VRequest,
    *,
    scope: str = "",
    image_sha256: str | None = None,
    audio_sha256: str | None = None,
    force_token: str | None = None,
) -> str:
    """
    Return the fingerprint of a clip: a SHA-256 of 64 hex digits.

    :param request: the request, with the user's seed or without one.
    :param scope: from :func:`build_scope`.
    :param image_sha256: SHA-256 of the image's bytes, if known; otherwise the URL is used, without what only signs it.
    :param audio_sha256: likewise of the audio.
    :param force_token: names one ``force_new``; the same in all its retries.
    :raises WanValidationError: if a hash is not a SHA-256.
    """
    for field, digest in (("image_sha256", image_sha256), ("audio_sha256", audio_sha256)):
        if digest is not None and not _SHA256.fullmatch(digest):
            raise WanValidationError(field, digest, "must be 64 lower-case hex digits")
    parameters = request.to_payload()
    image = _media_identity(parameters.pop("img_url"), image_sha256)
    audio_url = parameters.pop("audio_url", None)
    audio = _media_identity(audio_url, audio_sha256) if audio_url is not None else None
    return _hash_json([_FORMAT, request.model, image, audio, parameters, scope, force_token])


def hash_payload(payload: Mapping[str, Any]) -> str:
    """
    Return the SHA-256 of a payload or of its echo, which identifies it in the API's list.

    Signatures of URLs, null values, and fields that this provider does not send are left out.

    :param payload: the payload.
    """
    return _hash_json({name: value for name, value in normalize_payload(payload).items() if value is not None})


def normalize_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of a payload that this provider sends, with URLs as they identify their objects.

    :param payload: the payload.
    """
    fields = {name: payload[name] for name in _SENT_FIELDS if name in payload}
    for name in URL_FIELDS:
        if isinstance(fields.get(name), str):
            fields[name] = identity_url(fields[name])
    return fields


def _media_identity(url: str, digest: str | None) -> str:
    return f"sha256:{digest}" if digest else f"url:{identity_url(url)}"


def _hash_json(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
