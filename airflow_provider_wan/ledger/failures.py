# SPDX-License-Identifier: Apache-2.0
"""
Which failures of an accepted request would happen again, and which are transient.

The API returns free text. The first rule whose pattern occurs in it decides; a text that matches none, or no text at
all, counts as transient: a failed request is not charged, and Airflow limits the number of retries.

What an *error* of this provider means (was money spent, does a retry help) is declared by its class, in
:mod:`airflow_provider_wan.api.errors`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """What a failure says about the next attempt."""

    TRANSIENT = "transient"
    RATE_LIMIT = "transient, rate limit"
    TRANSIENT_ONCE = "transient the first time"
    PERMANENT = "permanent"


@dataclass(frozen=True)
class FailureRule:
    """
    One row of the table.

    :param pattern: regular expression, case-insensitive.
    :param kind: what the failure says about the next attempt.
    :param meaning: description for the documentation.
    """

    pattern: str
    kind: FailureKind
    meaning: str


FAILURE_RULES: tuple[FailureRule, ...] = (
    FailureRule(
        r"rate.?limit|\bRPM\b|too many requests|throttl|quota|(status|code).{0,4}\b429\b|RESOURCE_EXHAUSTED",
        FailureKind.RATE_LIMIT,
        "the service's own limit, reported as a failure",
    ),
    FailureRule(
        r"^(?!.*(download|fetch|retriev)).*\[[^\]]*(\bcode (40[013-79]|41[0-8]|42[0-4])\b|INVALID_|FAILED_PRECONDITION"
        r"|PERMISSION_DENIED|OUT_OF_RANGE|UNPROCESSABLE)",
        FailureKind.PERMANENT,
        "the service's own code or status says that the request is not acceptable",
    ),
    FailureRule(
        r"capacity|overload|unavailable|\b50[234]\b|busy|try again later",
        FailureKind.TRANSIENT,
        "no capacity",
    ),
    FailureRule(
        r"data.?inspection|inappropriate|sensitive|moderat|content.{0,20}(policy|refus|reject|block|violat)"
        r"|(policy|safety).{0,20}violat|nsfw|copyright|prohibited",
        FailureKind.PERMANENT,
        "the content is refused",
    ),
    FailureRule(
        r"(fail|unable|cannot|can't|error).{0,30}(download|fetch|retriev)|download.{0,40}(fail|time|error)",
        FailureKind.TRANSIENT_ONCE,
        "the media could not be fetched: a transient network fault the first time, a wrong or expired URL when it "
        "happens again",
    ),
    FailureRule(
        r"time.?out|timed out|time limit|deadline",
        FailureKind.TRANSIENT,
        "the service took too long",
    ),
    FailureRule(
        r"invalid|unsupported|not supported|illegal|missing|must (be|have)|out of range|exceed|too (large|small|long)"
        r"|corrupt|decod|resolution of the|image (size|format)|bad request|\b4(00|13|15|22)\b",
        FailureKind.PERMANENT,
        "a parameter, the image or the audio is not acceptable",
    ),
    FailureRule(r"internal|\b500\b|unknown error", FailureKind.TRANSIENT, "a fault of the service"),
)


def classify_failure(error: str | None) -> FailureKind:
    """Return what the API's reason for a failure means."""
    for rule in FAILURE_RULES:
        if error and re.search(rule.pattern, error, re.IGNORECASE):
            return rule.kind
    return FailureKind.TRANSIENT


def is_permanent(error: str | None, earlier: Sequence[str | None] = ()) -> bool:
    """
    Return whether the same request would fail again.

    :param error: the API's reason.
    :param earlier: the reasons of earlier requests for the same clip.
    """
    kind = classify_failure(error)
    if kind is FailureKind.TRANSIENT_ONCE:
        return any(classify_failure(reason) is FailureKind.TRANSIENT_ONCE for reason in earlier)
    return kind is FailureKind.PERMANENT
