# SPDX-License-Identifier: Apache-2.0
"""Money and clips, counted at the API and in the bucket, whatever Airflow reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.ledger.entry import LedgerEntry
from dev.testkit.history import find_violations


@dataclass(frozen=True)
class Account:
    """Counts of the clips.

    :param wanted: clips that were requested.
    :param accepted: requests that the API accepted.
    :param charged: charges.
    :param archived: clips in the bucket.
    :param twice: clips that were charged more than once.
    :param lost: clips that were charged and are not in the bucket.
    :param missing: clips that are not in the bucket, charged or not.
    :param violations: contradictions between the ledger and the service, as text.
    """

    wanted: int
    accepted: int
    charged: int
    archived: int
    twice: tuple[str, ...]
    lost: tuple[str, ...]
    missing: tuple[str, ...]
    violations: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.twice or self.lost or self.missing or self.violations)


def account(
    wanted: Mapping[str, str],
    accepted: Iterable[Mapping[str, Any]],
    charges: Iterable[Mapping[str, Any]],
    archived: Iterable[str],
    ledger: Sequence[LedgerEntry] = (),
) -> Account:
    """Compare the clips that were requested with the service, the bucket and the ledger.

    :param wanted: prompt → key of the clip.
    :param accepted: all requests that the API accepted, whatever it responded.
    :param charges: all charges.
    :param archived: keys in the bucket.
    :param ledger: all entries of the ledger; without any, it is not compared.
    """
    accepted, charges = list(accepted), list(charges)
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
        violations=_compare(wanted, accepted, charges, ledger) if ledger else (),
    )


def _compare(
    wanted: Mapping[str, str],
    accepted: Iterable[Mapping[str, Any]],
    charges: Iterable[Mapping[str, Any]],
    ledger: Sequence[LedgerEntry],
) -> tuple[str, ...]:
    """Compare the service with the ledger, and the prompt of each clip with the key that it is archived under."""
    prompts = {key: prompt for prompt, key in wanted.items()}
    payloads = {each["request_id"]: each["payload"] for each in accepted}
    delivered: dict[str, Mapping[str, Any]] = {}
    for entry in ledger:
        request_id = entry.request_id or ""
        key = (entry.archive_uri or "").removeprefix("s3://").partition("/")[2]
        if request_id in payloads and key in prompts:
            delivered[request_id] = {**payloads[request_id], "prompt": prompts[key]}
    return tuple(map(str, find_violations(accepted, charges, ledger, delivered=delivered, dump={})))
