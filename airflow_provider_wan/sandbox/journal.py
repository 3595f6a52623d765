# SPDX-License-Identifier: Apache-2.0
"""The journal of calls, accepted requests and charges. It never contains a key."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call. ``status`` is 0 if no response was sent (see ``wire``)."""

    number: int
    time: float
    host: str
    method: str
    path: str
    status: int
    wire: str
    request_id: str | None
    accepted: bool
    authorization: bool
    fault: str | None
    limit: str | None
    offset: str | None

    def route(self) -> str:
        """Return the kind of call, for counting."""
        parts = self.path.strip("/").split("/")
        named = len(parts) > 1 or self.host == "result"
        normalized = "/".join((*parts[:1][: len(parts) - 1], "{id}")) if named else parts[0]
        return f"{self.host} {self.method} /{normalized} {self.status or self.wire}"


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """One accepted request, whatever its client was answered."""

    request_id: str
    time: float
    model: str
    payload: Mapping[str, Any]
    origin: str
    fault: str | None


@dataclass(frozen=True, slots=True)
class ChargeRecord:
    """One charge, made when a clip is finished; failures are free."""

    request_id: str
    time: float
    usd: float
    seconds: int
    resolution: str
    origin: str


class CallJournal:
    """The journal of one sandbox.

    :param limit: number of calls kept in full (the newest); counters, accepted requests and charges are complete.
    """

    def __init__(self, limit: int) -> None:
        self.calls: deque[CallRecord] = deque(maxlen=limit)
        self.accepted: list[AcceptedRecord] = []
        self.charges: list[ChargeRecord] = []
        self.counters: Counter[str] = Counter()
        self.total_calls = 0
        self.authorization_at_results = 0

    def record_call(self, call: CallRecord) -> None:
        """Record a call."""
        self.total_calls += 1
        self.calls.append(call)
        self.counters[call.route()] += 1
        if call.host == "result" and call.authorization:
            self.authorization_at_results += 1

    def summary(self) -> dict[str, Any]:
        """Return the counters and totals."""
        return {
            "calls": self.total_calls,
            "counters": dict(sorted(self.counters.items())),
            "accepted": len(self.accepted),
            "charges": len(self.charges),
            "usd": round(sum(charge.usd for charge in self.charges), 6),
            "authorization_at_results": self.authorization_at_results,
        }

    def list_calls(self, limit: int | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Return calls from number ``since`` on, oldest first, only the newest ``limit`` of them."""
        found = [asdict(call) for call in self.calls if call.number >= since]
        return found if limit is None else found[len(found) - min(limit, len(found)) :]

    def list_accepted(self) -> list[dict[str, Any]]:
        """Return accepted requests, oldest first."""
        return [
            {
                "request_id": entry.request_id,
                "time": entry.time,
                "model": entry.model,
                "payload": dict(entry.payload),
                "origin": entry.origin,
                "fault": entry.fault,
            }
            for entry in self.accepted
        ]

    def list_charges(self) -> list[dict[str, Any]]:
        """Return charges, oldest first."""
        return [asdict(charge) for charge in self.charges]
