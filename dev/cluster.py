# SPDX-License-Identifier: Apache-2.0
"""The installation of docker-compose.yml on this machine, as plain processes: ``python -m dev.cluster``.

PostgreSQL, Redis and SeaweedFS come from Python packages; images, ports and paths are replaced by local ones
(:mod:`dev.compose`), and everything else is as the compose file says. ``dev/compose/small.yml`` is laid over
it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from dev.airflow_client import AirflowClient
from dev.component import StackError, wait_for
from dev.compose.engine import Engine
from dev.compose.model import load
from dev.compose.variables import drawn
from dev.installation import Installation
from dev.stack import ROOT

FILES = (ROOT / "docker-compose.yml", ROOT / "dev" / "compose" / "small.yml")
FOLDER = ROOT / ".run" / "cluster"
PID_FILE = ROOT / ".run" / "cluster.pid"
USER = "admin"
# For two cores.
SMALL = {"API_WORKERS": "1", "WORKER_CONCURRENCY": "4", "TRANSFER_CONCURRENCY": "2", "SANDBOX_RENDER": "tiny"}


class Cluster(Installation):
    """All services of the compose file, up and healthy within the ``with`` block.

    :param folder: holds everything: data, databases, logs. It is emptied first.
    :param variables: on top of ``.env.example`` with generated secrets.
    :param relayed: services that reach the others through relays, which someone else runs on
        ``engine.places.routes`` before the cluster is entered.
    """

    def __init__(
        self, folder: Path, *, variables: Mapping[str, str] | None = None, relayed: Collection[str] = ()
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        # The database server may run as another user than root.
        folder.mkdir(parents=True, mode=0o755)
        self.folder = folder.resolve()
        self.variables = {**drawn(), **SMALL, **(variables or {})}
        self.engine = Engine(load(FILES, self.variables), self.folder, ROOT, relayed)
        for name in relayed:
            self._relay_s3(name)
        self.url = f"http://{self.engine.address('api-server', 8080)}"
        self.airflow = AirflowClient(self.url, USER, self.variables["AIRFLOW_ADMIN_PASSWORD"])
        self.bucket = self.variables["WAN_BUCKET"]
        self.sandbox_url = self.engine.places.text(self.engine.services["init"], self.variables["WAN_BASE_URL"])
        self.s3_keys = (self.variables["S3_ACCESS_KEY"], self.variables["S3_SECRET_KEY"])

    def _relay_s3(self, name: str) -> None:
        """Give a service a connection of its own to S3, since that in the database leads past its relay.

        The API stays as it is: its address is part of the account that the ledger names.
        """
        init, service = self.engine.services["init"].environment, self.engine.services[name]
        connection = {
            "conn_type": "aws",
            "login": init["S3_ACCESS_KEY"],
            "password": init["S3_SECRET_KEY"],
            "extra": {"region_name": init["S3_REGION"], "endpoint_url": init["S3_ENDPOINT"]},
        }
        text = self.engine.places.text(service, json.dumps(connection))
        self.engine.components[name].env["AIRFLOW_CONN_AWS_DEFAULT"] = text

    def __enter__(self) -> Cluster:
        self.engine.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.down()

    @property
    def s3_url(self) -> str:
        return f"http://{self.engine.address('s3', 8333)}"

    @property
    def sandbox_origin(self) -> str:
        return f"http://{self.engine.address('sandbox', 8090)}"

    def rows(self, query: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Query Airflow's database, or change it (``… RETURNING …``)."""
        import psycopg2

        host, port = self.engine.address("postgres", 5432).split(":")
        secret = self.variables["POSTGRES_PASSWORD"]
        connection = psycopg2.connect(host=host, port=port, user="airflow", password=secret, dbname="airflow")
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()


def stay_up() -> int:
    """Start the cluster, and leave it up until Ctrl-C or ``--stop``."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    PID_FILE.parent.mkdir(parents=True, exist_ok=True)
    PID_FILE.write_text(str(os.getpid()))
    began = time.monotonic()
    print("Starting the services of docker-compose.yml …", flush=True)
    try:
        with Cluster(FOLDER) as cluster:
            print(f"All {len(cluster.engine.services)} services are healthy after {time.monotonic() - began:.0f} s.")
            print(f"Airflow is at {cluster.url}    user: {USER}    password: {cluster.airflow.password}")
            print(f"S3 is at {cluster.s3_url}, the sandbox at {cluster.sandbox_url}")
            print(f"Logs are in {cluster.folder / 'logs'}.")
            print("Ctrl-C here, or 'make cluster-stop' elsewhere, ends it.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.")
        return 0
    except StackError as error:
        print(f"It could not be started: {error}", file=sys.stderr)
        return 1
    finally:
        PID_FILE.unlink(missing_ok=True)
    return 0


def stop() -> int:
    """Stop the cluster that was left up."""
    try:
        pid = int(PID_FILE.read_text())
        if b"dev.cluster" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            raise ProcessLookupError
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        print("No cluster is running.")
        return 0
    with suppress(StackError):
        wait_for("the cluster to end", lambda: not PID_FILE.exists(), seconds=180)
        print("Stopped.")
        return 0
    print(f"The cluster (process {pid}) does not end.", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stop", action="store_true", help="stop a cluster that was left up")
    return stop() if parser.parse_args().stop else stay_up()


if __name__ == "__main__":
    sys.exit(main())
