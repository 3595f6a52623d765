# SPDX-License-Identifier: Apache-2.0
"""A whole local installation in one folder: S3 (SeaweedFS), the API's sandbox, and a real Airflow.

>>> with Stack(Path(".run/mine"), dags={"dags": Path("dags")}) as stack:                     # doctest: +SKIP
...     run_id = stack.airflow.trigger("wan_single_clip", conf={...})
...     stack.airflow.wait_for_run("wan_single_clip", run_id, seconds=120)

Every part is a :class:`dev.component.Component`: it has a log file, can be killed and started again, and ends with
the process that made the stack, however that one ends. All ports are free ones on 127.0.0.1.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import psutil

from dev.airflow_client import AirflowClient
from dev.airflow_home import USER, airflow_command, clean_environment, make_home
from dev.component import Component, StackError, wait_for
from dev.installation import REGION, Installation

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / ".run" / "templates"
HEALTHY_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
# The log servers are for machines that do not share a disk.
AIRFLOW_PARTS = {
    "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now, all bound while they are picked, so that they differ."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _python(module: str, options: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-m", module, *(f"--{name}={value}" for name, value in options.items())]


class Stack(Installation):
    """The parts, started together and stopped together.

    :param folder: holds everything: data, databases, logs. It is emptied first.
    :param dags: bundle name → folder of Dag files.
    :param speed: how many times faster than the real service the sandbox's clock runs.
    :param sandbox_options: further command-line options of the sandbox.
    :param airflow_options: section → option → value, on top of the settings for a small machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: Mapping[str, Path],
        speed: float = 60,
        sandbox_options: Sequence[str] = (),
        airflow_options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.api_key = f"sandbox-{secrets.token_urlsafe(24)}"
        self.s3_keys = (f"dev{secrets.token_hex(8)}", secrets.token_hex(20))
        self.components: dict[str, Component] = {}
        self._dags = dict(dags)
        self._speed = speed
        self._sandbox_options = tuple(sandbox_options)
        self._airflow_options = airflow_options

    # --- start and stop -----------------------------------------------------------------------
    def start(self) -> Stack:
        """Start all parts at once, wait until each is healthy, and put the two connections into Airflow.

        :raises StackError: with the last log lines of the part that failed. Nothing is left running then.
        """
        try:
            self._prepare()
            for component in self.components.values():
                component.start()
            self._wait_until_healthy()
            self._add_connections()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all parts; returns when no process of the stack is left. A second call does nothing."""
        for component in self.components.values():
            component.signal_stop()
        failures = []
        for component in self.components.values():
            try:
                component.stop()
            except StackError as error:
                failures.append(str(error))
        if failures:
            raise StackError("; ".join(failures))

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Component:
        return self.components[name]

    def check(self) -> None:
        """:raises StackError: when a part has died."""
        for component in self.components.values():
            component.check()

    def _prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        api, self.s3_port, self.sandbox_port, self.result_port, self.metrics_port = free_ports(5)
        self.home = make_home(
            self.folder / "airflow",
            port=api,
            dags=self._dags,
            templates=TEMPLATES,
            overrides=self._airflow_options,
        )
        self.airflow = AirflowClient(self.home.url, USER, self.home.password)
        plain = clean_environment(self.folder)
        self._ready = self.folder / "s3.ready"
        s3 = {
            "data-dir": self.folder / "s3",
            "port": self.s3_port,
            "ready": self._ready,
            "metrics-port": self.metrics_port,
        }
        keys = {"S3_ACCESS_KEY": self.s3_keys[0], "S3_SECRET_KEY": self.s3_keys[1]}
        self._add("s3", _python("dev.s3_server", s3), {**plain, **keys})
        sandbox = {
            "host": "127.0.0.1",
            "port": self.sandbox_port,
            "result-port": self.result_port,
            "speed": self._speed,
            "seed": 1,
            "data-dir": self.folder / "sandbox",
            "state": self.folder / "sandbox" / "state.jsonl",
        }
        command = [*_python("airflow_provider_wan.sandbox", sandbox), *self._sandbox_options]
        self._add("sandbox", command, {**plain, "WAN_SANDBOX_API_KEY": self.api_key})
        for part, options in AIRFLOW_PARTS.items():
            self._add(part, airflow_command(part, *options), {**plain, "AIRFLOW_HOME": str(self.home.path)})

    def _add(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.components[name] = Component(name, command, env=env, cwd=ROOT, log_dir=self.logs)

    def _wait_until_healthy(self) -> None:
        parts = list(self.components.values())
        wait_for("SeaweedFS", self._ready.exists, seconds=90, parts=parts)
        wait_for("the sandbox", lambda: _listens(self.sandbox_port), seconds=60, parts=parts)

        def healthy() -> bool:
            health = self.airflow.health()
            return all(health.get(part) == "healthy" for part in HEALTHY_PARTS)

        wait_for("Airflow to be healthy", healthy, seconds=180, every=0.5, parts=parts)

    # --- connections of Airflow ---------------------------------------------------------------
    @property
    def s3_url(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def sandbox_origin(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def sandbox_url(self) -> str:
        """Base URL of the API, as a connection wants it."""
        return f"{self.sandbox_origin}/api/v1/ie/requestqueue/apikey"

    def _add_connections(self) -> None:
        access, secret = self.s3_keys
        self.airflow.put_connection(
            "aws_default",
            conn_type="aws",
            login=access,
            password=secret,
            extra={"endpoint_url": self.s3_url, "region_name": REGION},
        )
        self.airflow.put_connection("wan_default", conn_type="wan", host=self.sandbox_url, password=self.api_key)

    # --- observation --------------------------------------------------------------------------
    def _dag_readers(self) -> Sequence[Component]:
        return [self["dag-processor"]]

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """
        Pause all other writers of Airflow's database.

        It is SQLite: the long transaction that creates a backfill fails if another process writes meanwhile.
        """
        writers = [self[name] for name in ("scheduler", "triggerer", "dag-processor")]
        for writer in writers:
            writer.stop()
        try:
            yield
        finally:
            for writer in writers:
                writer.start()

    def busy_workers(self) -> list[str]:
        """Titles of the LocalExecutor's worker processes that are running a task right now."""
        busy = []
        for process in psutil.Process(self["scheduler"].pid).children():
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if "airflow worker -- LocalExecutor" in title and "<idle>" not in title:
                busy.append(title.split("LocalExecutor", 1)[1].lstrip(": "))
        return busy
