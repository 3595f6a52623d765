# SPDX-License-Identifier: Apache-2.0
"""A task as far as the money goes: submit, wait, note, archive; and what Airflow does when it fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_provider_wan.api.errors import (
    WanClipCancelledError,
    WanClipFailedError,
    WanClipTimeoutError,
    WanError,
)
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.ledger import EntryState, Owner, Submission, Submitted, fingerprint_of
from airflow_provider_wan.ledger.store import LedgerStore
from explore.world import Process, ProcessDied, Strike, World

REQUEST = I2VRequest(img_url="https://images.example.com/cat.png?X-Amz-Signature=1", prompt="a cat", resolution="720P")
PRICES = {"720P": 0.1, "1080P": 0.15}
WAIT = 1800.0
LOOK = 150.0


class Broken(AssertionError):  # noqa: N818
    """A promise was broken."""


@dataclass
class Task:
    """
    One task instance, through its retries and clears.

    :param name: ``dag/run/task/map index``.
    :param seed: the user's seed.
    :param build: what building the trigger does.
    """

    world: World
    name: str
    seed: int | None = None
    scope: str = ""
    on_doubt: str = "reconcile"
    make: Callable[..., Submission] = Submission
    build: Callable[[], None] = lambda: None
    tries: int = 0
    result: str | None = None
    told: list[str] = field(default_factory=list)
    last: Process | None = None

    @property
    def request(self) -> I2VRequest:
        return REQUEST if self.seed is None else REQUEST.with_seed(self.seed)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.request, scope=self.scope)

    def process(self, *strikes: Strike) -> Process:
        """Start the process of the next try."""
        self.tries += 1
        self.last = Process(self.world, f"{self.name}#{self.tries}", strikes)
        return self.last

    def attempt(self, process: Process) -> None:
        """Run one try to its end, whatever that is; how it ended is noted."""
        try:
            self.result = self._execute(process)
            self.told.append("success")
        except ProcessDied:
            self.told.append("died")
        except WanError as error:
            # Airflow shows it: nothing ends silently. Anything else is a mistake, and goes through.
            self.told.append(f"{type(error).__name__}: {error}")

    def _execute(self, process: Process) -> str:
        client, store = process.client(), process.store()
        submission = self.make(
            client, store, clock=process.clock, sleep=lambda s: process.sleep(s), rng=random.Random(self.world.nonce())
        )
        until = process.clock() + WAIT
        held = submission.ensure(
            self.request,
            fingerprint=self.fingerprint,
            owner=Owner(self.name, self.tries, self.world.nonce()),
            scope=self.scope,
            prices=PRICES,
            on_doubt=self.on_doubt,  # type: ignore[arg-type]
            before_pay=lambda entry: process.io("build the trigger", self.build),
            deadline=until,
        )
        self._deferred(held, process.world.ledger)
        if held.entry.state is EntryState.ARCHIVED:
            return held.entry.request_id or ""
        record = held.record
        while record is None or not record.status.is_terminal:
            if process.clock() > until:
                raise WanClipTimeoutError(f"{held.entry.request_id} still runs")
            process.sleep(LOOK)
            record = client.get_request(held.entry.request_id or "")
        entry = submission.finish(held.entry.fingerprint, record)
        if record.status is RequestStatus.CANCELLED:
            raise WanClipCancelledError(f"{record.request_id} was cancelled")
        if record.status is RequestStatus.FAILED:
            permanent = bool(entry and entry.outcome and entry.outcome.permanent)
            raise WanClipFailedError(f"{record.request_id} failed: {record.error}", permanent)
        process.io("archive the clip", lambda: self.world.bucket.update({record.request_id: self.name}))
        submission.archive(held.entry.fingerprint, record.request_id, f"s3://clips/{record.request_id}", "0" * 64)
        return record.request_id

    def _deferred(self, held: Submitted, ledger: LedgerStore) -> None:
        """Look at what is left to the next process, were this one to end in good order right now."""
        known = ledger.read(held.entry.fingerprint)
        if known is None or known.entry.request_id != held.entry.request_id or not held.entry.request_id:
            raise Broken("it defers, and the ledger does not name the request")
