# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_wan.sandbox`` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_wan.sandbox.__main__ import build_config, build_parser, main

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "airflow_provider_wan.sandbox"]
HEADERS = {"Authorization": "Bearer k"}
VALUE = {"model": "wan2.6-i2v", "payload": {"img_url": "https://images.example/a.jpg"}}


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> tuple[subprocess.Popen[str], str]:
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        fixed = ("--api-key", "k", "--render", "none", "--port-file", str(port_file))
        process = subprocess.Popen([*COMMAND, *fixed, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.started.append(process)
        deadline = time.monotonic() + 20
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process, port_file.read_text().strip()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


def test_it_prints_where_it_listens_and_ends_cleanly_on_sigterm(processes: Processes) -> None:
    process, url = processes.start()
    assert url.endswith("/api/v1/ie/requestqueue/apikey")
    assert requests.get(f"{url}/models", headers=HEADERS, timeout=5).status_code == 200
    assert requests.get(f"{url}/models", headers={"Authorization": "Bearer x"}, timeout=5).status_code == 401
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert output == f"wan sandbox listening on {url}\n"


def test_killed_with_sigkill_it_has_forgotten_nothing_that_was_accepted(processes: Processes) -> None:
    state = str(processes.folder / "state.jsonl")
    process, url = processes.start("--state", state, "--fault", "reset_after_accept=0.5")
    for _ in range(20):
        try:
            requests.post(f"{url}/requests", json=VALUE, headers=HEADERS, timeout=5)
        except requests.ConnectionError:
            continue
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, url = processes.start("--state", state)
    listed = requests.get(f"{url}/requests", headers=HEADERS, timeout=5).json()
    assert listed["total"] == 20
    admin = url.removesuffix("/api/v1/ie/requestqueue/apikey") + "/admin"
    assert len(requests.get(f"{admin}/accepted", timeout=5).json()["accepted"]) == 20


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN_SANDBOX_API_KEY", "from-the-environment")
    line = (
        "--speed 60 --seed 3 --run-seconds 2 --queue-seconds 1 --fault get_500=0.1 --price 720P=0.2 --cancel ignored"
        " --render tiny --concurrency 5 --submits-per-hour 9 --no-retry-after --empty-echo --no-totals"
    )
    config = build_config(build_parser().parse_args(line.split()))
    assert (config.api_key, config.speed, config.seed) == ("from-the-environment", 60, 3)
    assert (config.run_seconds[15], config.run_sigma, config.full_hd_factor) == (2.0, 0.0, 1.0)
    assert (config.queue_seconds, config.queue_sigma) == (1.0, 0.0)
    assert config.rates == {"get_500": 0.1}
    assert config.prices == {"720P": 0.2, "1080P": 0.15}
    assert (config.cancel, config.render, config.concurrency) == ("ignored", "tiny", 5)
    assert (config.submits_per_hour, config.retry_after) == (9, False)
    assert (config.echo_payload, config.list_totals) == (False, False)


@pytest.mark.parametrize(
    "line", ["--fault get_500", "--fault nope=0.1", "--fault get_500=2", "--speed 0", "--cancel maybe"]
)
def test_a_wrong_option_is_explained(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--port", "0"]) == 1
    assert "pip install 'airflow-provider-wan[sandbox]'" in capsys.readouterr().err


def test_the_core_loads_neither_airflow_nor_the_client_nor_sockets_nor_video() -> None:
    code = (
        "import sys; import airflow_provider_wan.sandbox.core; "
        "bad = {'airflow', 'airflow_provider_wan.api', 'aiohttp', 'av', 'PIL', 'numpy'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_server_does_not_share_code_with_the_client() -> None:
    code = (
        "import sys; import airflow_provider_wan.sandbox.__main__; "
        "sys.exit(', '.join(n for n in sys.modules if n.startswith(('airflow.', 'airflow_provider_wan.api'))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")
