# SPDX-License-Identifier: Apache-2.0
"""Docker Engine, Compose and Buildx from Debian's packages, unpacked into a folder; nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Debian 12's engine is older than 25. Debian 13's runc and iptables need a newer C library than Debian 12 has.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "trixie": ("containerd", "debootstrap", "docker-buildx", "docker-cli", "docker-compose", "docker.io", "tini"),
    "bookworm": (
        "iptables",
        "libip4tc2",
        "libip6tc2",
        "libmnl0",
        "libnetfilter-conntrack3",
        "libnfnetlink0",
        "libnftnl11",
        "libslirp0",
        "libxtables12",
        "runc",
        "slirp4netns",
    ),
}


class EngineError(Exception):
    """The engine cannot be fetched or started on this machine."""


def find_mirror() -> str:
    """Return the Debian mirror of this machine's apt.

    :raises EngineError: if it gets none.
    """
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in found.splitlines():
        origin, _, rest = line.partition(" ")
        codename, _, address = rest.partition(" ")
        if origin == "Debian" and codename and "-" not in codename:
            return address
    raise EngineError("apt has no list of Debian's packages yet ('apt-get update' fetches it), or this is not Debian")


def fetch(folder: Path) -> Path:
    """Unpack the packages below ``folder``, unless they are there, with an apt configuration of their own.

    :return: the root of what was unpacked.
    """
    root = folder / "root"
    if root.exists():
        return root
    apt = folder / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    packages = apt / "packages"
    for each in (apt / "lists" / "partial", apt / "archives" / "partial", packages):
        each.mkdir(parents=True)
    mirror = find_mirror()
    sources = "".join(f"deb [signed-by={KEYRING}] {mirror} {codename} main\n" for codename in PACKAGES)
    (apt / "sources.list").write_text(sources)
    (apt / "status").touch()
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::Status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::Archives": apt / "archives",
        "APT::Sandbox::User": "root",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    # Commands that the machine runs after its own updates.
    lines += ["#clear APT::Update::Post-Invoke;", "#clear APT::Update::Post-Invoke-Success;"]
    (apt / "apt.conf").write_text("\n".join(lines) + "\n")
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    wanted = [f"{name}/{codename}" for codename, names in PACKAGES.items() for name in names]
    run(["apt-get", "-q", "update"], environment, apt)
    run(["apt-get", "-q", "download", *wanted], environment, packages)
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in sorted(packages.glob("*.deb")):
        run(["dpkg", "-x", str(package), str(unpacked)], environment, apt)
    shutil.rmtree(apt)
    unpacked.rename(root)
    return root


def run(command: list[str], environment: Mapping[str, str], cwd: Path) -> None:
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:3])} … ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
