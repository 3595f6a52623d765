# SPDX-License-Identifier: Apache-2.0
"""
Real submitters that want the same clips, each stopped at every boundary until the scheduler lets it go on.

Unlike :mod:`dev.explore.world`, a POST has phases here (connect, send, arrive, accept, answer), each of which may come
at any time that the envelope of the documentation allows; and clocks are wrong and may be set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import TypeVar

from greenlet import greenlet

from airflow_provider_wan.api.config import Account
from airflow_provider_wan.api.errors import (
    WanClipFailedError,
    WanConnectError,
    WanError,
    WanInDoubtError,
    WanLookupError,
    WanRateLimitError,
)
from airflow_provider_wan.api.record import RequestPage, RequestRecord, RequestStatus
from airflow_provider_wan.api.request import I2VRequest, WanRequest
from airflow_provider_wan.ledger import Owner, Policy, Submitter, compute_fingerprint
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import LedgerUnavailableError
from airflow_provider_wan.ledger.stores.base import LedgerStore, StoredEntry
from dev.explore.service import FlyingPost, SimulatedService
from dev.explore.world import START, ProcessDied
from dev.testkit.history import SentPost, Violation, find_violations
from dev.testkit.ledger import ACCOUNT

T = TypeVar("T")

LAST_ROUNDS = 8


class Fate(StrEnum):
    """What becomes of a call at a boundary."""

    WORKS = "works"
    FAILS = "fails before its effect"
    LOST = "has its effect, and its response is lost"


class ListLie(StrEnum):
    """What the list does instead of showing all."""

    NONE = "none"
    DOWN = "down"
    EMPTY = "empty"
    CUT = "cut"


class Actor:
    """
    One attempt: a greenlet that the scheduler runs from one boundary to the next.

    :param world: where it runs.
    :param task: name of the task instance.
    :param clip: number of the clip that it wants.
    :param try_number: Airflow's number of the try.
    :param clock_error: how far its wall clock is ahead.
    """

    def __init__(self, world: ClaimWorld, task: str, clip: int, try_number: int, clock_error: float) -> None:
        self.world = world
        self.clip = clip
        self.clock_error = clock_error
        self.account = ACCOUNT
        self._number = len(world.actors)
        self.owner = Owner(task, try_number, f"n{self._number}")
        self.at = "start"
        self.paused_at = world.now
        self.wake_at = 0.0
        self.post: FlyingPost | None = None
        self.request_id: str | None = None
        self.error: WanError | None = None
        self._failure: BaseException | None = None
        self._fate = Fate.WORKS
        self._dying = False
        self._greenlet = greenlet(self._run)

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.at != "ended"

    @property
    def ready(self) -> bool:
        """Whether it can go on now."""
        return self.live and self.world.now >= self.wake_at

    def resume(self, fate: Fate = Fate.WORKS) -> None:
        """Let it go on to its next boundary."""
        self._fate = fate
        self.world.crossings += 1
        self._greenlet.switch()
        if self._failure is not None:
            raise self._failure

    def run_to(self, *boundaries: str) -> None:
        """Let it go on until it is at one of these boundaries, or has to wait, or has ended."""
        while self.ready and self.at not in boundaries:
            self.resume()

    def kill(self) -> None:
        """Kill it where it is."""
        if self.live:
            self._dying = True
            self.resume()

    def cross(self, name: str, act: Callable[[], T], error: Callable[[], Exception], *, writes: bool = False) -> T:
        """Wait at a boundary, then act or fail."""
        fate = self.pause(name)
        if fate is Fate.FAILS:
            raise error()
        value = act()
        if writes:
            # The effect is there; the response may take any time.
            self.pause(f"{name}: response")
            if fate is Fate.LOST:
                raise error()
        return value

    def pause(self, name: str, until: float = 0.0) -> Fate:
        """Wait until the scheduler lets this go on."""
        self.at, self.paused_at, self.wake_at = name, self.world.now, until
        scheduler = self._greenlet.parent
        assert scheduler is not None
        scheduler.switch()
        if self._dying:
            raise ProcessDied
        return self._fate

    def clock(self) -> float:
        """Return what its wall clock shows."""
        self.world.clock_errors.add(self.clock_error)
        return self.world.now + self.clock_error

    def sleep(self, seconds: float) -> None:
        """Sleep, by a clock that can't be set."""
        self.pause("sleep", self.world.now + max(seconds, 0.0))

    def _run(self) -> None:
        try:
            if not self._dying:
                self._submit()
        except ProcessDied:
            pass
        except WanError as error:
            self.error = error
        except BaseException as failure:
            self._failure = failure
        finally:
            self.at = "ended"

    def _submit(self) -> None:
        request = self.world.request
        submitter = self.world.build_submitter(
            ActorApi(self),
            ActorStore(self),
            clock=self.clock,
            monotonic=lambda: self.world.now,
            sleep=self.sleep,
            rng=random.Random(self._number),
            policy=self.world.policy,
        )
        fingerprint = self.world.fingerprints[self.clip]
        result = submitter.submit_once(request, fingerprint=fingerprint, owner=self.owner)
        self.request_id = result.entry.request_id


