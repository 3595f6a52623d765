# SPDX-License-Identifier: Apache-2.0
"""A compose file as values: the part of the Compose Specification that this repository's file uses.

Unknown keys are rejected, so that no setting of the file is ignored by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from dev.compose.interpolation import interpolate

# The last four configure how an engine builds and limits a container; a local process has neither.
KNOWN = {
    "image", "command", "entrypoint", "environment", "hostname", "expose", "ports", "volumes", "depends_on",
    "healthcheck", "profiles", "restart", "stop_grace_period",
    "build", "deploy", "logging",
}  # fmt: skip
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Dependency:
    """The condition of another service under which this one starts."""

    condition: str
    required: bool


@dataclass(frozen=True)
class Health:
    """How to find out whether a service is healthy. Times in seconds."""

    test: tuple[str, ...]
    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float

    @property
    def patience(self) -> float:
        """Return the seconds without a passed check after which it is unhealthy."""
        return self.start_period + self.retries * (self.interval + self.timeout)


@dataclass(frozen=True)
class Mount:
    """A named volume, or a folder of this machine, at a place in the service."""

    source: str
    target: PurePosixPath

    @property
    def named(self) -> bool:
        return not self.source.startswith((".", "/", "~"))


@dataclass(frozen=True)
class Service:
    """One service, with its variables filled in."""

    name: str
    image: str
    command: tuple[str, ...]
    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    hostname: str
    ports: tuple[int, ...]
    mounts: tuple[Mount, ...]
    depends_on: Mapping[str, Dependency]
    health: Health | None
    restart: str
    grace: float
    profiles: frozenset[str] = field(default_factory=frozenset)


def load(files: Sequence[Path], variables: Mapping[str, str]) -> dict[str, Service]:
    """Read a compose file and its overrides, and return the services of the active profiles.

    :param variables: values of ``${…}``, including ``COMPOSE_PROFILES``.
    :raises ValueError: if something is missing or unknown.
    """
    whole: dict[str, Any] = {}
    for path in files:
        whole = merge(whole, yaml.safe_load(path.read_text(encoding="utf-8")))
    whole = interpolate({key: value for key, value in whole.items() if not key.startswith("x-")}, variables)
    active = {name for name in variables.get("COMPOSE_PROFILES", "").split(",") if name}
    every = {name: _service(name, raw) for name, raw in whole["services"].items()}
    chosen = {name: each for name, each in every.items() if not each.profiles or each.profiles & active}
    for service in chosen.values():
        for needed, dependency in service.depends_on.items():
            if needed not in chosen and dependency.required:
                raise ValueError(f"{service.name} needs {needed}, which no active profile has")
    return chosen


def merge(below: Any, above: Any) -> Any:
    """Apply an override file: mappings are merged, volumes and ports are appended, everything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    merged = dict(below)
    for key, value in above.items():
        if key in ("volumes", "ports", "expose") and isinstance(merged.get(key), list):
            merged[key] = [*merged[key], *value]
        else:
            merged[key] = merge(merged[key], value) if key in merged else value
    return merged


def seconds(text: Any, default: float) -> float:
    """Read a duration, such as ``1m30s``."""
    if text is None:
        return default
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", str(text)))


def _service(name: str, raw: Mapping[str, Any]) -> Service:
    if unknown := set(raw) - KNOWN:
        raise ValueError(f"{name}: {', '.join(sorted(unknown))} of the compose file is not understood")
    depends = raw.get("depends_on", {})
    return Service(
        name=name,
        image=raw["image"],
        command=_words(name, raw.get("command")),
        entrypoint=_words(name, raw.get("entrypoint")),
        environment={key: str(value) for key, value in raw.get("environment", {}).items()},
        hostname=raw.get("hostname", name),
        ports=tuple(_ports([*raw.get("expose", []), *raw.get("ports", [])])),
        mounts=tuple(_mount(each) for each in raw.get("volumes", [])),
        depends_on={
            needed: Dependency(each["condition"], each.get("required", True)) for needed, each in depends.items()
        },
        health=_health(raw["healthcheck"]) if "healthcheck" in raw else None,
        restart=raw.get("restart", "no"),
        grace=seconds(raw.get("stop_grace_period"), 10.0),
        profiles=frozenset(raw.get("profiles", [])),
    )


def _words(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ValueError(f"{name}: write the command as a list, so that every engine splits it alike")
    return tuple(str(word) for word in given or ())


def _ports(given: Iterable[Any]) -> list[int]:
    """The ports in the container: the last number of ``8080:80`` or ``127.0.0.1:8080:80``."""
    return list(dict.fromkeys(int(str(each).rpartition(":")[2]) for each in given))


def _mount(text: str) -> Mount:
    source, target, *_ = text.split(":")
    return Mount(source, PurePosixPath(target))


def _health(raw: Mapping[str, Any]) -> Health:
    kind, *rest = raw["test"]
    if kind not in ("CMD", "CMD-SHELL"):
        raise ValueError(f"a health check of kind {kind} is not understood")
    interval = seconds(raw.get("interval"), 30.0)
    return Health(
        test=tuple(rest) if kind == "CMD" else ("/bin/sh", "-c", *rest),
        interval=interval,
        timeout=seconds(raw.get("timeout"), 30.0),
        retries=int(raw.get("retries", 3)),
        start_period=seconds(raw.get("start_period"), 0.0),
        start_interval=seconds(raw.get("start_interval"), interval),
    )
