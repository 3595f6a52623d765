# SPDX-License-Identifier: Apache-2.0
"""Search for secrets where they must not be: in Airflow's database and in all logs.

The rules: the API key and the S3 secret key are nowhere. Signed URLs are only in the XCom of the task that makes them.
Prompts are neither in a trigger's arguments nor in its events.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

SIGNATURE = re.compile(r"(?i)(x-amz-(?:signature|credential|security-token)|[?&]signature)(?:=|%3d)[^\s\"'&\\]{4}")
# Columns in which Airflow keeps a trigger's arguments, and the event that a deferred task is resumed with.
TRIGGER_COLUMNS = {("trigger", "kwargs"), ("task_instance", "next_kwargs"), ("task_instance", "trigger_kwargs")}


@dataclass(frozen=True)
class Leak:
    """One place in which a secret lies. It does not repeat the secret."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} in {self.where}"


@dataclass(frozen=True)
class Secrets:
    """What must not be found.

    :param everywhere: name → value, forbidden in all places.
    :param in_triggers: name → value, forbidden in arguments and events of triggers.
    :param signing_tasks: tasks whose XCom may hold a signed URL.
    """

    everywhere: Mapping[str, str]
    in_triggers: Mapping[str, str]
    signing_tasks: frozenset[str] = frozenset()

    def find(self, text: str, where: str, *, signed: bool = False, trigger: bool = False) -> Iterator[Leak]:
        wanted = {**self.everywhere, **(self.in_triggers if trigger else {})}
        for what, value in wanted.items():
            if value in text:
                yield Leak(what, where)
        if not signed and SIGNATURE.search(text):
            yield Leak("a signed URL", where)


def scan_files(folders: Iterable[Path], secrets: Secrets) -> list[Leak]:
    """Read every file below ``folders``, line by line."""
    found: dict[Leak, None] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, 1):
                    for leak in secrets.find(line, f"{path.name}, line {number}"):
                        found[leak] = None
    return list(found)


def scan_database(path: Path, fernet_key: str, secrets: Secrets) -> list[Leak]:
    """Read every value of every table of Airflow's SQLite database; encrypted trigger arguments are decrypted.

    The file itself is read as well, because deleted values stay in it for a while.
    """
    found: dict[Leak, None] = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        task_ids: dict[object, str] = {}
        if "task_instance" in tables:
            with suppress(sqlite3.OperationalError):
                task_ids.update(connection.execute("SELECT id, task_id FROM task_instance"))
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                values = dict(zip(columns, row, strict=True))
                signed = _belongs_to_task(table, values, task_ids, secrets.signing_tasks)
                for column, value in values.items():
                    trigger = (table, column) in TRIGGER_COLUMNS
                    text = _text(value, fernet_key if trigger else None)
                    for leak in secrets.find(text, f"{table}.{column}", signed=signed, trigger=trigger):
                        found[leak] = None
    for file in (path, path.with_name(path.name + "-wal")):
        if file.exists():
            content = file.read_bytes()
            for what, value in secrets.everywhere.items():
                if value.encode() in content:
                    found[Leak(what, f"the file {file.name}")] = None
    return list(found)


def _belongs_to_task(
    table: str, values: Mapping[str, object], task_ids: Mapping[object, str], tasks: frozenset[str]
) -> bool:
    """Whether a row is an XCom of one of these tasks; Airflow 3.4 names its task instance by the id alone."""
    if table == "xcom_v2":
        task_id = task_ids.get(values.get("task_instance_id"), "")
    elif table == "xcom":
        task_id = str(values.get("task_id"))
    else:
        return False
    return task_id.split(".")[-1] in tasks


def trigger_arguments(path: Path, fernet_key: str) -> list[str]:
    """Return the arguments of all triggers in the database, as text."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as connection:
        return [_text(row[0], fernet_key) for row in connection.execute("SELECT kwargs FROM trigger")]


def _text(value: object, fernet_key: str | None) -> str:
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    if fernet_key and text.startswith("gAAAA"):
        from cryptography.fernet import Fernet

        text = Fernet(fernet_key).decrypt(text.encode()).decode()
    return text
