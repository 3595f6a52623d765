# SPDX-License-Identifier: Apache-2.0
"""
Results into S3 (SeaweedFS), one and eight at a time: ours, ``HttpToS3Operator``, ``requests`` with ``put_object``, and
``rclone copyurl``, in turns.

``python -m benchmarks.archive 8 100 1000`` takes sizes in MB. Ours also checks the MP4, hashes it, and
writes its record.

The start of a process is left out: each contestant is a process that has started and has archived a small clip before
its time begins. rclone is its own server, ``rclone rcd``, whose call ``operations/copyurl`` is the command's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import save
from dev.component import Component, wait_for
from dev.seaweed import SeaweedFS

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"
#: Downloads into memory and sends one request to S3, without a look, a check or a record: what is left to gain.
LEAST = "requests, put_object"
CONTESTANTS = ("rclone copyurl", "ours", LEAST, "HttpToS3Operator")
CONCURRENCY = (1, 8)
WARM_UP = "warm-up.mp4"
KEY = ("megabytes", "at_a_time", "contestant")
#: Clips of a run: about as many bytes of each size, and all threads busy.
RUN_BYTES = 256_000_000


def make_clip(path: Path, megabytes: int) -> None:
    """Build a playable clip of that size. Noise in a box that players skip fills it up."""
    import av
    import numpy

    small = path.with_suffix(".small.mp4")
    with av.open(str(small), "w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(150):
            picture = numpy.full((240, 320, 3), number, dtype=numpy.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    left = megabytes * 1_000_000 - small.stat().st_size
    with path.open("wb") as file:
        file.write(small.read_bytes())
        file.write(struct.pack(">I4sQ", 1, b"free", left))
        left -= 16
        noise = os.urandom(4_000_000)
        while left > 0:
            file.write(noise[:left])
            left -= len(noise)
    small.unlink()


async def serve(folder: Path, port_file: Path) -> None:
    """Serve a folder's files."""
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", folder)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port_file.write_text(str(runner.addresses[0][1]))  # noqa: ASYNC240
    await asyncio.Event().wait()


def count_clips(megabytes: int, at_a_time: int) -> int:
    """How many clips a run archives."""
    return max(1, RUN_BYTES // (megabytes * 1_000_000 * at_a_time)) * at_a_time


def open_archiver(contestant: str) -> Callable[[str, str], None]:
    """Return what archives the clip at a URL to a key, in this process."""
    if contestant == "ours":
        from airflow_provider_wan.api.record import RequestRecord, RequestStatus
        from airflow_provider_wan.hooks.s3_client import create_signing_client
        from airflow_provider_wan.media.archive import ClipArchive
        from airflow_provider_wan.media.fetch import ResultHosts
        from airflow_provider_wan.operators.batch_setup import MAX_S3_CONNECTIONS

        # The client of a batch.
        client = create_signing_client("aws_default", max_connections=MAX_S3_CONNECTIONS)
        archive = ClipArchive(client, ResultHosts(api_base_url="http://127.0.0.1:1/api"))

        def store(url: str, key: str) -> None:
            record = RequestRecord(key, RequestStatus.SUCCESS, "success", video_url=url, payload={"duration": 5})
            archive.store(record, BUCKET, key)

        return store
    if contestant == LEAST:
        import requests

        from airflow_provider_wan.hooks.s3_client import create_signing_client

        s3 = create_signing_client("aws_default")
        session = requests.Session()

        def copy(url: str, key: str) -> None:
            s3.put_object(Bucket=BUCKET, Key=key, Body=session.get(url, timeout=300).content)

        return copy
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    def transfer(url: str, key: str) -> None:
        endpoint = "/" + url.split("/", 3)[3]
        HttpToS3Operator(
            task_id="t", http_conn_id="host", endpoint=endpoint, s3_bucket=BUCKET, s3_key=key, log_response=False
        ).execute({})

    return transfer


def work(contestant: str, url: str, prefix: str, count: int, at_a_time: int) -> dict[str, Any]:
    """Archive clips in this process."""
    archive = open_archiver(contestant)
    archive(f"{url.rsplit('/', 1)[0]}/{WARM_UP}", f"{prefix}/{WARM_UP}")
    before, cpu, began = peak_mb(), time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        for _ in pool.map(lambda number: archive(url, f"{prefix}/{number}.mp4"), range(count)):
            pass
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "added_mb": peak_mb() - before,
    }


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that a process occupied, not that of what it was forked from."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


