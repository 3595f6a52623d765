# SPDX-License-Identifier: Apache-2.0
"""The scanner of the demo and the system tests finds secrets."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from dev.leaks import Leak, Secrets, scan_database, scan_files

KEY = "sandbox-abcdefgh"
PROMPT = "A lighthouse in the storm."
SIGNED = "http://127.0.0.1:1/b/cat.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0123456789abcdef"
SECRETS = Secrets({"the API key": KEY}, {"the prompt": PROMPT}, frozenset({"ingest"}))
FERNET = Fernet.generate_key().decode()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Tables of Airflow, with all that is allowed."""
    path = tmp_path / "airflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE xcom (task_id TEXT, value TEXT)")
        connection.execute("CREATE TABLE trigger (kwargs TEXT)")
        connection.execute("CREATE TABLE task_instance (next_kwargs TEXT)")
        connection.execute("CREATE TABLE dag_run (conf BLOB)")
        connection.execute("INSERT INTO xcom VALUES ('clip.ingest', ?)", [json.dumps({"url": SIGNED})])
        connection.execute("INSERT INTO dag_run VALUES (?)", [json.dumps({"prompt": PROMPT}).encode()])
        connection.execute("INSERT INTO trigger VALUES (?)", [encrypted({"request_id": "r-1"})])
    connection.close()
    return path


def encrypted(value: object) -> str:
    return Fernet(FERNET).encrypt(json.dumps(value).encode()).decode()


def put(database: Path, statement: str, value: object) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA secure_delete = OFF")  # else some builds of SQLite overwrite what is deleted
        connection.execute(statement, [value])
    connection.close()


def test_a_signed_url_in_the_xcom_of_its_own_task_and_a_prompt_in_a_run_are_no_leaks(database: Path) -> None:
    assert scan_database(database, FERNET, SECRETS) == []


def test_an_xcom_of_airflow_3_4_belongs_to_the_task_of_its_instance(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE task_instance ADD COLUMN id TEXT")
        connection.execute("ALTER TABLE task_instance ADD COLUMN task_id TEXT")
        connection.execute(
            "INSERT INTO task_instance (id, task_id) VALUES ('1', 'clip.ingest'), ('2', 'clip.generate')"
        )
        connection.execute("CREATE TABLE xcom_v2 (task_instance_id TEXT, value TEXT)")
        connection.execute("INSERT INTO xcom_v2 VALUES ('1', ?)", [SIGNED])
    connection.close()
    assert scan_database(database, FERNET, SECRETS) == []
    put(database, "INSERT INTO xcom_v2 VALUES ('2', ?)", SIGNED)
    assert scan_database(database, FERNET, SECRETS) == [Leak("a signed URL", "xcom_v2.value")]


@pytest.mark.parametrize(
    ("statement", "value", "leak"),
    [
        ("INSERT INTO xcom VALUES ('clip.generate', ?)", SIGNED, Leak("a signed URL", "xcom.value")),
        ("INSERT INTO trigger VALUES (?)", encrypted({"prompt": PROMPT}), Leak("the prompt", "trigger.kwargs")),
        ("INSERT INTO trigger VALUES (?)", json.dumps({"p": PROMPT}), Leak("the prompt", "trigger.kwargs")),
        ("INSERT INTO task_instance VALUES (?)", PROMPT, Leak("the prompt", "task_instance.next_kwargs")),
        ("INSERT INTO trigger VALUES (?)", encrypted({"key": KEY}), Leak("the API key", "trigger.kwargs")),
        ("INSERT INTO dag_run VALUES (?)", f"x{KEY}x".encode(), Leak("the API key", "dag_run.conf")),
    ],
)
def test_a_secret_in_the_database_is_found(database: Path, statement: str, value: object, leak: Leak) -> None:
    put(database, statement, value)

    assert leak in scan_database(database, FERNET, SECRETS)


def test_a_key_that_was_deleted_but_still_lies_in_the_file_is_found(database: Path) -> None:
    put(database, "INSERT INTO dag_run VALUES (?)", KEY)
    put(database, "DELETE FROM dag_run WHERE conf = ?", KEY)

    assert Leak("the API key", "the file airflow.db") in scan_database(database, FERNET, SECRETS)


@pytest.mark.parametrize(
    ("line", "what"),
    [(f"GET {SIGNED}", "a signed URL"), (SIGNED.replace("=", "%3D"), "a signed URL"), (f"Bearer {KEY}", "the API key")],
)
def test_a_secret_in_a_log_is_found_with_its_line(tmp_path: Path, line: str, what: str) -> None:
    log = tmp_path / "dag_id=a" / "attempt=1.log"
    log.parent.mkdir()
    log.write_text(f"fine: {PROMPT}\n{line}\n", encoding="utf-8")

    assert scan_files([tmp_path], SECRETS) == [Leak(what, "attempt=1.log, line 2")]
