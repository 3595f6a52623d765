# SPDX-License-Identifier: Apache-2.0
"""The state of one request."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_provider_wan.sandbox.contract import DEFAULTS
from airflow_provider_wan.sandbox.faults import Fault


class JobStatus(StrEnum):
    """Status of a request."""

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELLED)


class JobOrigin(StrEnum):
    """How a request was created."""

    API = "api"
    """Accepted by ``POST /requests``."""
    SEED = "seed"
    """Created through the admin API."""
    CONSOLE = "console"
    """Created in the web console: listed, but answered with 404 by id."""
    REFUSED = "refused"
    """Failed record that is left by a rejection of the backend."""


@dataclass(frozen=True)
class RenderedFiles:
    """Names of the files of a finished clip."""

    video: str
    thumbnail: str | None = None


@dataclass(frozen=True)
class RenderFailure:
    """Reason why no clip could be rendered."""

    reason: str


@dataclass(slots=True)
class SandboxJob:
    """One request. Times are Unix seconds; ``run_seconds`` is already divided by the speed."""

    request_id: str
    number: int
    model: str
    payload: Mapping[str, Any]
    org_id: str
    created_at: float
    ready_at: float
    run_seconds: float
    origin: JobOrigin = JobOrigin.API
    life: Fault | None = None
    shapes: frozenset[Fault] = frozenset()
    result_fault: Fault | None = None
    status: JobStatus = JobStatus.QUEUED
    updated_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    reason: Any = None
    render: RenderedFiles | RenderFailure | None = None
    overdue: bool = False

    @property
    def duration(self) -> int:
        """Length of the clip in seconds."""
        value = self.payload.get("duration", DEFAULTS["duration"])
        return value if isinstance(value, int) and value > 0 else int(DEFAULTS["duration"])

    @property
    def resolution(self) -> str:
        """``720P`` or ``1080P``."""
        return str(self.payload.get("resolution", DEFAULTS["resolution"]))

    def price(self, prices: Mapping[str, float]) -> float:
        """Return the price of the clip in US dollars, charged on success."""
        return round(prices.get(self.resolution, 0.0) * self.duration, 6)

    def fields(self) -> dict[str, Any]:
        """Return the fields that an injected fault can match."""
        return {**self.payload, "request_id": self.request_id, "model": self.model}

    def to_dict(self) -> dict[str, Any]:
        """Return the persisted form."""
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
    def from_dict(cls, stored: Mapping[str, Any]) -> SandboxJob:
        """Build a request from its persisted form."""
        return cls(
            **{
                **stored,
                "origin": JobOrigin(stored["origin"]),
                "life": Fault(stored["life"]) if stored["life"] else None,
                "shapes": frozenset(Fault(name) for name in stored["shapes"]),
                "result_fault": Fault(stored["result_fault"]) if stored["result_fault"] else None,
                "updated_at": stored["created_at"],
            }
        )


def build_request_id(seed: int, number: int) -> str:
    """Build the id of the n-th request."""
    digest = hashlib.sha256(f"request:{seed}:{number}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
