# SPDX-License-Identifier: Apache-2.0
"""The compose runner, with the two smallest services."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from dev.cluster import FILES
from dev.component import StackError, wait_for
from dev.compose.engine import Engine
from dev.compose.model import load
from dev.compose.variables import drawn
from dev.stack import ROOT

PARTS = ("postgres", "redis")
FOLDER = ROOT / ".run" / "test-engine"


@pytest.fixture
def variables() -> dict[str, str]:
    return drawn()


@pytest.fixture
def engine(variables: dict[str, str]) -> Iterator[Engine]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    services = load(FILES, variables)
    engine = Engine({name: services[name] for name in PARTS}, FOLDER, ROOT)
    engine.up()
    try:
        yield engine
    finally:
        engine.down()


def ask(engine: Engine, variables: dict[str, str], statement: str) -> Any:
    host, port = engine.address("postgres", 5432).split(":")
    secret = variables["POSTGRES_PASSWORD"]
    connection = psycopg2.connect(host=host, port=port, user="airflow", password=secret, dbname="airflow")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def test_what_was_killed_stays_dead_until_it_is_started_and_has_its_data_then(
    engine: Engine, variables: dict[str, str]
) -> None:
    ask(engine, variables, "CREATE TABLE kept AS SELECT 7 AS seven")

    engine.kill("postgres")
    assert not engine.healthy("postgres")
    engine.start("postgres")
    engine.wait_healthy("postgres")

    assert ask(engine, variables, "SELECT seven FROM kept") == [(7,)]
    assert engine.restarts == []


def test_what_dies_by_itself_is_started_again(engine: Engine) -> None:
    os.kill(engine.components["redis"].pid, signal.SIGKILL)

    wait_for("the restart", lambda: [name for _, name in engine.restarts] == ["redis"], seconds=30)

    engine.wait_healthy("redis")


def test_the_servers_are_those_that_the_compose_file_pins(engine: Engine, variables: dict[str, str]) -> None:
    ((version,),) = ask(engine, variables, "SHOW server_version")

    assert engine.services["postgres"].image == f"postgres:{version.split()[0]}"


def test_nobody_is_let_in_with_another_password(engine: Engine, variables: dict[str, str]) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        ask(engine, {**variables, "POSTGRES_PASSWORD": "postgres"}, "SELECT 1")


def test_a_service_that_can_not_start_ends_it_all_with_its_last_words(variables: dict[str, str]) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    services = load(FILES, variables)
    engine = Engine({name: services[name] for name in ("init", "scheduler")}, FOLDER, ROOT)
    engine.components["init"].command = ["sh", "-c", "echo no way; exit 3"]

    with pytest.raises(StackError, match=r"(?s)init: it ended with 3.*no way"):
        engine.up()
