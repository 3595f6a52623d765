# SPDX-License-Identifier: Apache-2.0
"""docker-compose.yml on a real engine, from a checkout that only its owner can read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dev.airflow_client import AirflowClient
from dev.containers.engine import Docker
from dev.installation import Installation
from dev.stack import ROOT, free_ports

USER = "admin"
# Owner of the checkout: neither root nor the user of the containers.
OWNER = 1234


def copy_checkout(target: Path) -> None:
    """Copy the repository with the modes that umask 077 gives an ordinary user."""
    shutil.rmtree(target, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o700 if os.access(source, os.X_OK) else 0o600)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(path, OWNER, OWNER)


class ComposeInstallation(Installation):
    """An installation with its own project name, so that running ones are not touched.

    :param checkout: the folder of docker-compose.yml.
    :param variables: content of its ``.env``.
    """

    def __init__(self, docker: Docker, checkout: Path, project: str, variables: Mapping[str, str]) -> None:
        self.docker = docker
        self.checkout = checkout
        self.project = project
        (port,) = free_ports(1)
        self.variables = {**variables, "AIRFLOW_LISTEN": f"127.0.0.1:{port}"}
        self.airflow = AirflowClient(f"http://127.0.0.1:{port}", USER, self.variables["AIRFLOW_ADMIN_PASSWORD"])
        self.bucket = self.variables["WAN_BUCKET"]
        self.s3_keys = (self.variables["S3_ACCESS_KEY"], self.variables["S3_SECRET_KEY"])
        # A container of the same project has another address after each start.
        self.outside: dict[str, str] = {}

    def compose(self, *words: str) -> str:
        """``docker compose …``; its output."""
        env = self.checkout / ".env"
        env.touch(mode=0o600)
        env.write_text("".join(f"{name}={value}\n" for name, value in self.variables.items()))
        return self.docker.run(["docker", "compose", "--project-name", self.project, *words], cwd=self.checkout)

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's description of a service's container."""
        identity = self.compose("ps", "--all", "--quiet", service).strip()
        (found,) = json.loads(self.docker.run(["docker", "inspect", identity]))
        return dict(found)

    def pid(self, service: str) -> int:
        """Return the first process of a service's container, in the engine's namespace."""
        return int(self.inspect(service)["State"]["Pid"])

    def ask(self, service: str, *command: str) -> str:
        """Run a command in a service's container, and return its output."""
        return self.compose("exec", "--no-TTY", service, *command)

    def address(self, service: str, port: int) -> str:
        """Where the port of a service is reached from the engine's host."""
        if service in self.outside:
            return self.outside[service]
        networks = self.inspect(service)["NetworkSettings"]["Networks"].values()
        (found,) = (each["IPAddress"] for each in networks)
        return f"{found}:{port}"

    @property
    def s3_url(self) -> str:
        return f"http://{self.address('s3', 8333)}"

    @property
    def sandbox_origin(self) -> str:
        return f"http://{self.address('sandbox', 8090)}"
