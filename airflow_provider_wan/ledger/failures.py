# SPDX-License-Identifier: Apache-2.0
"""
Which failures of an accepted request would come again, and which pass.

The API gives free text. The first row whose words occur in it decides; a text that matches none, or no
text at all, passes: a failed request is not charged, and Airflow bounds the number of retries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Nature(StrEnum):
    """What a failure says about the next attempt."""

    PASSING = "passing"
    ONCE = "passing the first time"
    PERMANENT = "permanent"


@dataclass(frozen=True)
class FailureRow:
    """
    One row of the table.

    :param words: regular expression, without regard to case.
    :param nature: what it means.
    :param meaning: in words, for the documentation.
    """

    words: str
    nature: Nature
    meaning: str


FAILURES: tuple[FailureRow, ...] = (
    FailureRow(
        r"rate.?limit|\bRPM\b|too many requests|throttl|quota|status.{0,4}\b429\b",
        Nature.PASSING,
        "the service's own limit, told as a failure",
    ),
    FailureRow(
        r"capacity|overload|unavailable|\b50[234]\b|busy|try again later",
        Nature.PASSING,
        "no capacity",
    ),
    FailureRow(
        r"data.?inspection|inappropriate|sensitive|moderat|content.{0,20}(policy|refus|reject|block|violat)"
        r"|(policy|safety).{0,20}violat|nsfw|copyright|prohibited",
        Nature.PERMANENT,
        "the content is refused",
    ),
    FailureRow(
        r"(fail|unable|cannot|can't|error).{0,30}(download|fetch|retriev)|download.{0,40}(fail|time|error)",
        Nature.ONCE,
        "the media could not be fetched: a passing fault of the network the first time, a URL that is "
        "wrong or has expired when it comes again",
    ),
    FailureRow(r"time.?out|timed out|time limit|deadline", Nature.PASSING, "it took the service too long"),
    FailureRow(
        r"invalid|unsupported|not supported|illegal|missing|must (be|have)|out of range|exceed|too (large|small|long)"
        r"|corrupt|decod|resolution of the|image (size|format)|bad request|\b4(00|13|15|22)\b",
        Nature.PERMANENT,
        "a parameter, the image or the audio is not acceptable",
    ),
    FailureRow(r"internal|\b500\b|unknown error", Nature.PASSING, "a fault of the service"),
)


def nature_of(error: str | None) -> Nature:
    """Return what the API's words mean."""
    for row in FAILURES:
        if error and re.search(row.words, error, re.IGNORECASE):
            return row.nature
    return Nature.PASSING


def is_permanent(error: str | None, earlier: Sequence[str | None] = ()) -> bool:
    """
    Tell whether the same request would fail again.

    :param error: the API's words.
    :param earlier: the reasons of earlier requests for the same clip.
    """
    nature = nature_of(error)
    if nature is Nature.ONCE:
        return any(nature_of(reason) is Nature.ONCE for reason in earlier)
    return nature is Nature.PERMANENT
