# SPDX-License-Identifier: Apache-2.0
"""One installation for all tests, brought up from docker-compose.yml by the engine that ``dev.containers`` chose."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.airflow_client import AirflowClient
from dev.compose.interpolation import read_variables
from dev.compose.variables import EXAMPLE, drawn
from dev.containers.engine import Docker
from dev.containers.installation import ComposeInstallation, copy_checkout
from dev.containers.journal import Journal
from dev.containers.packages import EngineError
from dev.stack import ROOT
from dev.testkit.airflow_harness import AirflowHarness

FOLDER = ROOT / ".run" / "containers"
PROJECT = "wan-test"
READERS = ("dag-processor", "worker", "worker-transfers", "triggerer-1", "triggerer-2")
SECRETS = [name for name, value in read_variables(EXAMPLE).items() if not value]
UNITS = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}


@pytest.fixture(scope="session")
def journal() -> Journal:
    return Journal(FOLDER / "journal.jsonl")


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Return a client; these tests run in the engine's namespaces."""
    found = Docker()
    if found.version() is None:
        pytest.exit("No Docker Engine answers here: make test-containers", 1)
    return found


class Watch:
    """Sample the memory of the containers and the command lines of all processes."""

    def __init__(self, docker: Docker, journal: Journal, secrets: list[str]) -> None:
        self.exposed: set[str] = set()
        self._docker = docker
        self._journal = journal
        self._secrets = [each.encode() for each in secrets]
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._watch_commands, self._watch_memory)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _watch_commands(self) -> None:
        # Short enough to see each health check.
        while not self._ending.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if any(secret in line for secret in self._secrets):
                    self.exposed.add(line.replace(b"\0", b" ").decode(errors="replace"))

    def _watch_memory(self) -> None:
        while not self._ending.wait(10):
            try:
                lines = self._docker.run(["docker", "stats", "--no-stream", "--format", "json"])
            except EngineError:
                continue  # a container went away meanwhile
            for line in lines.splitlines():
                usage = json.loads(line)
                if usage["Name"].startswith(f"{PROJECT}-") and "-elsewhere-" not in usage["Name"]:
                    used, _, limit = usage["MemUsage"].partition(" / ")
                    # The second installation has the same services.
                    service = usage["Name"].removeprefix(f"{PROJECT}-").removeprefix("production-").rpartition("-")[0]
                    self._journal.note("memory", service=service, used=_mebibytes(used), limit=_mebibytes(limit))


def _mebibytes(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(\w+)", text)
    assert found is not None, text
    return float(found[1]) * UNITS[found[2]]


@pytest.fixture(scope="session")
def installation(docker: Docker, journal: Journal) -> Iterator[ComposeInstallation]:
    """Start the installation from a checkout under umask 077, and wait until it is healthy."""
    checkout = FOLDER / "checkout"
    copy_checkout(checkout)
    installation = ComposeInstallation(docker, checkout, PROJECT, drawn())
    watch = Watch(docker, journal, [installation.variables[name] for name in SECRETS])
    installation.compose("down", "--volumes", "--remove-orphans")
    watch.start()
    try:
        with journal.step("docker compose build"):
            installation.compose("build")
        with journal.step("docker compose up --wait, on empty volumes"):
            installation.compose("create")
            # The image has the example DAGs only.
            for service in READERS:
                dags = f"{ROOT}/tests/containers/dags/."
                docker.run(["docker", "cp", dags, f"{PROJECT}-{service}-1:/opt/airflow/dags/"])
            installation.compose("up", "--detach", "--wait")
        installation.wait_for_dags("holding", "wan_single_clip")
        for dag_id in ("holding", "wan_single_clip"):
            unpause(installation.airflow, dag_id)
        yield installation
    finally:
        watch.stop()
        (FOLDER / "services.log").write_text(installation.compose("logs", "--no-color"))
        with journal.step("docker compose down --volumes"):
            installation.compose("down", "--volumes", "--remove-orphans")
    assert not watch.exposed, "a secret was seen in a list of processes"


def unpause(airflow: AirflowClient, dag_id: str) -> None:
    airflow.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})


@pytest.fixture(scope="session")
def harness(installation: ComposeInstallation) -> AirflowHarness:
    return AirflowHarness(installation)


@pytest.fixture(autouse=True)
def timed(request: pytest.FixtureRequest, journal: Journal, installation: Any) -> Iterator[None]:
    """Record each test's duration in the journal."""
    with journal.step(request.node.name.removeprefix("test_").replace("_", " ")):
        yield