@contextmanager
def rclone_server(s3: SeaweedFS) -> Iterator[tuple[str, int]]:
    """Run rclone with its defaults as a server. :return: its address and process id."""
    program = shutil.which("rclone") or str(Path(sys.executable).parent / "rclone")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "RCLONE_CONFIG": "/nonexistent/rclone.conf",
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_S3_ENDPOINT": s3.endpoint_url,
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": s3.access_key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": s3.secret_key,
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "rcd", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        wait_for("rclone", lambda: _is_open(port), seconds=30)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rclone(url: str, prefix: str, count: int, at_a_time: int, s3: SeaweedFS) -> dict[str, Any]:
    """Let rclone copy clips."""
    import requests

    with rclone_server(s3) as (address, pid):

        def copy(source: str, name: str) -> None:
            parameters = {"fs": f"s3:{BUCKET}/{prefix}", "remote": name, "url": source}
            requests.post(f"{address}/operations/copyurl", json=parameters, timeout=300).raise_for_status()

        copy(f"{url.rsplit('/', 1)[0]}/{WARM_UP}", WARM_UP)
        before = psutil.Process(pid).cpu_times()
        memory, began = peak_mb(pid), time.perf_counter()
        with ThreadPoolExecutor(at_a_time) as pool:
            for _ in pool.map(lambda number: copy(url, f"{number}.mp4"), range(count)):
                pass
        seconds, after = time.perf_counter() - began, psutil.Process(pid).cpu_times()
        return {
            "seconds": seconds,
            "cpu": after.user + after.system - before.user - before.system,
            "peak_mb": peak_mb(pid),
            "added_mb": peak_mb(pid) - memory,
        }


def python(contestant: str, url: str, prefix: str, count: int, at_a_time: int, s3: SeaweedFS) -> dict[str, Any]:
    """Run one of those in Python in a process of its own."""
    env = {
        **os.environ,
        "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
        "AIRFLOW_CONN_HOST": json.dumps({"conn_type": "http", "host": url.rsplit("/", 1)[0]}),
    }
    job = [contestant, url, prefix, str(count), str(at_a_time)]
    command = [sys.executable, "-m", "benchmarks.archive", "--work", *job]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=ROOT / ".run", prefix="bench-") as name, SeaweedFS() as s3:
        folder = Path(name)
        (folder / "files").mkdir()
        s3.client().create_bucket(Bucket=BUCKET)
        make_clip(folder / "files" / WARM_UP, 1)
        port_file = folder / "port"
        command = [sys.executable, "-m", "benchmarks.archive", "--serve", str(folder / "files"), str(port_file)]
        server = Component("files", command, env=dict(os.environ), cwd=ROOT, log_dir=folder)
        server.start()
        try:
            wait_for("the server", lambda: port_file.exists() and port_file.read_text(), seconds=30, parts=[server])
            for size in sizes:
                clip = folder / "files" / f"{size}.mp4"
                make_clip(clip, size)
                url = f"http://127.0.0.1:{port_file.read_text()}/{clip.name}"
                for at_a_time in CONCURRENCY if size < 1000 else CONCURRENCY[:1]:
                    results += _compare(url, clip.stat().st_size, size, at_a_time, rounds, s3)
                clip.unlink()
        finally:
            server.stop()
    return results


def _compare(url: str, length: int, size: int, at_a_time: int, rounds: int, s3: SeaweedFS) -> list[dict[str, Any]]:
    count = count_clips(size, at_a_time)
    found: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in CONTESTANTS}
    for turn in range(rounds):
        for contestant in CONTESTANTS:
            prefix = f"{size}/{at_a_time}/{turn}/{contestant.replace(' ', '-')}"
            if contestant.startswith("rclone"):
                run = rclone(url, prefix, count, at_a_time, s3)
            else:
                run = python(contestant, url, prefix, count, at_a_time, s3)
            client = s3.client()
            for number in range(count):
                key = f"{prefix}/{number}.mp4"
                if client.head_object(Bucket=BUCKET, Key=key)["ContentLength"] != length:
                    raise RuntimeError(f"{contestant}: the object {key} is not whole")
                client.delete_object(Bucket=BUCKET, Key=key)
            found[contestant].append(run)
            print(size, at_a_time, contestant, {name: round(value, 2) for name, value in run.items()}, flush=True)
    fastest = statistics.median(run["seconds"] for run in found["rclone copyurl"])
    results = []
    for contestant, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        results.append(
            {
                "contestant": contestant,
                "megabytes": size,
                "at_a_time": at_a_time,
                "clips": count,
                "seconds": round(seconds, 2),
                "megabytes_per_second": round(size * count / seconds, 1),
                "of_rclone": round(fastest / seconds, 2),
                "cpu_seconds": round(statistics.median(run["cpu"] for run in runs), 2),
                "peak_mb": round(max(run["peak_mb"] for run in runs), 1),
                "added_mb": round(max(run["added_mb"] for run in runs), 1),
                "all_seconds": [round(run["seconds"], 2) for run in runs],
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, metavar="MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        contestant, url, prefix, count, at_a_time = options.work
        print(json.dumps(work(contestant, url, prefix, int(count), int(at_a_time))))
    elif options.serve:
        asyncio.run(serve(*options.serve))
    elif options.quick:
        save("archive", compare(options.sizes or [8], 1), key=KEY, quick=True)
    else:
        save("archive", compare(options.sizes or [8, 100, 1000], options.rounds), key=KEY)


if __name__ == "__main__":
    main()
