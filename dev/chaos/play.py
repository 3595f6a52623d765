# SPDX-License-Identifier: Apache-2.0
"""Play a plan on a cluster while its runs go on, and observe them from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from botocore.exceptions import BotoCoreError, ClientError

from dev.chaos.network import Network
from dev.chaos.plan import CLOCK_SKEW, SLOW_SECONDS, Effect, Trouble
from dev.cluster import Cluster
from dev.component import StackError
from dev.seaweed import SeaweedError, set_read_only

SAMPLE_SECONDS = 4.0
FINAL = frozenset({"success", "failed"})


@dataclass
class Sample:
    """Counts at one moment, observed from outside."""

    at: float
    accepted: int
    charged: int
    archived: int


@dataclass
class Course:
    """The course of a run: its faults, samples and final states.

    :param played: each trouble with the times at which it really began and ended.
    """

    samples: list[Sample] = field(default_factory=list)
    played: list[tuple[Trouble, float, float]] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Player:
    """Play the faults of a plan at their times.

    :param network: the relays of the services that are cut off.
    :param say: called with each message.
    """

    def __init__(self, cluster: Cluster, network: Network, plan: Sequence[Trouble], say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._network = network
        self._coming = list(plan)
        self._going: list[tuple[Trouble, float]] = []
        self._say = say
        self._began = time.monotonic()
        self._api_knows = False
        self._unsent_faults: list[tuple[str, int]] = []
        self._is_full = False
        self.course = Course()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def play(self, runs: dict[str, str], *, seconds: float) -> Course:
        """Play all faults, and wait until the runs end. :param runs: Dag → run id. :param seconds: at most."""
        sampled = -SAMPLE_SECONDS
        while self.now < seconds:
            self._step()
            if self.now - sampled >= SAMPLE_SECONDS:
                sampled = self.now
                self._sample()
                self._record_run_states(runs)
                if not self._coming and not self._going and set(self.course.states.values()) <= FINAL:
                    break
            time.sleep(0.2)
        self.course.seconds = self.now
        return self.course

    def configure_api(self) -> None:
        """Put the API's clock ahead and configure its faults, as soon as its admin API responds."""
        try:
            self._cluster.sandbox_admin("state", "POST", clock_skew=CLOCK_SKEW)
            self._cluster.sandbox_admin("rates", "POST", **self._rates())
            while self._unsent_faults:
                fault, count = self._unsent_faults[0]
                self._cluster.sandbox_admin("faults", "POST", fault=fault, count=count)
                del self._unsent_faults[0]
            self._api_knows = True
        except requests.RequestException:
            self._api_knows = False

    def _rates(self) -> dict[str, float]:
        """Return the rate of each fault in the plan: 0 for inactive ones."""
        rates: dict[str, float] = {}
        for trouble in (*self._coming, *(each for each, _, _ in self.course.played)):
            rates.update(dict.fromkeys(trouble.rates, 0.0))
        for trouble, _ in self._going:
            rates.update(trouble.rates)
        return rates

    def _step(self) -> None:
        if not self._api_knows:
            self.configure_api()
        self._configure_s3()
        for trouble, began in list(self._going):
            if self.now < began + trouble.seconds:
                continue
            self._going.remove((trouble, began))
            self.course.played.append((trouble, began, self.now))
            self._end(trouble)
            self._say(f"{trouble.name}: over")
        while self._coming and self._coming[0].at <= self.now:
            trouble = self._coming.pop(0)
            if any((each.service, each.effect) == (trouble.service, trouble.effect) for each, _ in self._going):
                continue
            self._say(f"{trouble.name}, for {trouble.seconds:.0f} s")
            began = self.now
            self._begin(trouble)
            self._going.append((trouble, began))

    def _begin(self, trouble: Trouble) -> None:
        match trouble.effect:
            case Effect.KILLED:
                try:
                    self._cluster.engine.kill(trouble.service)
                except StackError as error:
                    self._say(str(error))
            case Effect.CUT_OFF:
                self._network.cut_off(trouble.service)
            case Effect.SLOW:
                self._network.slow_down(trouble.service, SLOW_SECONDS)
            case Effect.FAULTY:
                self._api_knows = False
                self._unsent_faults += trouble.strikes.items()

    def _end(self, trouble: Trouble) -> None:
        match trouble.effect:
            case Effect.KILLED:
                self._cluster.engine.start(trouble.service)
                if trouble.service == "sandbox":
                    # It has lost its faults.
                    self._api_knows = False
            case Effect.CUT_OFF:
                self._network.reconnect(trouble.service)
            case Effect.SLOW:
                self._network.slow_down(trouble.service, 0.0)
            case Effect.FAULTY:
                self._api_knows = False

    def _configure_s3(self) -> None:
        """Let S3 refuse all writes, or none, as soon as it is there."""
        full = any(trouble.effect is Effect.FULL for trouble, _ in self._going)
        if full == self._is_full or not self._cluster.engine.components["s3"].running:
            return
        engine = self._cluster.engine
        master, filer = (
            f"{engine.address('s3', http)}.{engine.address('s3', grpc).rpartition(':')[2]}"
            for http, grpc in ((9333, 19333), (8888, 18888))
        )
        try:
            set_read_only(master, filer, self._cluster.bucket, full)
            self._is_full = full
        except SeaweedError as error:
            self._say(f"S3 cannot be configured yet: {error}")

    def _sample(self) -> None:
        try:
            accepted = len(self._cluster.sandbox_admin("accepted")["accepted"])
            charged = len(self._cluster.sandbox_admin("charges")["charges"])
            archived = len(clips(self._cluster))
        except (requests.RequestException, BotoCoreError, ClientError):
            return
        self.course.samples.append(Sample(self.now, accepted, charged, archived))

    def _record_run_states(self, runs: dict[str, str]) -> None:
        try:
            for dag_id, run_id in runs.items():
                self.course.states[dag_id] = self._cluster.airflow.run(dag_id, run_id)["state"]
        except requests.RequestException:
            return


def clips(cluster: Cluster, prefix: str = "chaos/") -> set[str]:
    """Keys of the clips in the bucket."""
    # Give up at once: S3 may be down on purpose.
    s3 = cluster.s3_client(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=cluster.bucket, Prefix=prefix)
    return {each["Key"] for page in pages for each in page.get("Contents", []) if each["Key"].endswith(".mp4")}


def count_states(cluster: Cluster, runs: dict[str, str]) -> tuple[Counter[str], int, list[dict[str, Any]]]:
    """Return the number of task instances by state, the number of retries, and the instances without success."""
    states: Counter[str] = Counter()
    again, bad = 0, []
    for dag_id, run_id in runs.items():
        for instance in cluster.airflow.task_instances(dag_id, run_id):
            state = instance["state"] or "none"
            states[state] += 1
            again += max(0, instance["try_number"] - 1)
            if state != "success":
                bad.append(instance)
    return states, again, bad
