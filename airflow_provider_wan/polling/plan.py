# SPDX-License-Identifier: Apache-2.0
"""
What to look at next, and how: pure decisions over all clips of one connection, with the time passed in.

A request is spent where the finished clips that nobody has seen yet have, by what is known of their kind,
waited for half a poll interval on average: on one clip by its id, or on a page of the list where that
shows several at once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.polling.clip import EVEN_CHANCE, Clip, trusted
from airflow_provider_wan.polling.durations import Durations
from airflow_provider_wan.polling.list_health import ListHealth
from airflow_provider_wan.polling.look import PAGE, Look
from airflow_provider_wan.polling.places import Places
from airflow_provider_wan.polling.steps import at_once

if TYPE_CHECKING:
    from airflow_provider_wan.api.errors import WanError
    from airflow_provider_wan.api.record import RequestPage, RequestRecord
    from airflow_provider_wan.polling.schedule import Wait

# Requests on one page of the list that we try where several pages are needed.
LARGEST_PAGE = 1000
# How much sooner, and later, than on average a look is due where many, and few, clips end.
DENSE = 0.82
SPARSE = 1.35
# How often the plan is made anew while something may be done at any moment.
TICK = 1.0
# Clips that are gone through in one step of the loop.
STEP = 500
# A clip that the list does not have is asked for by its id for so long.
UNLISTED_SECONDS = 300.0
LONGEST_UNLISTED = 3600.0
_BLANK_PAGES = 3


@dataclass(slots=True)
class _Candidate:
    clips: list[Clip]
    high: float = 0.0
    done: float = 0.0
    lag: float = 0.0
    urge: float = 0.0
    must: bool = False

    def add(self, clip: Clip, done: float, lag: float, gap: float, must: bool) -> None:
        self.clips.append(clip)
        self.done += done
        self.lag += lag
        self.urge += lag / gap
        self.must = self.must or must

    def due(self, usual: float) -> bool:
        """
        Whether those that are done have waited for long enough, on average.

        :param usual: clips a second that end where looks usually go; where fewer do, they may wait longer.
        """
        if self.must or self.done <= 0.0:
            return self.must
        share = min(SPARSE, max(DENSE, math.sqrt(usual / self.speed)))
        return self.urge >= 0.5 * share * self.done

    @property
    def speed(self) -> float:
        """Clips a second that end, as expected."""
        return self.done * self.done / (2.0 * self.lag) if self.lag else math.inf

    @property
    def rank(self) -> tuple[bool, float]:
        return self.must, self.lag


class Plan:
    """
    All clips of one connection, and what the looks so far have told.

    :param durations: what is known of run times; shared by the plans of a process.
    """

    def __init__(self, durations: Durations) -> None:
        self.clips: dict[str, Clip] = {}
        self.places = Places()
        self.list_health = ListHealth()
        self.durations = durations
        self._span = PAGE
        self._largest = LARGEST_PAGE
        self._interval: float | None = None
        self._exits = 0.5
        self._exposure = 20.0
        self._skew = 0.0
        self._usual = EVEN_CHANCE
        self._sought: set[str] = set()
        self._scan_at = 0
        self._scan_blanks = 0
        self._unlisted: dict[str, float] = {}

    def add(self, wait: Wait, now: float, spread: float) -> None:
        """
        Begin to wait, or wait differently for what is waited for already.

        :param spread: a random number from -1 to 1.
        """
        self._interval = None
        if (known := self.clips.get(wait.request_id)) is not None:
            known.wait = wait
            known.wake = min(known.wake, max(now, wait.end_time))
            return
        kind = (wait.resolution, wait.duration) if wait.resolution and wait.duration else None
        clip = Clip(wait, now, now, spread, kind, wait.submitted_at)
        profile = self.durations.profile(kind)
        if profile is not None and wait.submitted_at is not None:
            clip.seen_at = min(now, wait.submitted_at - self._skew)
            clip.rest(now, profile)
        else:
            clip.wake = now + (spread + 1.0) / 2.0 * wait.poll_interval
        clip.wake = max(wait.not_before, min(clip.wake, max(now, wait.end_time)))
        self.clips[wait.request_id] = clip
        if wait.submitted_at is not None:
            self.places.came(wait.submitted_at)

    def drop(self, request_id: str) -> None:
        """End a wait."""
        self._interval = None
        self.clips.pop(request_id, None)
        self._unlisted.pop(request_id, None)
        self._sought.discard(request_id)

    @property
    def interval(self) -> float:
        """The shortest poll interval of those that wait."""
        if self._interval is None:
            self._interval = min((clip.wait.poll_interval for clip in self.clips.values()), default=10.0)
        return self._interval

    @property
    def tick(self) -> float:
        """Seconds between choices."""
        return max(0.005, min(TICK, self.interval / 4))

    def looks(self, now: float, count: int, rate: float) -> tuple[list[Look], float]:
        """
        Choose what to ask for now.

        :param count: how many requests may be made until the next choice.
        :param rate: how many may be made a second.
        :return: the looks, most urgent first, and the time of the next choice.
        """
        return at_once(self.choice(now, count, rate))

    def choice(self, now: float, count: int, rate: float) -> Generator[None, None, tuple[list[Look], float]]:
        """Make the choice of :meth:`looks` in small steps, between which waits may begin, end and be looked at."""
        listed: list[tuple[float, Clip, float, float, float, bool]] = []
        alone: list[_Candidate] = []
        lost = _Candidate([])
        pages = self.list_health.usable(now)
        leaves = self._exits / self._exposure
        again, interval = math.inf, self.interval
        stretch = max(1.0, len(self.clips) / (PAGE * rate * interval))
        profiles = self.durations.profile
        for number, clip in enumerate(tuple(self.clips.values()), 1):
            if number % STEP == 0:
                yield
            if clip.asked:
                continue
            if clip.wake > now:
                again = min(again, clip.wake)
                continue
            profile = profiles(clip.kind)
            done, lag = clip.expect(now, profile, leaves)
            must = clip.must(now, profile)
            gap = stretch * clip.gap(now, profile)
            rank = self._rank(clip) if pages else None
            if rank is not None:
                listed.append((rank, clip, done, lag, gap, must))
            elif pages and self._may_be_listed(clip, now):
                if not self._sought or clip.wait.request_id in self._sought:
                    lost.add(clip, done, lag, gap, must)
            else:
                single = _Candidate([])
                single.add(clip, done, lag, gap, must)
                alone.append(single)
        if len(lost.clips) == 1 and lost.clips[0].by_id and not self._sought:
            alone.append(lost)
            lost = _Candidate([])
        windows = self._windows(listed, now)
        if len(windows) > 1 and self._span < self._largest:
            self._span = min(2 * self._span, self._largest)
            windows = self._windows(listed, now)
        awake = bool(listed or alone or lost.clips)
        due = [each for each in (*alone, *windows, lost) if each.clips and each.due(self._usual)]
        due.sort(key=lambda each: each.rank, reverse=True)
        looks: list[Look] = []
        for candidate in due:
            if len(looks) >= count:
                break
            if candidate is lost:
                looks += self._scans(lost, count - len(looks))
            else:
                looks.append(self._look(candidate, pages))
            if candidate.lag:
                self._usual += 0.1 * min(1.0, candidate.done) * (candidate.speed - self._usual)
        for request_id in [each for look in looks for each in look.members]:
            if (found := self.clips.get(request_id)) is not None:
                found.asked = True
        return looks, min(again, now + (self.tick if awake else math.inf))

    def wanted(self, look: Look) -> bool:
        """Return whether anybody still waits for what a look is for."""
        return look.scans or any(request_id in self.clips for request_id in look.members)

    def hurry(self, now: float) -> None:
        """Let what failed be looked at again at once, since its cause is gone."""
        for clip in self.clips.values():
            if clip.failed:
                clip.wake = now

    def release(self, look: Look) -> None:
        """Take back a look that was not made."""
        self._freed(look)
        if look.scans:
            self._sought.clear()

    def page_came(self, look: Look, page: RequestPage, asked_at: float, now: float) -> list[RequestRecord]:
        """
        Take in a page.

        :return: the records of those that wait.
        """
        self.list_health.worked()
        if page.size < look.limit and (page.has_more or (page.total or 0) > look.offset + page.size):
            self._span = self._largest = max(1, page.size)
        self.places.read(page, look.offset, asked_at, self.clips)
        found = [record for record in page.records if record.request_id in self.clips]
        self._skew_from(page.records, asked_at)
        for record in found:
            self._saw(record, asked_at, now)
        seen = {record.request_id for record in found}
        left = len(self._sought)
        self._sought -= seen
        for clip in self._freed(look):
            if clip.wait.request_id not in seen:
                self._not_on_page(clip, look, now)
        if look.scans:
            self._scanned(page, left, now)
        return found

    def page_failed(self, look: Look, error: WanError, now: float) -> None:
        """Take in that a page was not answered."""
        if look.limit > PAGE and not error.retryable:
            self._span = self._largest = PAGE
        else:
            self.list_health.failed(error, now)
        for clip in self._freed(look):
            clip.by_id = True
            clip.failed = True
            clip.wake = now + 0.25 * clip.interval
        if look.scans:
            self._sought.clear()

    def record_came(self, look: Look, record: RequestRecord, asked_at: float, now: float) -> None:
        """Take in one request that was asked for by its id."""
        self._freed(look)
        self._sought.discard(record.request_id)
        if record.request_id in self.clips:
            self._skew_from((record,), asked_at)
            self._saw(record, asked_at, now)

    def look_failed(self, look: Look, now: float, *, unknown: bool) -> None:
        """
        Take in that a request was not answered by its id.

        :param unknown: whether the API says that it knows no such request.
        """
        for clip in self._freed(look):
            clip.failed = True
            clip.wake = now + clip.interval
            if unknown:
                # Requests made in the web console are in the list, and unknown by their id.
                clip.by_id = False
                clip.missed = 0
                clip.missing_since = clip.missing_since if clip.missing_since is not None else now
                self._unlisted.pop(clip.wait.request_id, None)

    def _rank(self, clip: Clip) -> float | None:
        if clip.rank is not None:
            return clip.rank
        if clip.missed or clip.created is None or clip.wait.request_id in self._unlisted:
            return None
        return self.places.estimate(clip.created)

    def _may_be_listed(self, clip: Clip, now: float) -> bool:
        until = self._unlisted.get(clip.wait.request_id)
        return until is None or now >= until

    def _windows(self, listed: list[tuple[float, Clip, float, float, float, bool]], now: float) -> list[_Candidate]:
        """Cover what is awake with as few pages as can be, from the newest down."""
        listed.sort(key=lambda each: each[0], reverse=True)
        # A page begins where the newest of them stood when the list was last seen: the others may be deeper by now.
        reach = max(1.0, self._span - min(self._span / 2, math.ceil(self.places.drift(now + 2.0 * TICK))))
        windows: list[_Candidate] = []
        low = math.inf
        for rank, clip, done, lag, gap, must in listed:
            if rank <= low:
                windows.append(_Candidate([], high=rank))
                low = rank - reach
            windows[-1].add(clip, done, lag, gap, must)
        return windows

    def _look(self, candidate: _Candidate, pages: bool) -> Look:
        members = tuple(clip.wait.request_id for clip in candidate.clips)
        first = candidate.clips[0]
        if len(members) == 1 and (first.by_id or not pages):
            return Look(members[0], members=members)
        if self.places.oldest_first:
            ranks = [rank for clip in candidate.clips if (rank := self._rank(clip)) is not None]
            return Look(None, max(0, math.floor(min(ranks))), self._span, members)
        return Look(None, max(0, math.floor(self.places.offset(candidate.high))), self._span, members)

    def _scans(self, lost: _Candidate, count: int) -> list[Look]:
        """Read the list from its beginning, until all that are sought are found."""
        members = tuple(clip.wait.request_id for clip in lost.clips if clip.wait.request_id in self.clips)
        if not self._sought:
            self._sought, self._scan_at, self._scan_blanks = set(members), 0, 0
        pages = min(count, max(1, len(members) // self._span))
        looks = []
        for number in range(pages):
            # They are free for other looks when the last one is answered.
            mine = members if number == pages - 1 else ()
            looks.append(Look(None, self._scan_at, self._span, mine, scans=True))
            self._scan_at += self._span
        return looks

    def _scanned(self, page: RequestPage, left: int, now: float) -> None:
        self._scan_blanks = 0 if len(self._sought) < left else self._scan_blanks + 1
        more = page.has_more if page.has_more is not None else page.size >= self._span
        if page.size == 0 or not more or self._scan_blanks > max(_BLANK_PAGES, left // 10):
            for request_id in self._sought:
                self._unlist(self.clips[request_id], now)
            self._sought.clear()

    def _unlist(self, clip: Clip, now: float) -> None:
        clip.by_id = True
        rest = min(LONGEST_UNLISTED, UNLISTED_SECONDS * 2.0**clip.absent)
        clip.absent += 1
        self._unlisted[clip.wait.request_id] = now + rest

    def _not_on_page(self, clip: Clip, look: Look, now: float) -> None:
        if look.scans:
            return
        clip.rank = None
        clip.missed += 1
        if clip.missed > 1:
            self._unlist(clip, now)

    def _freed(self, look: Look) -> list[Clip]:
        clips = [clip for request_id in look.members if (clip := self.clips.get(request_id)) is not None]
        for clip in clips:
            clip.asked = False
        return clips

    def _saw(self, record: RequestRecord, asked_at: float, now: float) -> None:
        clip = self.clips[record.request_id]
        known = clip.looked or clip.wait.submitted_at is not None
        was_queued, before = known and clip.started is None, clip.seen_at
        seconds = clip.ran(record, asked_at, self._skew, self.durations.profile(clip.kind))
        clip.see(record, asked_at, self._skew)
        if seconds is not None:
            self.durations.add(clip.kind, seconds)
        if was_queued:
            left = clip.started if clip.started is not None else asked_at
            self._exposure += max(0.0, left - before)
            self._exits += record.status.is_terminal or clip.started is not None
            if self._exits > 400:
                self._exits /= 2
                self._exposure /= 2
        clip.rest(now, self.durations.profile(clip.kind))

    def _skew_from(self, records: Sequence[RequestRecord], asked_at: float) -> None:
        """What was just updated shows the API's clock; clocks that may be right are taken to be."""
        told = (trusted(record.updated_at, asked_at) for record in records)
        ahead = max((each - asked_at for each in told if each is not None), default=0.0)
        self._skew = max(self._skew, ahead - 2.0)
