# SPDX-License-Identifier: Apache-2.0
"""
A world without a real clock, disk or socket: the sandbox's logic, a ledger in memory, and a dict as the bucket.

Every effect that a process has on it goes through :meth:`Process.io`, the *boundary*. There a process can be
stopped before or after the effect, or the call can fail before or after it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.wire import HttpRequest, HttpResponse, TransportError
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.errors import AlreadyExistsError, ConflictError, LedgerUnavailableError
from airflow_provider_wan.ledger.stores.base import StoredEntry
from airflow_provider_wan.sandbox.config import CancelMode, RenderMode, SandboxConfig
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.faults import Fault
from airflow_provider_wan.sandbox.responses import SandboxResponse, WireBehavior

T = TypeVar("T")

SLOWNESS = 400.0
START = 1_800_000_000.0
BASE = "http://api.invalid/api/v1/ie/requestqueue/apikey"
CONFIG = WanConfig(api_key="sandbox-key", base_url=BASE)


class ProcessDied(BaseException):
    """The process has died. Nothing may catch this."""


class Kind(StrEnum):
    """The kind of a fault at a boundary."""

    DIE_BEFORE = "dies before"
    DIE_AFTER = "dies after"
    TERM_BEFORE = "is asked to end before"
    ERROR_BEFORE = "fails before"
    ERROR_AFTER = "fails after"
    SLOW = "is answered only after minutes"


@dataclass(frozen=True)
class Strike:
    """A fault at the n-th boundary (from 1) of a process."""

    step: int
    kind: Kind


@lru_cache(maxsize=4096)
def _parse_entry(text: str) -> LedgerEntry:
    return LedgerEntry.from_json(text)


class MemoryStore:
    """The ledger as text, with unique versions."""

    uri = "memory:"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, str]] = {}
        self._versions = 0

    def read(self, fingerprint: str) -> StoredEntry | None:
        found = self.objects.get(fingerprint)
        return StoredEntry(_parse_entry(found[0]), found[1]) if found else None

    def create(self, entry: LedgerEntry) -> str:
        if entry.fingerprint in self.objects:
            raise AlreadyExistsError(entry.fingerprint)
        return self._put(entry)

    def replace(self, entry: LedgerEntry, version: str) -> str:
        if entry.fingerprint not in self.objects or self.objects[entry.fingerprint][1] != version:
            raise ConflictError(entry.fingerprint)
        return self._put(entry)

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        for fingerprint in list(self.objects):
            if stored := self.read(fingerprint):
                yield stored

    def fingerprints(self) -> Iterator[str]:
        return iter(list(self.objects))

    def probe(self) -> None:
        return None

    def _put(self, entry: LedgerEntry) -> str:
        self._versions += 1
        self.objects[entry.fingerprint] = (entry.to_json(), str(self._versions))
        return str(self._versions)


class World:
    """All that outlives a process."""

    def __init__(self, *faults: Fault, late: float | None = None, cancel: CancelMode = CancelMode.WORKS) -> None:
        self.now = START
        config = SandboxConfig(render=RenderMode.NONE, run_sigma=0.0, queue_sigma=0.0, journal_limit=0, cancel=cancel)
        self.core = SandboxCore(config, clock=lambda: self.now)
        # The account has older requests; without them the list proves nothing.
        for age in (20_000.0, 10_000.0):
            self.core.admin.console(age=age)
        for fault in faults:
            self.core.faults.inject(fault, 1)
        self.late = late
        self.ledger = MemoryStore()
        self.bucket: dict[str, str] = {}
        self.texts: list[str] = []  # what people read of it: logs, errors, XCom, arguments and events of triggers
        self.nonces = 0
        self.random = random.Random(7)
        self._later: list[tuple[float, Callable[[], object]]] = []

    def advance(self, until: float) -> None:
        """Advance the time, and apply the events that are due."""
        while due := [item for item in self._later if item[0] <= until]:
            first = min(due, key=lambda item: item[0])
            self._later.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = max(self.now, until)
        self.core.tick()

    def nonce(self) -> str:
        self.nonces += 1
        return f"n{self.nonces}"

    def charged(self) -> list[str]:
        """Ids of the requests that were paid for."""
        return [charge.request_id for charge in self.core.journal.charges]

    def accepted(self) -> list[str]:
        return [accepted.request_id for accepted in self.core.journal.accepted]

    def serve(self, call: HttpRequest) -> HttpResponse:
        """Respond to one call, and advance the time by its duration."""
        if call.method == "POST" and self.late is not None:
            after, self.late = self.late, None
            self._later.append((self.now + after, lambda: self._handle(call)))
            raise TransportError("connection reset", sent=True)
        answer = self._handle(call)
        if answer.wire is WireBehavior.HANG:
            self.advance(self.now + call.timeout)
            raise TransportError("time-out", sent=True)
        if answer.wire is WireBehavior.RESET:
            raise TransportError("connection reset", sent=True)
        if answer.wait_for is not None:
            self.advance(self.now + 1.0)
            answer = self.core.build_submission_response(answer.wait_for)
        headers = {"content-type": answer.content_type, **{k.lower(): v for k, v in answer.headers.items()}}
        return HttpResponse(answer.status, headers, answer.body)

    def _handle(self, call: HttpRequest) -> SandboxResponse:
        headers = {"Authorization": f"Bearer {CONFIG.api_key}", "Content-Type": call.content_type or ""}
        path = urlsplit(call.url).path
        return self.core.handle(call.method, path, dict(call.params), headers, call.body or b"")


@dataclass
class Process:
    """
    One process of Airflow: all its effects go through :meth:`io`, and end with it.

    :param name: for the trace.
    :param strikes: its faults.
    :param pause: called before each boundary, at which other processes may run.
    :param try_number: Airflow's number of the try that it runs.
    """

    world: World
    name: str
    strikes: tuple[Strike, ...] = ()
    pause: Callable[[], None] = lambda: None
    trace: list[str] = field(default_factory=list)
    reached: set[Strike] = field(default_factory=set)
    dead: bool = False
    on_term: Callable[[], None] = lambda: None
    try_number: int = 1

    def io(self, name: str, act: Callable[[], T], error: Callable[[bool], Exception] | None = None) -> T:
        """
        Cross a boundary.

        :param error: makes the exception of a call that fails, given whether it had its effect.
        """
        self._alive()
        self.pause()
        self._alive()
        self.trace.append(name)
        step = len(self.trace)
        kinds = {strike.kind for strike in self.strikes if strike.step == step}
        if error is None:
            kinds -= {Kind.ERROR_BEFORE, Kind.ERROR_AFTER}
        if not name.startswith("ledger"):
            kinds -= {Kind.SLOW}
        self.reached |= {strike for strike in self.strikes if strike.step == step and strike.kind in kinds}
        if Kind.TERM_BEFORE in kinds:
            self.on_term()
            self._die()
        if Kind.DIE_BEFORE in kinds:
            self._die()
        if Kind.ERROR_BEFORE in kinds and error is not None:
            raise error(False)
        try:
            value = act()
        finally:
            if Kind.DIE_AFTER in kinds:
                self._die()
        if Kind.SLOW in kinds:
            self.sleep(SLOWNESS)
        if Kind.ERROR_AFTER in kinds and error is not None:
            raise error(True)
        return value

    def sleep(self, seconds: float) -> None:
        self._alive()
        self.world.advance(self.world.now + max(0.0, seconds))

    def clock(self) -> float:
        return self.world.now

    def client(self) -> WanClient:
        return WanClient(CONFIG, self.transport(), sleep=lambda seconds: self.sleep(seconds))

    def transport(self) -> Transport:
        return Transport(self)

    def store(self) -> ProcessStore:
        return ProcessStore(self)

    def _alive(self) -> None:
        if self.dead:
            raise ProcessDied

    def _die(self) -> None:
        self.dead = True
        raise ProcessDied


class Transport:
    """The seam of the client, behind a boundary."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def send(self, call: HttpRequest) -> HttpResponse:
        path = urlsplit(call.url).path.removeprefix(urlsplit(BASE).path)
        parts = path.strip("/").split("/")
        name = f"api {call.method} /{parts[0]}{'/{id}' if len(parts) > 1 else ''}"
        return self._process.io(name, lambda: self._process.world.serve(call), _lost)

    def connect(self, call: HttpRequest) -> OpenRequest:
        self._process.io("api connect", lambda: None, lambda _: TransportError("connection refused", sent=False))
        return OpenRequest(self, call)

    def close(self) -> None:
        return None


