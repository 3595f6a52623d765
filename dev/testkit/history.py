# SPDX-License-Identifier: Apache-2.0
"""
Check a finished history of payments: what the service accepted and charged, the ledger, and what was delivered.

The check is a pure function of these; it uses nothing that Airflow reports.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.fingerprint import hash_payload, normalize_payload
from dev.leaks import Secrets

# A shorter prompt is part of other words.
MIN_PROMPT = 4


class ViolationKind(StrEnum):
    """Which promise a history breaks."""

    PAID_TWICE = "paid twice"
    FORGOTTEN = "a payment that no entry knows"
    SHARED = "a request in two entries"
    UNKNOWN_REQUEST = "a request that the service does not know"
    WRONG_PAYLOAD = "delivered is not what was asked for"
    TOO_MANY_POSTS = "more than one further POST for an attempt"
    LEAK = "a secret where people read"


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    kind: ViolationKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True)
class SentPost:
    """
    A paid POST that left a worker.

    :param fingerprint: the clip.
    :param attempt: task and try number.
    :param refused: whether the service's own response refused it and reached the worker.
    """

    fingerprint: str
    attempt: str
    refused: bool = False


def find_violations(
    accepted: Iterable[Mapping[str, Any]],
    charges: Iterable[Mapping[str, Any]],
    entries: Iterable[LedgerEntry],
    *,
    delivered: Mapping[str, Mapping[str, Any]] | None = None,
    posts: Iterable[SentPost] = (),
    finished: bool = True,
    dump: Mapping[str, str] | None = None,
    keys: Iterable[str] = (),
) -> list[Violation]:
    """
    Return the promises that a history breaks.

    :param accepted: all requests that the service accepted, with ``request_id`` and ``payload``.
    :param charges: all charges, with ``request_id``.
    :param entries: the whole ledger.
    :param delivered: request id of each clip that was given to a task → the payload that this task requested; a seed
        counts if the task chose one.
    :param posts: the paid POSTs that left, if they are known.
    :param finished: whether the history has ended; until then an entry in doubt accounts for a payment with its seed.
    :param dump: place → text: logs, XCom and whatever else people read. The entries are added to it. None: it is not
        searched for secrets.
    :param keys: API keys and other secrets; the prompts and signatures of what was sent are known.
    """
    accepted = list(accepted)
    payloads = {each["request_id"]: each["payload"] for each in accepted}
    charged = Counter(each["request_id"] for each in charges)
    ledger = list(entries)
    owners: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in ledger:
        for request_id in entry.request_ids:
            owners[request_id].append(entry)
    return [
        *_check_charges(payloads, charged, ledger, owners, finished),
        *_check_entries(payloads, ledger, owners),
        *_check_delivered(payloads, delivered or {}),
        *_check_posts(posts, charged, ledger),
        *(() if dump is None else _check_dump(dump, ledger, payloads.values(), keys)),
    ]


def _check_charges(
    payloads: Mapping[str, Mapping[str, Any]],
    charged: Counter[str],
    ledger: Iterable[LedgerEntry],
    owners: Mapping[str, list[LedgerEntry]],
    finished: bool,
) -> Iterable[Violation]:
    doubtful = {entry.seed for entry in ledger if entry.may_have_been_sent and not finished}
    for request_id, times in charged.items():
        if times > 1:
            yield Violation(ViolationKind.PAID_TWICE, f"request {request_id} was charged {times} times")
        if request_id not in payloads:
            yield Violation(ViolationKind.UNKNOWN_REQUEST, f"{request_id} was charged")
        elif not owners.get(request_id) and payloads[request_id].get("seed") not in doubtful:
            yield Violation(ViolationKind.FORGOTTEN, request_id)
    for entry in ledger:
        paid = sorted(entry.request_ids & charged.keys())
        if len(paid) > 1:
            yield Violation(ViolationKind.PAID_TWICE, f"clip {entry.fingerprint}: {', '.join(paid)}")


def _check_entries(
    payloads: Mapping[str, Mapping[str, Any]], ledger: Iterable[LedgerEntry], owners: Mapping[str, list[LedgerEntry]]
) -> Iterable[Violation]:
    for request_id, several in owners.items():
        if len(several) > 1:
            names = ", ".join(entry.fingerprint for entry in several)
            yield Violation(ViolationKind.SHARED, f"{request_id}: {names}")
        if request_id not in payloads:
            yield Violation(ViolationKind.UNKNOWN_REQUEST, f"{request_id} of clip {several[0].fingerprint}")
    for entry in ledger:
        payload = payloads.get(entry.request_id or "")
        if payload is not None and hash_payload(payload, entry.model) != entry.payload_sha256:
            yield Violation(ViolationKind.WRONG_PAYLOAD, f"{entry.request_id} of clip {entry.fingerprint}")
        twice = [attempt for attempt, times in Counter(entry.repeats_after_absence).items() if times > 1]
        if twice:
            yield Violation(ViolationKind.TOO_MANY_POSTS, f"clip {entry.fingerprint}: {', '.join(twice)}")


def _check_delivered(
    payloads: Mapping[str, Mapping[str, Any]], delivered: Mapping[str, Mapping[str, Any]]
) -> Iterable[Violation]:
    for request_id, asked in delivered.items():
        if request_id not in payloads:
            yield Violation(ViolationKind.UNKNOWN_REQUEST, f"{request_id} was delivered")
            continue
        made, wanted = normalize_payload(payloads[request_id]), normalize_payload(asked)
        unlike = sorted(name for name in {*made, *wanted} - {"seed"} if made.get(name) != wanted.get(name))
        if asked.get("seed") is not None and made.get("seed") != asked["seed"]:
            unlike.append("seed")
        if unlike:
            yield Violation(ViolationKind.WRONG_PAYLOAD, f"{request_id}: {', '.join(unlike)}")


def _check_posts(
    posts: Iterable[SentPost], charged: Counter[str], ledger: Iterable[LedgerEntry]
) -> Iterable[Violation]:
    # A request that the service failed or cancelled is not charged, and may be followed by another.
    free = {entry.fingerprint: len(entry.request_ids - charged.keys()) for entry in ledger}
    by_attempt = Counter((post.fingerprint, post.attempt) for post in posts if not post.refused)
    by_clip: dict[str, list[int]] = defaultdict(list)
    for (fingerprint, attempt), number in by_attempt.items():
        by_clip[fingerprint].append(number)
        if number > 2 + free.get(fingerprint, 0):
            yield Violation(ViolationKind.TOO_MANY_POSTS, f"clip {fingerprint}: {attempt} sent {number}")
    for fingerprint, numbers in by_clip.items():
        if sum(numbers) > 1 + len(numbers) + free.get(fingerprint, 0):
            detail = f"clip {fingerprint}: {sum(numbers)} by {len(numbers)} attempts"
            yield Violation(ViolationKind.TOO_MANY_POSTS, detail)


def _check_dump(
    dump: Mapping[str, str],
    ledger: Iterable[LedgerEntry],
    payloads: Iterable[Mapping[str, Any]],
    keys: Iterable[str],
) -> Iterable[Violation]:
    sent = {str(payload.get(name) or "").strip() for payload in payloads for name in ("prompt", "negative_prompt")}
    prompts = sorted(text for text in sent if len(text) >= MIN_PROMPT)
    texts = {**dump, **{f"entry {entry.fingerprint}": entry.to_json() for entry in ledger}}
    secrets = Secrets(
        {
            **{f"key {number}": key for number, key in enumerate(keys, 1)},
            **{f"prompt {number}": text for number, text in enumerate(prompts, 1)},
        },
        {},
    )
    for where, text in texts.items():
        for leak in secrets.find(text, where):
            yield Violation(ViolationKind.LEAK, str(leak))
