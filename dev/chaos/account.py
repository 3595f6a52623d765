# SPDX-License-Identifier: Apache-2.0
"""Money and clips, counted at the API and in the bucket: what Airflow believes has no say in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Account:
    """What came of the clips.

    :param wanted: clips that were asked for.
    :param accepted: requests that the API took in.
    :param charged: charges.
    :param archived: clips in the bucket.
    :param twice: clips that were charged more than once.
    :param lost: clips that were charged and are not in the bucket.
    :param missing: clips that are not in the bucket, charged or not.
    """

    wanted: int
    accepted: int
    charged: int
    archived: int
    twice: tuple[str, ...]
    lost: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not (self.twice or self.lost or self.missing)


def account(
    wanted: Mapping[str, str],
    accepted: Iterable[Mapping[str, Any]],
    charges: Iterable[Mapping[str, Any]],
    archived: Iterable[str],
) -> Account:
    """Reckon.

    :param wanted: prompt → key of the clip.
    :param accepted: all requests that the API took in, whatever it answered.
    :param charges: all charges.
    :param archived: keys in the bucket.
    """
    requests = {each["request_id"]: each["payload"]["prompt"] for each in accepted}
    charged = Counter(requests[each["request_id"]] for each in charges)
    there = set(archived)
    return Account(
        wanted=len(wanted),
        accepted=len(requests),
        charged=sum(charged.values()),
        archived=sum(key in there for key in wanted.values()),
        twice=tuple(sorted(prompt for prompt, times in charged.items() if times > 1)),
        lost=tuple(sorted(prompt for prompt in charged if wanted[prompt] not in there)),
        missing=tuple(sorted(prompt for prompt, key in wanted.items() if key not in there)),
    )
