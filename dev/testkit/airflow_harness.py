# SPDX-License-Identifier: Apache-2.0
"""Actions of the system tests on a stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dev.component import wait_for
from dev.installation import Installation
from dev.stack import ROOT

BUCKET = "wan-media"
PHOTOS = ROOT / "dev" / "photos"


@dataclass(frozen=True)
class DagRunHandle:
    """One Dag run."""

    harness: AirflowHarness
    dag_id: str
    run_id: str

    def end(self, seconds: float = 120) -> str:
        """Wait for its final state."""
        return self.harness.stack.airflow.wait_for_run(self.dag_id, self.run_id, seconds=seconds)

    def tasks(self) -> dict[tuple[str, int], str]:
        """State by task and map index."""
        instances = self.harness.stack.airflow.task_instances(self.dag_id, self.run_id)
        return {(each["task_id"], each["map_index"]): each["state"] or "none" for each in instances}

    def wait_for(self, task_id: str, state: str, seconds: float = 90) -> None:
        what = f"{self.dag_id}.{task_id} to be {state}"
        wait_for(what, lambda: self.tasks().get((task_id, -1)) == state, seconds=seconds, every=0.5)

    def result(self, task_id: str, map_index: int = -1) -> Any:
        return self.harness.stack.airflow.xcom(self.dag_id, self.run_id, task_id, map_index=map_index)

    def log(self, task_id: str, attempt: int = 1) -> str:
        """Return the task's log as a person reads it."""
        return self.harness.stack.airflow.task_log(self.dag_id, self.run_id, task_id, attempt=attempt)

    def clear(self, *task_ids: str, **options: Any) -> None:
        self.harness.stack.airflow.clear(self.dag_id, self.run_id, list(task_ids), **options)

    def mark(self, task_id: str, state: str) -> None:
        """Set a task's state, as a person does in the UI."""
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}"
        self.harness.stack.airflow.call("PATCH", path, json={"new_state": state})


class AirflowHarness:
    """Start runs, and configure how the sandbox treats their requests."""

    def __init__(self, stack: Installation) -> None:
        self.stack = stack
        stack.s3_client().upload_file(str(PHOTOS / "coffee.jpg"), BUCKET, "photos/coffee.jpg")
        self.photo = f"s3://{BUCKET}/photos/coffee.jpg"

    def start(self, dag_id: str, prompt: str, **conf: Any) -> DagRunHandle:
        """Start a Dag that makes one clip of the photograph. The prompt identifies the run."""
        conf = {"image": self.photo, "prompt": prompt, "target": f"s3://{BUCKET}/made/{dag_id}.mp4", **conf}
        return DagRunHandle(self, dag_id, self.stack.airflow.trigger(dag_id, conf=conf))

    def fault(self, name: str, prompt: str) -> None:
        """Apply a fault to the next request with this prompt."""
        self.stack.sandbox_admin("faults", "POST", fault=name, match={"prompt": prompt})

    def accepted(self, prompt: str) -> list[str]:
        """Return the ids of the requests with this prompt that the sandbox accepted."""
        accepted = self.stack.sandbox_admin("accepted")["accepted"]
        return [each["request_id"] for each in accepted if each["payload"].get("prompt") == prompt]

    def charges(self) -> dict[str, float]:
        """US dollars by request id. :raises AssertionError: when one was charged twice."""
        listed = self.stack.sandbox_admin("charges")["charges"]
        charges = {each["request_id"]: each["usd"] for each in listed}
        assert len(charges) == len(listed), "a request was charged twice"
        return charges

    def force(self, request_id: str, status: str) -> None:
        """Set a request's status."""
        self.stack.sandbox_admin(f"requests/{request_id}", "POST", status=status)

    @contextmanager
    def requests_paused(self) -> Iterator[None]:
        """Requests that are submitted within the context do not finish by themselves."""
        self.stack.sandbox_admin("state", "POST", speed=0.001)
        try:
            yield
        finally:
            self.stack.sandbox_admin("state", "POST", speed=12)
