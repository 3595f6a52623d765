# SPDX-License-Identifier: Apache-2.0
"""Where a batch stands: in this process, and through the journal in the next one."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.batch.budget import Budget
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.batch.item import BadRow, Item, read_item
from airflow_provider_wan.batch.journal import Checkpoint, Journal, UnderWay
from airflow_provider_wan.batch.keep import Keeper
from airflow_provider_wan.batch.looks import Api
from airflow_provider_wan.batch.manifest import Manifest
from airflow_provider_wan.batch.plan import Plan, Running
from airflow_provider_wan.batch.prepare import Clip, Preparer
from airflow_provider_wan.batch.results import Row, Status, Tally
from airflow_provider_wan.batch.window import Pace, Window
from airflow_provider_wan.ledger import Owner, Submission

log = logging.getLogger(__name__)

# How far the ledger's clock and ours may be apart.
CLOCK_MARGIN = 300.0


@dataclass(frozen=True)
class Setup:
    """
    What a batch is made of.

    :param manifest: the rows.
    :param rows: the first and the last row of the manifest that belong to this batch; None: all.
    :param defaults: fields of the payload for rows that have none.
    :param api: the client, for looks.
    :param submission: where money is spent.
    :param preparer: makes items ready.
    :param keeper: archives.
    :param journal: the checkpoint.
    :param owner: this process.
    :param scope: of the fingerprints.
    :param model: where a row names none.
    :param prices: US dollars per second of video, by resolution.
    :param max_cost: US dollars, for all tries together.
    :param max_in_flight: the most clips under way at once.
    :param submits_per_second: the most submissions a second.
    :param poll_interval: seconds between looks.
    :param looks_per_second: the most look-ups a second.
    :param item_timeout: seconds that a clip may be under way.
    :param fail_fast: whether the first row without a clip ends it all.
    :param sleep: waits seconds.
    """

    manifest: Manifest
    rows: tuple[int, int] | None
    defaults: Mapping[str, Any]
    api: Api
    submission: Submission
    preparer: Preparer
    keeper: Keeper
    journal: Journal
    owner: Owner
    scope: str
    model: str
    prices: Mapping[str, float]
    max_cost: float | None
    max_in_flight: int
    submits_per_second: float
    poll_interval: float
    looks_per_second: float
    item_timeout: float
    fail_fast: bool
    sleep: Callable[[float], None]


class State:
    """
    One batch.

    :param setup: what it is made of.
    :param now: Unix seconds.
    """

    def __init__(self, setup: Setup, now: float) -> None:
        self.setup = setup
        self.budget = Budget(setup.max_cost)
        self.tally = Tally()
        self.plan: Plan[Clip] = Plan(
            Window.open(setup.max_in_flight, now),
            Pace(setup.submits_per_second),
            ahead=max(8, min(64, round(2 * setup.submits_per_second))),
            poll_interval=setup.poll_interval,
        )
        self.end_time = now
        self.started_at = now
        self.stopped_by: WanError | None = None
        self.exhausted = False
        self.items = 0
        self.taken = 0
        self.total: int | None = None
        self.waves = 0
        self.tries: dict[int, int] = {}
        self.unsaved: list[Row] = []
        self._identity = ""
        self._parts = 0
        self._left: set[int] = set()
        self._settled: set[int] = set()
        self._open: deque[Item | Row] = deque()
        self._seen: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._clips: dict[str, int] = {}
        self._source: Iterator[Item | Row] = iter(())

    # --- where it begins ----------------------------------------------------------------------
    def begin(self, end_time: float, now: float) -> None:
        """
        Begin a try: what an earlier one has settled well is kept, everything else is looked at again.

        :raises WanValidationError: the manifest can't be read.
        """
        self.end_time = end_time
        journal, self._identity = self.setup.journal, self.setup.manifest.identity()
        before = journal.read()
        if before is not None:
            self.started_at = before.started_at
            since = before.started_at - CLOCK_MARGIN
            store = self.setup.submission.store
            self.budget.recount((held.entry for held in store.entries(modified_since=since)), self.setup.owner.task)
            log.info("An earlier try has spent $%.2f, by the ledger.", self.budget.spent)
        if before is None or before.done or before.identity != self._identity:
            journal.forget()
        else:
            self._parts = before.parts
            rows = {row.row: row for row in journal.rows(self._identity)}
            for row in rows.values():
                if row.status.final:
                    self._settled.add(row.row)
                    self.tally.add(row, passing=False)
                    self.items += 1
        self.total = self._count()
        self._source = self._read()
        self.save((), clean=False)

    def resume(self, now: float) -> bool:
        """
        Go on after a wave. :return: whether that can be; else :meth:`begin` can.
        """
        before = self.setup.journal.read()
        identity = self.setup.manifest.identity()
        if before is None or before.done or before.identity != identity:
            return False
        self._identity = identity
        self.end_time, self.started_at = before.end_time, before.started_at
        self._parts, self.taken, self.items = before.parts, before.taken, before.items
        self.total, self.waves = before.total, before.waves + 1
        self.exhausted, self._left = before.exhausted, set(before.left)
        self._settled = {row for low, high in before.settled for row in range(low, high + 1)}
        if before.stopped is not None:
            self.stopped_by = WanBatchError(*before.stopped)
            self.plan.stopped = True
        self.tries = {int(row): tries for row, tries in before.tries.items()}
        if before.window is not None:
            self.plan.window = Window.from_json(before.window, self.setup.max_in_flight)
        if before.tally is not None:
            self.tally = Tally.from_json(before.tally)
        if before.clean:
            mine = [each for each in before.running if each.ours]
            self.budget = Budget(self.setup.max_cost, before.spent - sum(each.cost or 0.0 for each in mine))
            for each in mine:
                self.budget.count(each.fingerprint, each.cost)
        else:
            since = before.started_at - CLOCK_MARGIN
            entries = self.setup.submission.store.entries(modified_since=since)
            self.budget.recount((held.entry for held in entries), self.setup.owner.task)
        self._reopen(before)
        self.save([each.row for each in self._open if isinstance(each, Item)], clean=False)
        return True

    def _reopen(self, before: Checkpoint) -> None:
        """Read up to where it was, and take out what is open or under way."""
        self._source = self._read()
        running = {each.row: each for each in before.running}
        opened = set(before.open)
        for found in self._source:
            if found.row > before.taken:
                self._open.append(found)
                break
            if found.row in running and isinstance(found, Item):
                each = running[found.row]
                clip = Clip(found, each.fingerprint, cost=each.cost, ours=each.ours)
                self._clips[each.fingerprint] = found.row
                self.plan.restore([Running(clip, each.request_id, each.since)])
            elif found.row in opened:
                self._open.append(found)

    # --- rows ---------------------------------------------------------------------------------
    def next_item(self) -> Item | Row | None:
        """Return the next row: an item, or what is wrong with it; None: there is none left."""
        if self._open:
            found = self._open.popleft()
        else:
            if self.exhausted:
                return None
            read = next(self._source, None)
            if read is None:
                self.exhausted = True
                self.total = self.items
                return None
            found = read
        if found.row > self.taken:
            self.taken = found.row
            self.items += 1
        return found

    def _read(self) -> Iterator[Item | Row]:
        first, last = self.setup.rows or (1, None)
        for raw in self.setup.manifest.rows():
            if last is not None and raw.number > last:
                return
            if raw.number < first:
                continue
            item = read_item(raw, self.setup.defaults)
            found = self._checked(item)
            if raw.number not in self._settled:
                yield found

    def _checked(self, item: Item | BadRow) -> Item | Row:
        if isinstance(item, BadRow):
            return Row(item.row, item.image, Status.REJECTED, error=item.reason)
        first = self._seen.setdefault(item.digest, item.row)
        if first != item.row:
            error = f"row {item.row} asks for the same clip as row {first}"
            return Row(item.row, item.image.shown, Status.DUPLICATE, error=error, digest=item.digest)
        if item.name is not None and (other := self._names.setdefault(item.name, item.row)) != item.row:
            fault = WanValidationError(
                "name", item.name, f"is that of row {other} too", "Give each row a name of its own"
            )
            return Row(
                item.row, item.image.shown, Status.REJECTED, error=f"row {item.row}: {fault}", digest=item.digest
            )
        return item

    def _count(self) -> int:
        """Count the rows, for the time that is left to be told. It costs one reading."""
        first, last = self.setup.rows or (1, None)
        if last is not None:
            return last - first + 1
        return sum(1 for _ in self.setup.manifest.rows())

    def first(self, clip: Clip) -> bool:
        """Tell whether no other row has this very clip."""
        return self._clips.setdefault(clip.fingerprint, clip.row) == clip.row

    # --- what happens -------------------------------------------------------------------------
    def settle(self, row: Row, *, passing: bool) -> None:
        """A row has become something."""
        self.tally.add(row, passing=passing)
        self.unsaved.append(row)
        if row.fingerprint is not None and row.status in (Status.ARCHIVED, Status.LOST):
            self.budget.settle(row.fingerprint)

    def left(self, row: int) -> None:
        """A row stays open for another try."""
        self._left.add(row)

    @property
    def left_over(self) -> int:
        """How many rows were not begun."""
        unread = 0 if self.total is None else max(0, self.total - self.items)
        return len(self._left) + unread

    def save(self, busy: Iterable[int], *, clean: bool, done: bool = False) -> None:
        """
        Write the rows since the last time, and then the checkpoint.

        :param busy: rows that are being made ready or archived.
        :param clean: whether nothing will be submitted before the next checkpoint.
        """
        journal = self.setup.journal
        if self.unsaved:
            self._parts += 1
            journal.add_part(self._identity, self._parts, self.unsaved)
            self.unsaved = []
        running = [
            UnderWay(row, each.request_id, each.clip.fingerprint, each.since, each.clip.cost, each.clip.ours)
            for row, each in self.plan.running.items()
        ]
        waiting = (each.row for each in self._open)
        opened = {*busy, *self.plan.open_rows(), *(row for row in waiting if row <= self.taken)}
        journal.write(
            Checkpoint(
                identity=self._identity,
                started_at=self.started_at,
                end_time=self.end_time,
                taken=self.taken,
                items=self.items,
                open=tuple(sorted(opened)),
                left=tuple(sorted(self._left)),
                settled=ranges_of(row for row in self._settled if row > self.taken),
                stopped=None if self.stopped_by is None else (str(self.stopped_by), self.stopped_by.retryable),
                exhausted=self.exhausted,
                running=tuple(running),
                window=self.plan.window.as_json(),
                tally=self.tally.as_json(),
                spent=self.budget.spent,
                parts=self._parts,
                clean=clean,
                done=done,
                total=self.total,
                waves=self.waves,
                tries={str(row): tries for row, tries in self.tries.items()},
            )
        )

    def merge(self) -> None:
        """Write the results."""
        self.setup.journal.merge(self._identity, max(self.taken, max(self._settled, default=0)))

    def rows(self, last: int) -> list[Row]:
        """Return what became of the first rows."""
        return list({r.row: r for r in self.setup.journal.rows(self._identity) if r.row <= last}.values())

    def progress(self, now: float, archiving: int) -> str:
        """Tell how far it is, in one line."""
        done, total = self.tally.settled, self.total
        elapsed = max(1.0, now - self.started_at)
        rate = 60.0 * done / elapsed
        left = "unknown" if not done or total is None else f"{(total - done) * elapsed / done / 60:.0f} min"
        counts = Counter(self.tally.counts)
        return (
            f"{done} of {total if total is not None else '?'} rows done ({counts['archived']} archived, "
            f"{self.tally.bad} without a clip), {len(self.plan.running)} under way, {archiving} being archived, "
            f"{self.plan.waiting} ready, window {self.plan.window.size}; {rate:.1f} a minute, "
            f"${self.budget.spent:.2f} spent, time left {left}"
        )


def ranges_of(rows: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Put rows that follow one another together."""
    found: list[tuple[int, int]] = []
    for row in sorted(rows):
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return tuple(found)


def slice_of(value: Any) -> tuple[int, int] | None:
    """
    Read a range of rows.

    :raises WanValidationError: where it is none.
    """
    if value is None:
        return None
    rule = "must be the first and the last row's number, such as [1, 500]"
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise WanValidationError("rows", value, rule)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in value) or not 1 <= value[0] <= value[1]:
        raise WanValidationError("rows", value, rule)
    return int(value[0]), int(value[1])
