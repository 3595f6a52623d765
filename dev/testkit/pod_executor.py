# SPDX-License-Identifier: Apache-2.0
"""KubernetesExecutor without Kubernetes: each task is the command of its pod, as a process in its own session."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from airflow.executors.base_executor import BaseExecutor


class PodExecutor(BaseExecutor):  # type: ignore[misc, unused-ignore]
    """Run the command of KubernetesExecutor's pods, and report the end of the process as that of the pod."""

    def start(self) -> None:
        self._pods: dict[Any, subprocess.Popen[bytes]] = {}

    def _process_workloads(self, workloads: Sequence[Any]) -> None:
        for workload in workloads:
            key = workload.ti.key
            self.queued_tasks.pop(key)
            module = "airflow.sdk.execution_time.execute_workload"
            command = [sys.executable, "-m", module, "--json-string", workload.model_dump_json()]
            self._pods[key] = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
            self.running.add(key)

    def sync(self) -> None:
        for key, pod in list(self._pods.items()):
            if (code := pod.poll()) is not None:
                del self._pods[key]
                (self.fail if code else self.success)(key)

    def end(self) -> None:
        for pod in self._pods.values():
            pod.wait()

    def terminate(self) -> None:
        for pod in self._pods.values():
            pod.kill()
