# SPDX-License-Identifier: Apache-2.0
"""Start the services of a compose file in their order, watch over them, and stop them."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from dev.airflow_home import clean_environment
from dev.component import Component, StackError
from dev.compose.images import build_search_path
from dev.compose.model import Service
from dev.compose.places import Places

WAIT = 0.25
# Minimum seconds between two restarts of a service.
RESTART_PAUSE = 2.0
# A service that exits so often before it is healthy has failed.
TRIES = 3
COMPLETED = "service_completed_successfully"


class Engine:
    """The services as processes.

    :param services: from :func:`dev.compose.model.load`.
    :param folder: holds all that they write.
    :param base: what the compose file's relative paths are relative to.
    :param relayed: services that reach the others through relays, which someone else runs.
    """

    def __init__(
        self, services: Mapping[str, Service], folder: Path, base: Path, relayed: Collection[str] = ()
    ) -> None:
        self.services = dict(services)
        self.folder = folder.resolve()
        self.places = Places(services, self.folder, base, relayed)
        self.components = {name: self._component(service) for name, service in services.items()}
        self.restarts: list[tuple[float, str]] = []
        self._done = {name: threading.Event() for name in services}
        self._healthy = {name: threading.Event() for name in services}
        self._failed: dict[str, str] = {}
        self._ending = threading.Event()
        self._killed: set[str] = set()
        self._lock = threading.RLock()
        self._watcher: threading.Thread | None = None

    def _component(self, service: Service) -> Component:
        self.places.prepare(service)
        image = self.places.image(service)
        own = {
            **clean_environment(self.places.root(service)),
            "HOSTNAME": service.hostname,
            "PATH": build_search_path(image),
        }
        for name, value in {**image.environment, **service.environment}.items():
            own[name] = self.places.text(service, value)
        command = [*image.entrypoint, *self.places.command(service, (*service.entrypoint, *service.command))]
        return Component(
            service.name,
            command,
            env=own,
            cwd=self.places.root(service),
            log_dir=self.folder / "logs",
            grace=service.grace,
        )

    # --- start and stop -----------------------------------------------------------------------
    def up(self, seconds: float = 300.0) -> None:
        """Start each service when the conditions of its dependencies hold; return when all are healthy.

        :raises StackError: with the last log lines of the service that failed. Nothing is left running then.
        """
        try:
            runners = [threading.Thread(target=self._bring_up, args=(each,), daemon=True) for each in self.services]
            for runner in runners:
                runner.start()
            deadline = time.monotonic() + seconds
            while any(runner.is_alive() for runner in runners):
                if self._failed:
                    raise StackError("; ".join(self._failed.values()))
                if time.monotonic() > deadline:
                    waiting = [name for name in self.services if not self._healthy[name].is_set()]
                    tails = "".join(self.components[name].tail(15) for name in waiting)
                    raise StackError(f"waited {seconds:.0f} s for {', '.join(waiting)}{tails}")
                time.sleep(WAIT)
            if self._failed:
                raise StackError("; ".join(self._failed.values()))
        except BaseException:
            self.down()
            raise
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def down(self) -> None:
        """Stop all services, dependents first; return when no process is left."""
        self._ending.set()
        if self._watcher is not None:
            self._watcher.join()
        for stage in self._stages():
            for name in stage:
                self.components[name].signal_stop()
            for name in stage:
                with contextlib.suppress(StackError):
                    self.components[name].stop()
        self._remove_sockets()

    def kill(self, name: str) -> None:
        """SIGKILL a service, and do not restart it until :meth:`start`."""
        with self._lock:
            self._killed.add(name)
            self.components[name].kill()

    def start(self, name: str) -> None:
        """Start a service that was killed."""
        with self._lock:
            if not self.components[name].running:
                self.components[name].start()
            self._killed.discard(name)

    def healthy(self, name: str) -> bool:
        """Whether a service passes its own health check now."""
        service = self.services[name]
        if not self.components[name].running:
            return False
        if service.health is None:
            return True
        component = self.components[name]
        try:
            done = subprocess.run(
                self.places.command(service, service.health.test),
                env=component.env,
                cwd=component.cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=service.health.timeout,
                check=False,
            )
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return False
        return done.returncode == 0

    def wait_healthy(self, *names: str, seconds: float = 120.0) -> None:
        """:raises StackError: when one of them does not pass its health check in time."""
        deadline = time.monotonic() + seconds
        for name in names:
            while not self.healthy(name):
                if time.monotonic() > deadline:
                    raise StackError(f"{name} is not healthy after {seconds:.0f} s{self.components[name].tail()}")
                time.sleep(WAIT)

    def address(self, name: str, port: int) -> str:
        """Return the local address of a service's port."""
        return f"127.0.0.1:{self.places.ports[name, port]}"

    # --- internals ----------------------------------------------------------------------------
    def _bring_up(self, name: str) -> None:
        try:
            self._await_dependencies(name)
            if self._ending.is_set():
                return
            self.components[name].start()
            if self._runs_once(name):
                self._await_end(name)
            else:
                self._await_health(name)
            self._healthy[name].set()
        except Exception as error:
            self._failed[name] = f"{name}: {error}"

    def _await_dependencies(self, name: str) -> None:
        for needed, dependency in self.services[name].depends_on.items():
            if needed not in self.services:
                continue
            event = (self._done if dependency.condition == COMPLETED else self._healthy)[needed]
            while not event.wait(WAIT):
                if self._ending.is_set() or self._failed:
                    return

    def _runs_once(self, name: str) -> bool:
        """Whether another service waits for this one's end."""
        return any(
            name in other.depends_on and other.depends_on[name].condition == COMPLETED
            for other in self.services.values()
        )

    def _await_end(self, name: str) -> None:
        component = self.components[name]
        while component.running:
            if self._ending.wait(WAIT):
                return
        if component.exit_code != 0:
            raise StackError(f"it ended with {component.exit_code}{component.tail()}")
        self._done[name].set()

    def _await_health(self, name: str) -> None:
        service, component = self.services[name], self.components[name]
        pause = min(service.health.start_interval, service.health.interval) if service.health else WAIT
        deadline = time.monotonic() + (service.health.patience if service.health else 0.0)
        tries = 1 if service.restart == "no" else TRIES
        while not self.healthy(name):
            if not component.running:
                tries -= 1
                if not tries:
                    component.check()
                component.start()
            if time.monotonic() > deadline:
                raise StackError(f"it is not healthy{component.tail()}")
            if self._ending.wait(pause):
                return

    def _watch(self) -> None:
        """Restart services that ended by themselves, as the compose file configures it."""
        last: dict[str, float] = {}
        while not self._ending.wait(WAIT):
            for name, service in self.services.items():
                with self._lock:
                    if service.restart == "no" or name in self._killed or self.components[name].running:
                        continue
                    if time.monotonic() - last.get(name, 0.0) < RESTART_PAUSE:
                        continue
                    last[name] = time.monotonic()
                    self.restarts.append((time.time(), name))
                    self.components[name].start()

    def _stages(self) -> list[list[str]]:
        """Return the services in the order in which they stop: first those on which no other depends."""
        left, stages = set(self.services), []
        while left:
            needed = {each for name in left for each in self.services[name].depends_on if each != name}
            stage = sorted(left - needed) or sorted(left)
            stages.append(stage)
            left -= set(stage)
        return stages

    def _remove_sockets(self) -> None:
        # SeaweedFS leaves its sockets in /tmp, named after its ports.
        for port in self.places.ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)