class OpenRequest:
    """A request whose connection is open."""

    def __init__(self, transport: Transport, call: HttpRequest) -> None:
        self._transport = transport
        self._call = call

    def send(self, timeout: float) -> HttpResponse:
        return self._transport.send(self._call)

    def close(self) -> None:
        return None


def _lost(effect: bool) -> Exception:
    return TransportError("connection lost" if effect else "connection refused", sent=effect)


class ProcessStore:
    """The ledger as a process sees it; each call is a boundary."""

    uri = "memory:"

    def __init__(self, process: Process) -> None:
        self._process = process
        self._store = process.world.ledger

    def read(self, fingerprint: str) -> StoredEntry | None:
        return self._io("ledger read", lambda: self._store.read(fingerprint))

    def create(self, entry: LedgerEntry) -> str:
        return self._io("ledger create", lambda: self._store.create(entry))

    def replace(self, entry: LedgerEntry, version: str) -> str:
        return self._io(f"ledger replace ({entry.state})", lambda: self._store.replace(entry, version))

    def entries(self, *, modified_since: float | None = None) -> Iterator[StoredEntry]:
        return iter(self._io("ledger list", lambda: list(self._store.entries())))

    def probe(self) -> None:
        self._io("ledger probe", self._store.probe)

    def _io(self, name: str, act: Callable[[], T]) -> T:
        return self._process.io(name, act, _down)


def _down(effect: bool) -> Exception:
    return LedgerUnavailableError("no answer" if effect else "down")


def pretty(world: World) -> str:
    """Format the final state of a failed schedule."""
    entries: dict[str, Any] = {name: json.loads(text) for name, (text, _) in world.ledger.objects.items()}
    summary = {
        name: {key: entry[key] for key in ("state", "request_id", "owner", "intent_at", "history", "outcome")}
        for name, entry in entries.items()
    }
    return (
        f"accepted {world.accepted()}\ncharged {world.charged()}\nbucket {world.bucket}\n"
        f"ledger {json.dumps(summary, indent=1)}"
    )
