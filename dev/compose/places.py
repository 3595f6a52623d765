# SPDX-License-Identifier: Apache-2.0
"""Local host names, ports and paths of the services, substituted in the compose file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dev.compose.images import Image, find_image
from dev.compose.model import Service
from dev.stack import free_ports

HERE = "127.0.0.1"


class Places:
    """Translate the texts of a compose file.

    Every port that a service exposes becomes a free one; ``service:port`` becomes ``127.0.0.1:port``; a path below a
    volume or below a folder that the image writes to becomes one below the service's own root.

    :param folder: holds a root for each service, and the named volumes.
    :param base: what the compose file's relative paths are relative to.
    :param relayed: services that reach the others through relays, which someone else runs.
    :ivar routes: (relayed service, other service, its port) → port of the relay.
    """

    def __init__(
        self, services: Mapping[str, Service], folder: Path, base: Path, relayed: Collection[str] = ()
    ) -> None:
        self._services = services
        self._folder = folder
        self._base = base
        self._images = {name: find_image(service.image) for name, service in services.items()}
        wanted = [(name, port) for name, service in services.items() for port in service.ports]
        passing = [(client, name, port) for client in relayed for name, port in wanted if name != client]
        free = free_ports(len(wanted) + len(passing))
        self.ports = dict(zip(wanted, free, strict=False))
        self.routes = dict(zip(passing, free[len(wanted) :], strict=True))

    def image(self, service: Service) -> Image:
        return self._images[service.name]

    def root(self, service: Service) -> Path:
        return self._folder / "roots" / service.name

    def volume(self, name: str) -> Path:
        return self._folder / "volumes" / name

    def prepare(self, service: Service) -> None:
        """Create the service's root folder, with its volumes."""
        root = self.root(service)
        for home in self.image(service).homes:
            (root / home.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for mount in service.mounts:
            source = self.volume(mount.source) if mount.named else (self._base / mount.source).resolve()
            if mount.named:
                source.mkdir(parents=True, exist_ok=True)
            place = root / str(mount.target).lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(source)

    def text(self, service: Service, text: str) -> str:
        """Translate a value of the service's environment, or a word of its command."""
        for (name, port), found in self.ports.items():
            there = self.routes.get((service.name, name, port), found)
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}:{port}(?!\d)", f"{HERE}:{there}", text)
        for port in service.ports:
            own = str(self.ports[service.name, port])
            # Skip what has just become another service's address.
            text = re.sub(rf"(?<![\w.])(?<!{re.escape(HERE)}:){port}(?![\w.])", own, text)
        text = text.replace("0.0.0.0", HERE)
        targets = [str(mount.target) for mount in service.mounts]
        for place in (*targets, *self.image(service).homes):
            text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?![\w-])", f"{self.root(service)}{place}", text)
        return text

    def command(self, service: Service, words: Sequence[str]) -> list[str]:
        """Translate a command."""
        flags = self.image(service).address_flags
        found = []
        for word in words:
            flag, sign, value = word.partition("=")
            is_address = bool(sign) and flag in flags and value in self._services
            found.append(f"{flag}={HERE}" if is_address else self.text(service, word))
        return found
