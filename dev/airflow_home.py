# SPDX-License-Identifier: Apache-2.0
"""Makes an Airflow home in one folder: configuration, login, and a migrated database copied from a template."""

from __future__ import annotations

import base64
import configparser
import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

USER = "admin"


@dataclass(frozen=True)
class AirflowHome:
    """An Airflow home and the login."""

    path: Path
    port: int
    password: str
    fernet_key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.path / "airflow.db"

    @property
    def logs(self) -> Path:
        return self.path / "logs"


def clean_environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment that neither points outside ``folder`` nor contains the caller's cloud accounts.

    The home folder and the one for temporary files are inside ``folder``; variables that configure Airflow, AWS or the
    provider are left out.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "AWS_", "WAN_", "PYTEST_", "COV_"))
    }
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(parents=True, exist_ok=True)
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **inherited,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        **(extra or {}),
    }


def _template(cache: Path) -> Path:
    """A migrated SQLite database for the installed Airflow; made on the first call (about 14 s), kept in ``cache``."""
    cache = cache.resolve()
    home = cache / f"airflow-{version('apache-airflow-core')}"
    home.mkdir(parents=True, exist_ok=True)
    database, ready = home / "airflow.db", home / "ready"
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists():
            return database
        database.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=clean_environment(home, {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}),
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"airflow db migrate failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        with sqlite3.connect(database) as connection:
            # The mode is stored in the file. Readers and the writer no longer wait for each other.
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        ready.touch()
    return database


def _settings(
    home: Path, port: int, dags: Mapping[str, Path], overrides: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    bundle = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [
        {"name": name, "classpath": bundle, "kwargs": {"path": str(folder.resolve()), "refresh_interval": 30}}
        for name, folder in dags.items()
    ]
    settings: dict[str, dict[str, str]] = {
        "core": {
            "executor": "LocalExecutor",
            # Two cores: more processes at once only make each of them slower.
            "parallelism": "4",
            "max_active_tasks_per_dag": "64",
            "load_examples": "False",
            "dags_are_paused_at_creation": "False",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
            "hostname_callable": "airflow.utils.net.get_host_ip_address",
            "test_connection": "Enabled",
        },
        "database": {
            # A writer that finds the file locked waits this many seconds.
            "sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=60",
            "check_migrations": "False",
        },
        "api": {
            "host": "127.0.0.1",
            "port": str(port),
            "base_url": f"http://127.0.0.1:{port}",
            "workers": "1",
            "secret_key": secrets.token_hex(24),
            "instance_name": "airflow-provider-wan",
        },
        "api_auth": {"jwt_secret": secrets.token_hex(24)},
        # Dag runs are triggered manually: an unpaused daily Dag would start one in the middle of a demo or test.
        "scheduler": {"use_job_schedule": "False", "scheduler_idle_sleep_time": "0.5"},
        "triggerer": {"job_heartbeat_sec": "2"},
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "parsing_processes": "1",
            "min_file_process_interval": "600",
            "stale_dag_threshold": "3600",
            "print_stats_interval": "0",
        },
        "logging": {"colored_console_log": "False"},
        # A worker notices the end of its task at a heartbeat; until then it occupies a slot.
        "workers": {"execution_api_timeout": "30", "min_heartbeat_interval": "1"},
        "usage_data_collection": {"enabled": "False"},
    }
    for section, values in overrides.items():
        settings.setdefault(section, {}).update(values)
    return settings


def make_home(
    home: Path,
    *,
    port: int,
    dags: Mapping[str, Path],
    templates: Path,
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> AirflowHome:
    """Make a fresh Airflow home.

    :param home: its folder; must not exist yet.
    :param port: where the API server will listen.
    :param dags: bundle name → folder of Dag files.
    :param templates: where the migrated template database is kept between runs.
    :param overrides: section → option → value, on top of the defaults for a small machine.
    """
    home = home.resolve()
    home.mkdir(parents=True)
    password = secrets.token_urlsafe(9)
    parser = configparser.RawConfigParser()
    parser.read_dict(_settings(home, port, dags, overrides or {}))
    config = home / "airflow.cfg"
    with open(config, "w", encoding="utf-8") as file:
        # Airflow interpolates its configuration: a literal % has to be doubled.
        doubled = configparser.RawConfigParser()
        doubled.read_dict(
            {
                section: {option: value.replace("%", "%%") for option, value in parser[section].items()}
                for section in parser.sections()
            }
        )
        doubled.write(file)
    config.chmod(0o600)
    (home / "passwords.json").write_text(json.dumps({USER: password}), encoding="utf-8")
    shutil.copyfile(_template(templates), home / "airflow.db")
    return AirflowHome(path=home, port=port, password=password, fernet_key=parser["core"]["fernet_key"])


def airflow_command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "airflow", *arguments]
