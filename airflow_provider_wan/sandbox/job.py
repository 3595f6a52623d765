# SPDX-License-Identifier: Apache-2.0
"""A request as the sandbox knows it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_provider_wan.sandbox.checks import DEFAULTS
from airflow_provider_wan.sandbox.faults import Fault


class Status(StrEnum):
    """Where a request stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in (Status.SUCCESS, Status.FAILED, Status.CANCELLED)


class Origin(StrEnum):
    """How a request came to be."""

    API = "api"
    """Accepted by ``POST /requests``."""
    SEED = "seed"
    """Made through the admin API."""
    CONSOLE = "console"
    """Made in the web console: listed, and 404 by id."""
    REFUSED = "refused"
    """The failed record that a refusal by the back end leaves."""


@dataclass(frozen=True)
class Rendered:
    """The files of a finished clip, by name."""

    video: str
    thumbnail: str | None = None


@dataclass(frozen=True)
class RenderFailed:
    """Why no clip could be made."""

    reason: str


@dataclass(slots=True)
class Job:
    """One request. Times are Unix seconds; ``run_seconds`` is after the speed-up."""

    request_id: str
    number: int
    model: str
    payload: Mapping[str, Any]
    org_id: str
    created_at: float
    ready_at: float
    run_seconds: float
    origin: Origin = Origin.API
    life: Fault | None = None
    shapes: frozenset[Fault] = frozenset()
    result_fault: Fault | None = None
    status: Status = Status.QUEUED
    updated_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    reason: Any = None
    render: Rendered | RenderFailed | None = None
    overdue: bool = False

    @property
    def duration(self) -> int:
        """Length of the clip in seconds."""
        return int(self.payload.get("duration", DEFAULTS["duration"]))

    @property
    def resolution(self) -> str:
        """``720P`` or ``1080P``."""
        return str(self.payload.get("resolution", DEFAULTS["resolution"]))

    def price(self, prices: Mapping[str, float]) -> float:
        """What the clip costs in dollars when it succeeds."""
        return round(prices[self.resolution] * self.duration, 6)

    def fields(self) -> dict[str, Any]:
        """What an injected fault may be matched with."""
        return {**self.payload, "request_id": self.request_id, "model": self.model}

    def to_dict(self) -> dict[str, Any]:
        """What is kept on disk."""
        return {
            "request_id": self.request_id,
            "number": self.number,
            "model": self.model,
            "payload": dict(self.payload),
            "org_id": self.org_id,
            "created_at": self.created_at,
            "ready_at": self.ready_at,
            "run_seconds": self.run_seconds,
            "origin": self.origin,
            "life": self.life,
            "shapes": sorted(self.shapes),
            "result_fault": self.result_fault,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Job:
        """The reverse of :meth:`to_dict`."""
        return cls(
            **{
                **kept,
                "origin": Origin(kept["origin"]),
                "life": Fault(kept["life"]) if kept["life"] else None,
                "shapes": frozenset(Fault(name) for name in kept["shapes"]),
                "result_fault": Fault(kept["result_fault"]) if kept["result_fault"] else None,
                "updated_at": kept["created_at"],
            }
        )


def request_id_of(seed: int, number: int) -> str:
    """The id of a sandbox's n-th request."""
    digest = hashlib.sha256(f"request:{seed}:{number}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
