# SPDX-License-Identifier: Apache-2.0
"""What the sandbox remembers of what was asked of it: calls, accepted requests, charges. Never a key."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call. ``status`` is 0 where the connection was left without an answer (see ``wire``)."""

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
        """The call's kind, for counting."""
        parts = self.path.strip("/").split("/")
        named = len(parts) > 1 or self.host == "result"
        kept = "/".join((*parts[:1][: len(parts) - 1], "{id}")) if named else parts[0]
        return f"{self.host} {self.method} /{kept} {self.status or self.wire}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One request that was taken in, whatever its submitter was told."""

    request_id: str
    time: float
    model: str
    payload: Mapping[str, Any]
    origin: str
    fault: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """One payment: made when a clip has been made; failures are free."""

    request_id: str
    time: float
    usd: float
    seconds: int
    resolution: str
    origin: str


class Journal:
    """The record of one sandbox.

    :param limit: calls kept in full (the newest); counters, accepted requests and charges are kept always.
    """

    def __init__(self, limit: int) -> None:
        self.calls: deque[Call] = deque(maxlen=limit)
        self.accepted: list[Accepted] = []
        self.charges: list[Charge] = []
        self.counters: Counter[str] = Counter()
        self.total_calls = 0
        self.authorization_at_results = 0

    def called(self, call: Call) -> None:
        """Write a call down."""
        self.total_calls += 1
        self.calls.append(call)
        self.counters[call.route()] += 1
        if call.host == "result" and call.authorization:
            self.authorization_at_results += 1

    def summary(self) -> dict[str, Any]:
        """Figures without the lists."""
        return {
            "calls": self.total_calls,
            "counters": dict(sorted(self.counters.items())),
            "accepted": len(self.accepted),
            "charges": len(self.charges),
            "usd": round(sum(charge.usd for charge in self.charges), 6),
            "authorization_at_results": self.authorization_at_results,
        }

    def tell_calls(self, limit: int | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Calls from number ``since`` on, oldest first, the newest ``limit`` of them."""
        found = [asdict(call) for call in self.calls if call.number >= since]
        return found if limit is None else found[len(found) - min(limit, len(found)) :]

    def tell_accepted(self) -> list[dict[str, Any]]:
        """Accepted requests, oldest first."""
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

    def tell_charges(self) -> list[dict[str, Any]]:
        """Charges, oldest first."""
        return [asdict(charge) for charge in self.charges]
