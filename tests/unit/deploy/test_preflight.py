# SPDX-License-Identifier: Apache-2.0
"""deploy/preflight.sh, with a client that responds as an engine of some version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PREFLIGHT = Path(__file__).parents[3] / "deploy" / "preflight.sh"


def preflight(
    folder: Path, *, engine: str | None = "26.1.5+dfsg1", compose: str | None = "2.26.1", env: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run it in a checkout. :param engine: None: it does not answer. :param compose: None: the plugin is missing."""
    checkout = folder / "checkout"
    (checkout / "deploy").mkdir(parents=True)
    (checkout / "deploy" / "preflight.sh").write_text(PREFLIGHT.read_text())
    if env:
        (checkout / ".env").touch()
    docker = folder / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"    version) {f'echo {engine}' if engine else 'echo Cannot connect to the daemon >&2; exit 1'} ;;\n"
        f"    compose) {f'echo {compose}' if compose else 'echo not a docker command >&2; exit 1'} ;;\n"
        "esac\n"
    )
    docker.chmod(0o755)
    return subprocess.run(
        ["sh", str(checkout / "deploy" / "preflight.sh")],
        env={"PATH": os.environ["PATH"], "DOCKER": str(docker)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("engine", ["20.10.24+dfsg1", "24.0.9", "9.1"])
def test_an_engine_older_than_25_is_refused_in_a_sentence(tmp_path: Path, engine: str) -> None:
    done = preflight(tmp_path, engine=engine)

    assert done.returncode == 1
    assert done.stderr == (
        f"Docker Engine {engine} is too old: docker-compose.yml needs 25 or newer, "
        "for the start_interval of its health checks.\n"
    )


@pytest.mark.parametrize("engine", ["25.0.0", "26.1.5+dfsg1", "100.2"])
@pytest.mark.parametrize("compose", ["2.24.0", "v2.26.1-4", "5.0.1"])
def test_newer_ones_are_let_pass(tmp_path: Path, engine: str, compose: str) -> None:
    done = preflight(tmp_path, engine=engine, compose=compose)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("compose", ["2.23.3", "v2.9.0", "1.29.2"])
def test_an_older_compose_is_refused_in_a_sentence(tmp_path: Path, compose: str) -> None:
    done = preflight(tmp_path, compose=compose)

    assert done.returncode == 1
    assert f"Docker Compose {compose.lstrip('v')} is too old" in done.stderr


def test_an_engine_that_does_not_answer_is_reported_with_its_own_message(tmp_path: Path) -> None:
    done = preflight(tmp_path, engine=None)

    assert done.returncode == 1
    assert done.stderr == "The Docker Engine does not answer: Cannot connect to the daemon\n"


def test_all_that_is_missing_is_reported_together(tmp_path: Path) -> None:
    done = preflight(tmp_path, compose=None, env=False)

    assert done.returncode == 1
    assert [line.partition(";")[0].partition(":")[0] for line in done.stderr.splitlines()] == [
        "Docker has no plugin 'compose'",
        "There is no file .env",
    ]
