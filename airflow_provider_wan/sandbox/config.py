# SPDX-License-Identifier: Apache-2.0
"""How a sandbox behaves: every knob in one frozen place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from airflow_provider_wan.sandbox.faults import Fault

BASE_PATH = "/api/v1/ie/requestqueue/apikey"
DEFAULT_KEY = "sandbox-key"
MODEL = "wan2.6-i2v"
UPLOAD_SECONDS = 899


class RenderMode(StrEnum):
    """What a successful request's file is."""

    REAL = "real"
    """The image is fetched and checked, and a moving H.264 clip is made of it."""
    TINY = "tiny"
    """The image is fetched and checked; the clip has the right size and length, but is plain."""
    NONE = "none"
    """Nothing is fetched or made; the result's bytes come from a function."""


class CancelMode(StrEnum):
    """What ``DELETE /requests/{id}`` does; the call is undocumented."""

    WORKS = "works"
    """A queued request becomes cancelled; one that runs answers 409."""
    IGNORED = "ignored"
    """Answers 200 and changes nothing."""
    MISSING = "missing"
    """Answers 404."""


@dataclass(frozen=True)
class SandboxConfig:
    """Settings of a sandbox. Times are in seconds, money in US dollars.

    :param api_key: the one key that is let in.
    :param organizations: the account's organisation ids; the first is used where no header names one.
        Empty: any ``X-Organization-ID`` is let in.
    :param models: ids that exist, case-sensitive.
    :param seed: makes latencies, request ids, fault rolls and unseeded clips repeatable.
    :param speed: every waiting and running time is divided by it.
    :param run_seconds: median run times at 720P by clip duration (before ``speed``).
    :param full_hd_factor: how much longer 1080P runs.
    :param run_sigma: sigma of the lognormal run time; 0 makes it exact.
    :param queue_seconds: median of the wait in the queue (before ``speed``).
    :param queue_sigma: sigma of the lognormal queue wait.
    :param late_failure_seconds: when a late failure strikes (before ``speed``).
    :param concurrency: how many requests run at once; None: no limit.
    :param submits_per_second: above it, 429; None: no limit.
    :param submits_per_hour: above it, 429; None: no limit.
    :param reads_per_second: above it, GET answers 429; None: no limit.
    :param retry_after: whether 429 and 503 carry ``Retry-After``.
    :param credits: dollars on the account; None: without end.
    :param prices: dollars a second of video by resolution.
    :param cancel: what DELETE does.
    :param echo_payload: whether answers echo the payload.
    :param list_totals: whether list answers hold ``total`` and ``has_more``.
    :param clock_skew: how far the times in answers are ahead of the clock.
    :param list_lag: for how long a new request is not yet in the list.
    :param list_max: the largest page that is given.
    :param rates: probability of each fault, rolled with the seed.
    :param render: what a clip's file is.
    :param render_workers: threads that make clips.
    :param fetch_seconds: time-out for fetching media.
    :param result_seconds: lifetime of a result's URL; None: without end.
    :param hang_seconds: for how long a hanging answer keeps its connection.
    :param slow_seconds: the delay of a slow answer.
    :param slow_bytes_per_second: throughput of a slow result.
    :param huge_bytes: size of a huge result.
    :param journal_limit: calls that the journal keeps in full; the counters go on.
    """

    api_key: str = DEFAULT_KEY
    organizations: tuple[str, ...] = ()
    models: tuple[str, ...] = (MODEL,)
    seed: int = 0
    speed: float = 1.0
    run_seconds: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({5: 60.0, 10: 110.0, 15: 170.0}))
    full_hd_factor: float = 1.6
    run_sigma: float = 0.3
    queue_seconds: float = 20.0
    queue_sigma: float = 0.8
    late_failure_seconds: float = 600.0
    concurrency: int | None = None
    submits_per_second: int | None = None
    submits_per_hour: int | None = None
    reads_per_second: int | None = None
    retry_after: bool = True
    credits: float | None = None
    prices: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"720P": 0.10, "1080P": 0.15}))
    cancel: CancelMode = CancelMode.WORKS
    echo_payload: bool = True
    list_totals: bool = True
    clock_skew: float = 0.0
    list_lag: float = 0.0
    list_max: int = 1000
    rates: Mapping[Fault, float] = field(default_factory=lambda: MappingProxyType({}))
    render: RenderMode = RenderMode.REAL
    render_workers: int = 2
    fetch_seconds: float = 10.0
    result_seconds: float | None = None
    hang_seconds: float = 3600.0
    slow_seconds: float = 5.0
    slow_bytes_per_second: int = 64 * 1024
    huge_bytes: int = 1024**3
    journal_limit: int = 100_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "render", RenderMode(self.render))
        object.__setattr__(self, "cancel", CancelMode(self.cancel))
        object.__setattr__(self, "rates", {Fault(name): float(rate) for name, rate in self.rates.items()})
        if self.speed <= 0:
            raise ValueError(f"speed is {self.speed}: it must be above 0")
        for fault, rate in self.rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {fault.value} is {rate}: it must be within 0 and 1")
