# SPDX-License-Identifier: Apache-2.0
"""
A task instance as Airflow runs it: execute, the trigger, and a new instance to resume.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.triggers.wan import WanI2VTrigger
from dev.explore.seams import run_async, running_as
from dev.explore.world import Process, ProcessDied, Strike, World

IMAGE = "https://images.example.com/cat.png?X-Amz-Signature=5d1c0ffee5d1c0ff"
TIMEOUT = 1800.0
POLL_INTERVAL = 200.0
RESTART = 10.0


class Broken(AssertionError):
    """A promise was broken."""


@dataclass
class Task:
    """
    One task instance, through its retries and clears.

    :param run: its dag run.
    :param deferrable: waits in the triggerer, or else in the worker.
    :param seed: the user's seed.
    """

    world: World
    run: str
    deferrable: bool = True
    seed: int | None = None
    tries: int = 0
    result: str | None = None
    outcomes: list[str] = field(default_factory=list)
    trigger: dict[str, Any] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """Return the requested payload; without a seed if the user chose none."""
        request = I2VRequest(img_url=IMAGE, prompt="a cat", resolution="720P", seed=self.seed)
        return request.to_payload()

    def process(self, *strikes: Strike) -> Process:
        """Return the process of the next try."""
        self.tries += 1
        return Process(self.world, f"{self.run}, try {self.tries}", strikes, try_number=self.tries)

    def attempt(self, process: Process, *, cleared_when_deferred: bool = False) -> None:
        """
        Run one try to its end, and record how it ended.

        :param cleared_when_deferred: it ends where it has deferred; the trigger is kept.
        """
        self.trigger = None
        try:
            with running_as(process):
                self._run(process, cleared_when_deferred)
        except ProcessDied:
            self.outcomes.append("died")
        except AirflowFailException as error:
            self.outcomes.append(f"for good: {error}")
        except WanError as error:
            # Airflow shows these errors. Any other is a defect and is raised.
            self.outcomes.append(f"{type(error).__name__}: {error}")

    def kill(self, process: Process) -> None:
        """Do what the triggerer does where a user kills the deferred task."""
        if self.trigger is None:
            return
        try:
            with running_as(process):
                run_async(process, WanI2VTrigger(**self.trigger).on_kill())
        except ProcessDied:
            return

    def _run(self, process: Process, cleared_when_deferred: bool) -> None:
        operator = self._operator()
        context = self._context(process)
        process.on_term = operator.on_kill
        step: Callable[[], Any] = lambda: operator.execute(context)  # noqa: E731
        while True:
            try:
                result = step()
            except TaskDeferred as deferred:
                process.on_term = lambda: None
                self._known(str(deferred.trigger.request_id))
                process.io("defer", lambda: None)
                _, arguments = deferred.trigger.serialize()
                self.world.texts.append(json.dumps(arguments))
                self.trigger = json.loads(self.world.texts[-1])
                if cleared_when_deferred:
                    self.outcomes.append("cleared")
                    return
                event = self._triggered(process, self.trigger)
                # The worker that resumes is another process and has only the event.
                resumed = getattr(self._operator(), deferred.method_name)
                step = partial(resumed, context, event)
            else:
                self._succeeded(process, json.loads(json.dumps(result)))
                return

    def _triggered(self, process: Process, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run the trigger as the triggerer does: where that dies, another one starts it anew."""
        while True:
            try:
                event = run_async(process, anext(cast(AsyncGenerator[Any, None], WanI2VTrigger(**arguments).run())))
                self.world.texts.append(json.dumps(event.payload))
                payload: dict[str, Any] = json.loads(self.world.texts[-1])
                process.io("fire the event", lambda: None)
                return payload
            except ProcessDied:
                process.dead = False
                process.sleep(RESTART)

    def _succeeded(self, process: Process, result: dict[str, Any]) -> None:
        process.io("return the result", lambda: None)
        self.world.texts.append(json.dumps(result))
        self.result = str(result["request_id"])
        # The downstream task: WanToS3Operator, with its own retries.
        self.world.bucket[self.result] = self.run
        self.outcomes.append("success")

    def _known(self, request_id: str) -> None:
        """Check that another process would find the request if this one died now."""
        request_ids = [stored.entry.request_id for stored in self.world.ledger.entries()]
        if request_id not in request_ids:
            raise Broken("it defers, and the ledger does not name the request")

    def _operator(self) -> WanI2VOperator:
        return WanI2VOperator(
            task_id="clip",
            img_url=IMAGE,
            prompt="a cat",
            resolution="720P",
            seed=self.seed,
            deferrable=self.deferrable,
            timeout=TIMEOUT,
            poll_interval=POLL_INTERVAL,
            reuse="content",
            ledger_uri="s3://where/all/runs/share/it",
            probe_urls=False,
        )

    def _context(self, process: Process) -> Any:
        def push(key: str, value: Any) -> None:
            process.io("push an XCom", lambda: self.world.texts.append(json.dumps({key: value})))

        ti = SimpleNamespace(
            dag_id="dag", run_id=self.run, task_id="clip", map_index=-1, try_number=process.try_number, xcom_push=push
        )
        return {"ti": ti, "dag_run": SimpleNamespace(conf={}, run_id=self.run)}
