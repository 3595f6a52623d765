# SPDX-License-Identifier: Apache-2.0
"""Settings of the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from airflow_provider_wan.sandbox.faults import Fault

BASE_PATH = "/api/v1/ie/requestqueue/apikey"
DEFAULT_KEY = "sandbox-key"
MODEL = "wan2.6-i2v"
MODEL_27 = "wan2.7-i2v"
UPLOAD_SECONDS = 899


class RenderMode(StrEnum):
    """Kind of the result files."""

    REAL = "real"
    """The image is downloaded and validated, and an animated H.264 clip is rendered from it."""
    TINY = "tiny"
    """The image is downloaded and validated; the clip has the right size and length, but a plain picture."""
    NONE = "none"
    """Nothing is downloaded or rendered; the bytes of the result come from a function."""


class CancelMode(StrEnum):
    """Behavior of ``DELETE /requests/{id}``, which the API does not document."""

    WORKS = "works"
    """A queued request is cancelled; a running one is answered with 409."""
    IGNORED = "ignored"
    """Answered with 200, without effect."""
    MISSING = "missing"
    """Answered with 404."""


@dataclass(frozen=True)
class SandboxConfig:
    """Settings of a sandbox. Times are in seconds, money in US dollars.

    :param api_key: the accepted API key.
    :param organizations: organization ids of the account; the first is used if no header names one.
        Empty: any ``X-Organization-ID`` is accepted.
    :param models: ids of the available models, case-sensitive. One without rules of its own takes any payload.
    :param drop_unknown: whether unknown parameters are dropped without a word instead of refused.
    :param seed: seed of latencies, request ids, fault rates and clips without a seed.
    :param speed: divisor of all queue and run times.
    :param run_seconds: median run times at 720P by clip duration (before ``speed``).
    :param full_hd_factor: factor of the run time at 1080P.
    :param run_sigma: sigma of the lognormal run time; 0: exactly the median.
    :param queue_seconds: median queue time (before ``speed``).
    :param queue_sigma: sigma of the lognormal queue time.
    :param late_failure_seconds: run time until a late failure (before ``speed``).
    :param concurrency: number of requests that run concurrently; None: no limit.
    :param submits_per_second: rate limit, answered with 429; None: no limit.
    :param submits_per_hour: rate limit, answered with 429; None: no limit.
    :param reads_per_second: rate limit of GET calls, answered with 429; None: no limit.
    :param retry_after: whether 429 and 503 carry ``Retry-After``.
    :param credits: US dollars on the account; None: unlimited.
    :param prices: US dollars per second of video, by resolution.
    :param cancel: behaviour of DELETE.
    :param echo_payload: whether responses echo the payload.
    :param list_totals: whether list responses contain ``total`` and ``has_more``.
    :param clock_skew: seconds by which the times in responses run ahead of the clock.
    :param list_lag: seconds until a new request appears in the list.
    :param list_max: maximum page size of the list.
    :param rates: probability of each fault.
    :param render: kind of the result files.
    :param render_workers: number of threads that render clips.
    :param fetch_seconds: timeout of media downloads.
    :param result_seconds: lifetime of result URLs; None: unlimited.
    :param hang_seconds: seconds that a hanging call keeps its connection.
    :param slow_seconds: delay of a slow response.
    :param slow_bytes_per_second: throughput of a slow result.
    :param huge_bytes: size of a huge result.
    :param journal_limit: number of calls that the journal keeps in full; its counters are complete.
    """

    api_key: str = DEFAULT_KEY
    organizations: tuple[str, ...] = ()
    models: tuple[str, ...] = (MODEL, MODEL_27)
    drop_unknown: bool = False
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
