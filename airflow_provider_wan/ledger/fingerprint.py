# SPDX-License-Identifier: Apache-2.0
"""
Under what name a clip is remembered.

The same content gives the same fingerprint within its scope:

========== ==================== =====================================================================
``reuse``  scope                effect
========== ==================== =====================================================================
``run``    the dag run          each dag run pays for its own clip; all tasks of a run share it
``content`` none                a clip is paid for once, for all runs and Dags that share the ledger
``never``  the task instance    every task instance pays for a clip of its own
========== ==================== =====================================================================

The scope of ``never`` is the task instance (dag, run, task, map index) and not the single try: Airflow
counts a retry after a crash and a clear by a person alike, and a crash must not pay twice. So with
``never`` too, a clear gives the same clip back; what makes a new one is ``force_new``, whose token makes
a new fingerprint, the same for each retry that carries the same token: exactly one new clip a token.

A seed of the user's is part of the fingerprint. A drawn one is not: it differs from claim to claim.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.request import I2VRequest, without_query

URL_FIELDS = ("img_url", "audio_url")
_FORMAT = "wan-ledger-1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Reuse(StrEnum):
    """Within what a clip is shared."""

    RUN = "run"
    CONTENT = "content"
    NEVER = "never"


def scope_of(reuse: str, *, run: str, task: str) -> str:
    """
    Return the scope of a ``reuse``.

    :param run: names the dag run, such as ``dag_id/run_id``.
    :param task: names the task instance, such as ``dag_id/run_id/task_id/map_index``.
    :raises WanValidationError: where ``reuse`` is none of the three, or the name needed is empty.
    """
    if reuse not in tuple(Reuse):
        raise WanValidationError("reuse", reuse, f"must be one of {', '.join(Reuse)}")
    if reuse == Reuse.CONTENT:
        return ""
    name = run if reuse == Reuse.RUN else task
    if not name:
        raise WanValidationError("reuse", reuse, "needs the name of the dag run or task instance, which is empty")
    return f"{reuse}:{name}"


def fingerprint_of(
    request: I2VRequest,
    *,
    scope: str = "",
    image_sha256: str | None = None,
    audio_sha256: str | None = None,
    force_token: str | None = None,
) -> str:
    """
    Return the SHA-256 (64 hex digits) under which a clip is remembered.

    :param request: with the user's seed, or without one.
    :param scope: from :func:`scope_of`.
    :param image_sha256: of the image's bytes, where known; else the URL without its query counts.
    :param audio_sha256: likewise of the audio.
    :param force_token: names one "make it again"; the same in all retries of it.
    :raises WanValidationError: where a hash is none.
    """
    for field, digest in (("image_sha256", image_sha256), ("audio_sha256", audio_sha256)):
        if digest is not None and not _SHA256.fullmatch(digest):
            raise WanValidationError(field, digest, "must be 64 lower-case hex digits")
    parameters = request.to_payload()
    image = _identity(parameters.pop("img_url"), image_sha256)
    audio_url = parameters.pop("audio_url", None)
    audio = _identity(audio_url, audio_sha256) if audio_url is not None else None
    return _digest([_FORMAT, request.model, image, audio, parameters, scope, force_token])


def payload_sha256(payload: Mapping[str, Any]) -> str:
    """
    Return the SHA-256 of a payload or of its echo, by which it is known again in the API's list.

    Query strings do not count, nor do fields that are null or that this provider does not send.
    """
    return _digest({name: value for name, value in comparable(payload).items() if value is not None})


def comparable(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a payload that this provider sends, URLs without their query strings."""
    known = {name: payload[name] for name in _SENT if name in payload}
    for name in URL_FIELDS:
        if isinstance(known.get(name), str):
            known[name] = without_query(known[name])
    return known


_SENT = tuple(name for name in I2VRequest.__dataclass_fields__ if name != "model")


def _identity(url: str, digest: str | None) -> str:
    return f"sha256:{digest}" if digest else f"url:{without_query(url)}"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
