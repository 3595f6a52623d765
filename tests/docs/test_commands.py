# SPDX-License-Identifier: Apache-2.0
"""Every command in the documentation exists, with its options."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import requests

from airflow_provider_wan.sandbox import SandboxServer
from dev.airflow_home import clean_environment, make_home
from dev.docs.pages import ROOT, Block, blocks
from dev.stack import TEMPLATES
from tests.docs.conftest import KEY

Command = tuple[Block, list[str]]
# Each runs in the same Airflow, without a shell.
AIRFLOW = """
import json, sys
from airflow.cli.cli_parser import get_parser
for words in json.loads(sys.argv[1]):
    options = get_parser().parse_args(words)
    if sys.argv[2] == "run":
        options.func(options)
"""


def commands() -> list[Command]:
    found = []
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").strip().splitlines():
            found.append((block, shlex.split(line)))
    return found


def of(*start: str) -> list[Command]:
    return [(block, words) for block, words in commands() if tuple(words[: len(start)]) == start]


def airflow_words() -> list[list[str]]:
    """Return the words after ``airflow``, without the variables before it."""
    lines = [[word for word in words if not re.match(r"AIRFLOW__\w+=", word)] for _, words in commands()]
    return [words[1:] for words in lines if words[0] == "airflow"]


def test_no_command_is_left_unchecked() -> None:
    known = {"make", "docker", "sh", "pip", "export", "airflow", "python", "curl", "wan-provider"}
    first = {next(word for word in words if not re.match(r"AIRFLOW__\w+=", word)) for _, words in commands()}
    assert first == known


def test_make_targets_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {words[1] for _, words in of("make")}
    text = "\n".join(page.read_text(encoding="utf-8") for page in {block.page for block in blocks("bash")})
    targets |= set(re.findall(r"`make ([a-z-]+)", text))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for variable in ("KEEP", "ARGS"):
        assert f"$({variable})" in makefile or f"$(if $({variable})" in makefile


def test_docker_is_only_asked_for_what_the_compose_file_can_do() -> None:
    assert {tuple(words[1:]) for _, words in of("docker")} == {("compose", "up"), ("compose", "up", "--build")}
    assert (ROOT / "docker-compose.yml").exists()


def test_the_scripts_exist() -> None:
    assert all((ROOT / words[1]).exists() for _, words in of("sh"))


def test_what_pip_installs_is_this_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for _, words in of("pip", "install"):
        name, extra = re.fullmatch(r"([\w-]+)(?:\[(\w+)\])?", words[2]).groups()
        assert name == project["name"]
        assert extra is None or extra in project["optional-dependencies"]


def test_exported_variables_are_options_of_the_provider() -> None:
    from airflow_provider_wan.get_provider_info import get_provider_info

    for _, words in of("export"):
        section, option = re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)=.+", words[1]).groups()
        assert option.lower() in get_provider_info()["config"][section.lower()]["options"]


def test_the_sandbox_takes_its_options() -> None:
    from airflow_provider_wan.sandbox.__main__ import build_config, build_parser

    found = of("python", "-m", "airflow_provider_wan.sandbox")
    assert found
    for _, words in found:
        build_config(build_parser().parse_args(words[3:]))


def test_the_command_that_renews_the_pages_exists() -> None:
    for _, words in of("python", "-m"):
        assert importlib.util.find_spec(words[2])


def test_wan_provider_takes_its_options() -> None:
    from airflow_provider_wan.cli.main import build_parser

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "wan-provider" in project["scripts"]
    for _, words in of("wan-provider"):
        build_parser().parse_args(words[1:])


def test_the_calls_of_the_sandboxs_controls_are_answered(sandbox: SandboxServer) -> None:
    found = of("curl")
    assert found
    try:
        for _, words in found:
            url = next(word for word in words if word.startswith("http")).replace(
                "http://127.0.0.1:8090/admin", sandbox.admin_url
            )
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            body = words[words.index("-d") + 1] if "-d" in words else None
            answer = requests.request(method, url, data=body, timeout=10)
            assert answer.status_code == 200, answer.text
    finally:
        requests.delete(f"{sandbox.admin_url}/faults", timeout=10)


def test_the_controls_in_the_table_exist(sandbox: SandboxServer) -> None:
    text = (ROOT / "docs" / "reference" / "sandbox.md").read_text(encoding="utf-8")
    bodies = {"faults": {"fault": "get_500"}, "rates": {"get_500": 0}, "advance": {"seconds": 0}}
    for method, path in re.findall(r"^\| `(\w+) /admin/(\S*)`", text, re.MULTILINE):
        if path in ("requests/ID", "reset"):
            continue
        body = bodies.get(path, {}) if method == "POST" else None
        answer = requests.request(method, f"{sandbox.admin_url}/{path}", json=body, timeout=10)
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
    requests.delete(f"{sandbox.admin_url}/faults", timeout=10)


def test_airflow_takes_the_commands_and_the_connections_work(sandbox: SandboxServer, tmp_path: Path) -> None:
    """All are parsed; those that need no scheduler are run."""
    home = make_home(tmp_path / "airflow", port=1, dags={}, templates=TEMPLATES)
    reached = {"conn_type": "wan", "host": sandbox.base_url, "password": KEY}
    environment = clean_environment(
        tmp_path,
        {
            "AIRFLOW_HOME": str(home.path),
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # The environment takes precedence over the connection that the command adds to the database.
            "AIRFLOW_CONN_WAN_DEFAULT": json.dumps(reached),
        },
    )

    def airflow(words: list[list[str]], how: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", AIRFLOW, json.dumps(words), how],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    words = airflow_words()
    live = [each for each in words if each[0] in ("connections", "pools", "providers")]
    assert {"add", "test"} <= {each[1] for each in live}
    # Several pages add the same connection; the command refuses to add it twice.
    once = list({tuple(each[:3]): each for each in reversed(live)}.values())[::-1]
    output = airflow([*once, ["connections", "list", "-o", "json"]], "run")
    assert "Connection success!" in output
    assert "airflow-provider-wan" in output
    listed = {each["conn_id"]: each for each in json.loads(output[output.rindex("[{") :])}
    assert {listed[name]["conn_type"] for name in ("wan_default", "wan_team", "wan_sandbox")} == {"wan"}
    airflow([each for each in words if each not in once], "parse")
