# SPDX-License-Identifier: Apache-2.0
"""Docker: the engine that the machine has, or a private one in namespaces of its own.

The private one runs with its containers in a mount, a network and a process namespace: its bridge, its chains, its
mounts and its processes exist only there, and end with the process that made them, however that one ends. Outside is
reached through slirp4netns, which is an ordinary process with ordinary sockets.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from dev.component import Component, StackError, wait_for
from dev.containers.packages import EngineError, fetch

SOCKET = "/run/docker.sock"
NEEDED = ("apt-get", "dpkg", "ip", "mount", "nsenter", "unshare")
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "wan-containers"


class Docker:
    """The client of an engine.

    :param process: the process whose namespaces the commands enter; None for this process's own.
    :param environment: on top of that of this process.
    """

    def __init__(self, process: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.process = process
        self.environment = {**os.environ, **(environment or {})}

    def place(self, command: Sequence[str], cwd: Path) -> list[str]:
        """Return the command with the prefix that enters the engine's namespaces."""
        if self.process is None:
            return list(command)
        return ["nsenter", f"--target={self.process}", "--net", "--mount", "--pid", f"--wdns={cwd}", "--", *command]

    def run(self, command: Sequence[str], *, cwd: Path | None = None) -> str:
        """Run a command in the engine's namespaces, and return its output.

        :raises EngineError: with the end of what it wrote, if it fails.
        """
        cwd = (cwd or Path()).resolve()
        done = subprocess.run(
            self.place(command, cwd),
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            tail = (done.stdout + done.stderr)[-4000:]
            raise EngineError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
        return done.stdout

    def version(self) -> str | None:
        """Return the version of the engine; None if none answers."""
        try:
            return self.run(["docker", "version", "--format", "{{.Server.Version}}"]).strip()
        except (EngineError, FileNotFoundError):
            return None


def why_not() -> str | None:
    """Return why no private engine can run here; None if it can."""
    if sys.platform != "linux":
        return "this is not Linux"
    if os.geteuid() != 0:
        return "it needs root"
    if missing := [each for each in NEEDED if shutil.which(each) is None]:
        return f"there is no {', '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "it may not make namespaces"
    return None


class PrivateEngine:
    """containerd and dockerd, from :meth:`start` to :meth:`stop`.

    :param folder: holds the unpacked programs, images, volumes and logs. Images are there again the next time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self._parts: list[Component] = []
        self._first: int | None = None
        self.docker = Docker()

    def start(self) -> None:
        """Fetch it if needed, and start it.

        :raises EngineError: if it cannot be fetched. :raises StackError: with its last log lines, if it does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.logs, ignore_errors=True)
        root = fetch(self.folder)
        environment = self._environment(root)
        self._weigh()
        config = self.folder / "daemon.json"
        config.write_text(json.dumps(self._settings(), indent=2))
        script = str(Path(__file__).with_name("namespace.sh"))
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        engine = self._start_part("engine", [*unshare, "sh", script, str(root), str(config)], environment)
        self._first = first = self._first_process(engine)
        libraries = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")}
        slirp = [str(root / "usr/bin/slirp4netns"), "--configure", "--disable-host-loopback", str(first), "tap0"]
        self._start_part("slirp4netns", slirp, {**environment, **libraries})
        self.docker = Docker(first, environment)
        wait_for("the engine to answer", self.docker.version, seconds=60, parts=self._parts)

    def stop(self) -> None:
        """Stop it; returns when no process of it is left. Its empty control groups go too."""
        if self._first is not None:
            # unshare itself passes no signal on.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGTERM)
            with contextlib.suppress(StackError):
                wait_for("the engine to end", lambda: not self._parts[0].running, seconds=30)
        for part in reversed(self._parts):
            with contextlib.suppress(StackError):
                part.stop()
        self._parts.clear()
        self._first = None
        for top in CGROUPS.glob(f"**/{CGROUP}"):
            for folder in sorted((top, *top.rglob("*/")), key=lambda path: len(path.parts), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    @staticmethod
    def _weigh() -> None:
        """Give all containers together the CPU weight of eight processes, not of one (cgroup v1)."""
        group = CGROUPS / "cpu" / CGROUP
        if group.parent.is_dir():
            group.mkdir(exist_ok=True)
            (group / "cpu.shares").write_text("8192")

    def _start_part(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Component:
        part = Component(name, command, env=environment, cwd=self.folder, log_dir=self.logs, grace=20)
        self._parts.append(part)
        part.start()
        return part

    def _environment(self, root: Path) -> dict[str, str]:
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        libraries = root / "usr/lib/x86_64-linux-gnu"
        for name in ("iptables", "ip6tables"):
            program = tools / name
            program.write_text(
                f"#!/bin/sh\nLD_LIBRARY_PATH={libraries} XTABLES_LIBDIR={libraries}/xtables "
                f'exec {root}/usr/sbin/xtables-nft-multi {name} "$@"\n'
            )
            program.chmod(0o755)
        plugins = self.folder / "docker-config" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        for name in ("docker-buildx", "docker-compose"):
            plugin = plugins / name
            plugin.unlink(missing_ok=True)
            plugin.symlink_to(root / "usr/libexec/docker/cli-plugins" / name)
        path = [tools, root / "usr/bin", root / "usr/sbin", os.environ.get("PATH", os.defpath)]
        return {
            "PATH": os.pathsep.join(map(str, path)),
            "DOCKER_CONFIG": str(plugins.parent),
            "DOCKER_HOST": f"unix://{SOCKET}",
            "DEBOOTSTRAP_DIR": str(root / "usr/share/debootstrap"),
        }

    def _settings(self) -> dict[str, object]:
        limit = {"Hard": 8192, "Soft": 8192}
        return {
            "hosts": [f"unix://{SOCKET}"],
            "data-root": str(self.folder / "data"),
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "cgroup-parent": f"/{CGROUP}",
            "storage-driver": "overlay2",
            "ip6tables": False,
            # Without the capability to raise limits, the engine's own limits would be refused.
            "default-ulimits": {name: {"Name": name, **limit} for name in ("nofile", "nproc")},
        }

    @staticmethod
    def _first_process(engine: Component) -> int:
        """Return the outside process id of the namespaces' first process."""
        ours = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            engine.check()
            for child in psutil.Process(engine.pid).children():
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{child.pid}/ns/net") != ours:
                        return child.pid
            time.sleep(0.05)
        raise EngineError(f"no namespaces were made{engine.tail()}")