class ActorStore:
    """The ledger as an actor sees it."""

    uri = "memory:"

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._store = actor.world.store

    def read(self, fingerprint: str) -> StoredEntry | None:
        return self._actor.cross("read", lambda: self._store.read(fingerprint), _ledger_down)

    def create(self, entry: LedgerEntry) -> str:
        return self._actor.cross("write", lambda: self._store.create(entry), _ledger_down, writes=True)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        return self._actor.cross("write", lambda: self._store.replace(entry, version), _ledger_down, writes=True)

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        # A store compares with its own clock, which is right here.
        return iter(self._actor.cross("entries", lambda: list(self._store.entries()), _ledger_down))

    def fingerprints(self) -> Iterator[str]:
        return self._store.fingerprints()

    def probe(self) -> None:
        return None


class ActorApi:
    """The service as an actor sees it."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._world = actor.world

    @property
    def account(self) -> Account:
        return self._actor.account

    def prepare_submission(self, request: WanRequest) -> ActorPost:
        self._actor.cross("connect", lambda: None, lambda: WanConnectError("connection refused"))
        return ActorPost(self._actor, request)

    def list_requests(
        self, *, model_id: str | None = None, limit: int = 100, offset: int = 0, all_models: bool = False
    ) -> RequestPage:
        return self._actor.cross("list", lambda: self._world.list_page(limit, offset), _no_answer)

    def get_request(self, request_id: str) -> RequestRecord:
        return self._actor.cross("get", lambda: self._world.service.get(request_id, self._world.now), _no_answer)

    def cancel(self, request_id: str) -> bool:
        return False


class ActorPost:
    """The paid POST of an actor, whose connection is open."""

    def __init__(self, actor: Actor, request: WanRequest) -> None:
        self._actor = actor
        self._request = request

    def send(self, timeout: float) -> RequestRecord:
        actor = self._actor
        world = actor.world
        actor.pause("send")
        fingerprint = world.fingerprints[actor.clip]
        post = FlyingPost(fingerprint, actor.owner.attempt, self._request.to_payload(), world.now)
        world.posts.append(post)
        actor.post = post
        fate = actor.pause("answer")
        if fate is Fate.WORKS and post.request_id is not None:
            return world.service.records[post.request_id]
        if fate is Fate.WORKS and post.refused:
            world.refusals_received.append(post)
            raise WanRateLimitError("HTTP 429")
        raise WanInDoubtError("the connection was lost")

    def close(self) -> None:
        return None


class ClaimWorld:
    """
    All that outlives an attempt.

    :param store: the ledger.
    :param seed: the user's seed; None for drawn ones.
    :param clock_error: how far the service's clock is ahead.
    :param build_submitter: builds a submitter; a test of the exploration passes a broken one.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        seed: int | None = None,
        clock_error: float = 0.0,
        build_submitter: Callable[..., Submitter] = Submitter,
    ) -> None:
        self.now = START
        self.build_submitter = build_submitter
        self.store = store
        self.policy = Policy()
        self.request = I2VRequest("https://images.example.com/cat.png", prompt="a cat", resolution="720P", seed=seed)
        self.fingerprints = [compute_fingerprint(self.request, scope=scope) for scope in ("one", "two")]
        self.service = SimulatedService(START, clock_error)
        self.actors: list[Actor] = []
        self.posts: list[FlyingPost] = []
        self.refusals_received: list[FlyingPost] = []
        self.lie = ListLie.NONE
        self.clock_errors: set[float] = set()  # of all workers, whenever they read their clocks
        self.crossings = 0  # how often an attempt went on to its next boundary

    @property
    def live(self) -> list[Actor]:
        """The actors that have not ended."""
        return [actor for actor in self.actors if actor.live]

    def start(self, task: str, clip: int = 0, clock_error: float = 0.0) -> Actor:
        """Begin the next try of a task."""
        number = 1 + sum(actor.owner.task == task for actor in self.actors)
        actor = Actor(self, task, clip, number, clock_error)
        self.actors.append(actor)
        return actor

    def advance(self, seconds: float, *, freeze: bool = False) -> None:
        """
        Let time pass.

        :param freeze: whether a worker may be frozen just before its POST for longer than the envelope allows.
        """
        until = self.now + seconds
        while events := self._find_events(until, freeze):
            moment, happen = min(events, key=lambda event: event[0])
            self.now = max(self.now, moment)
            happen()
        self.now = until

    def _find_events(self, until: float, freeze: bool) -> list[tuple[float, Callable[[], object]]]:
        """Return what happens until a moment whatever the scheduler chooses."""
        events: list[tuple[float, Callable[[], object]]] = [
            (post.due, partial(self.accept, post, post.lag))
            for post in self.posts
            if post.due is not None and post.due <= until and not post.over
        ]
        limit = self.policy.pause_allowance
        if not freeze:
            events += [
                (actor.paused_at + limit, actor.resume)
                for actor in self.live
                if actor.at == "send" and actor.paused_at + limit < until
            ]
        return events

    def flying(self) -> list[FlyingPost]:
        """Return the POSTs that the service may still accept."""
        longest = self.policy.longest_post
        return [
            post for post in self.posts if not post.over and post.due is None and self.now <= post.sent_at + longest
        ]

    def accept(self, post: FlyingPost, lag: float = 0.0) -> str:
        """Let the service accept a POST."""
        return self.service.accept(post, self.now, lag)

    def schedule(self, post: FlyingPost, after: float, lag: float) -> None:
        """Let the service accept a POST so many seconds after its first byte, or now if that is over."""
        post.due, post.lag = max(self.now, post.sent_at + after), lag

    def list_page(self, limit: int, offset: int) -> RequestPage:
        """Return a page of the list, or what it says instead."""
        if self.lie is ListLie.DOWN:
            raise _no_answer()
        newest = {ListLie.EMPTY: 0, ListLie.CUT: 1}.get(self.lie)
        if self.lie is ListLie.CUT and len(self.clock_errors) > 1:
            newest = None  # outside of the envelope: which request was earlier can't be told by two clocks
        return self.service.page(self.now, limit, offset, newest)

    def paid(self, clip: int) -> list[str]:
        """Return the ids of the requests for a clip that are charged, or will be."""
        ours = {post.request_id for post in self.posts if post.fingerprint == self.fingerprints[clip]}
        return [name for name in self.service.paid() if name in ours]

    def violations(self, *, finished: bool = False) -> list[Violation]:
        """Return the promises that are broken."""
        refused = self.refusals_received
        return find_violations(
            [{"request_id": name, "payload": payload} for name, payload in self.service.payloads.items()],
            [{"request_id": name} for name in self.service.paid()],
            [stored.entry for stored in self.store.entries()],
            delivered={actor.request_id: self.request.to_payload() for actor in self.actors if actor.request_id},
            posts=[
                SentPost(post.fingerprint, post.attempt, any(post is each for each in refused)) for post in self.posts
            ],
            finished=finished,
        )

    def run_to_end(self) -> bool:
        """
        Heal everything, and retry each task until it has its clip.

        :returns: whether all have. With a user's seed, two clips in doubt may share one request in the list: then
            nobody pays, and a person has to decide.
        """
        self.stop()
        self.lie = ListLie.NONE
        tasks = {clip: task for clip, task in enumerate(("one", "other clip")) if self._is_wanted(clip)}
        for _ in range(LAST_ROUNDS):
            # In turns: with a user's seed, a clip in doubt waits for an older one with the same payload.
            for clip, task in list(tasks.items()):
                self.advance(1000.0)
                actor = self.start(task, clip)
                self.play(actor)
                if actor.request_id or isinstance(actor.error, WanClipFailedError):
                    del tasks[clip]
        in_doubt = [stored.entry.may_have_been_sent for stored in self.store.entries()]
        needs_person = self.request.seed is not None and len(tasks) == 2 and in_doubt == [True, True]
        assert not tasks or needs_person, f"clips {list(tasks)} never came to be: {self.actors[-1].error!r}"
        for request_id in self.service.running():
            self.service.finish(request_id, RequestStatus.SUCCESS)
        return not tasks

    def stop(self) -> None:
        """Kill all that live."""
        for actor in self.live:
            actor.kill()

    def _is_wanted(self, clip: int) -> bool:
        return any(actor.clip == clip for actor in self.actors)

    def play(self, actor: Actor) -> None:
        """Let an attempt go on to its end; the service accepts each POST of it at once."""
        for _ in range(2000):
            if not actor.live:
                return
            if actor.at == "answer" and actor.post is not None and not actor.post.over:
                self.accept(actor.post)
            self.advance(max(actor.wake_at - self.now, 0.01))
            actor.resume()
        raise AssertionError(f"an attempt never ends; it is at {actor.at!r}")


def _ledger_down() -> Exception:
    return LedgerUnavailableError("down")


def _no_answer() -> Exception:
    return WanLookupError("no answer")
