# SPDX-License-Identifier: Apache-2.0
"""
Archive one large result in S3 (SeaweedFS): ours, ``HttpToS3Operator`` and ``rclone copyurl``, alternating.

``python -m benchmarks.archive 100 1000`` takes sizes in MB. Ours also checks the MP4, hashes it and writes its record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import save
from dev.component import Component, wait_for
from dev.seaweed import SeaweedFS

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"
CONTESTANTS = ("rclone copyurl", "ours", "HttpToS3Operator")


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


def work(contestant: str, url: str, key: str) -> dict[str, Any]:
    """Run one contestant in this process."""
    if contestant == "ours":
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from airflow_provider_wan.api.record import RequestRecord, RequestStatus
        from airflow_provider_wan.media.archive import ClipArchive
        from airflow_provider_wan.media.fetch import ResultHosts

        record = RequestRecord("req-1", RequestStatus.SUCCESS, "success", video_url=url, payload={"duration": 5})

        def run() -> None:
            client = S3Hook("aws_default").get_conn()
            archive = ClipArchive(client, ResultHosts(api_base_url="http://127.0.0.1:1/api"))
            archive.store(record, BUCKET, key)
    else:
        from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

        def run() -> None:
            endpoint = "/" + url.split("/", 3)[3]
            HttpToS3Operator(
                task_id="t", http_conn_id="host", endpoint=endpoint, s3_bucket=BUCKET, s3_key=key, log_response=False
            ).execute({})

    # A small first run triggers late imports and leaves nothing open.
    before, cpu, began = peak_mb(), time.process_time(), time.perf_counter()
    run()
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "added_mb": peak_mb() - before,
    }


def peak_mb() -> float:
    """Return the peak memory of this process, without that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def rclone(url: str, key: str, s3: SeaweedFS) -> dict[str, Any]:
    """Run rclone with its defaults."""
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
    began = time.perf_counter()
    process = subprocess.Popen([program, "copyurl", url, f"s3:{BUCKET}/{key}"], env=env, stderr=subprocess.PIPE)
    assert process.stderr is not None
    stderr = process.stderr.read()
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise RuntimeError(stderr.decode()[-2000:])
    peak = usage.ru_maxrss / 1000
    return {
        "seconds": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": peak,
        "added_mb": peak,
    }


def python(contestant: str, url: str, key: str, s3: SeaweedFS) -> dict[str, Any]:
    """Run one of the Python contestants in its own process."""
    env = {
        **os.environ,
        "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
        "AIRFLOW_CONN_HOST": json.dumps({"conn_type": "http", "host": url.rsplit("/", 1)[0]}),
    }
    command = [sys.executable, "-m", "benchmarks.archive", "--work", contestant, url, key]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory(dir=ROOT / ".run", prefix="bench-") as name, SeaweedFS() as s3:
        folder = Path(name)
        (folder / "files").mkdir()
        s3.client().create_bucket(Bucket=BUCKET)
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
                found: Mapping[str, list[dict[str, Any]]] = {contestant: [] for contestant in CONTESTANTS}
                for turn in range(rounds):
                    for contestant in CONTESTANTS:
                        key = f"{size}/{turn}/{contestant.replace(' ', '-')}.mp4"
                        run = (
                            rclone(url, key, s3)
                            if contestant.startswith("rclone")
                            else python(contestant, url, key, s3)
                        )
                        if s3.client().head_object(Bucket=BUCKET, Key=key)["ContentLength"] != clip.stat().st_size:
                            raise RuntimeError(f"{contestant}: the object is not whole")
                        s3.client().delete_object(Bucket=BUCKET, Key=key)
                        found[contestant].append(run)
                        print(size, contestant, {name: round(value, 2) for name, value in run.items()}, flush=True)
                fastest = statistics.median(run["seconds"] for run in found["rclone copyurl"])
                for contestant, runs in found.items():
                    seconds = statistics.median(run["seconds"] for run in runs)
                    results.append(
                        {
                            "contestant": contestant,
                            "megabytes": size,
                            "seconds": round(seconds, 2),
                            "megabytes_per_second": round(size / seconds, 1),
                            "of_rclone": round(fastest / seconds, 2),
                            "cpu_seconds": round(statistics.median(run["cpu"] for run in runs), 2),
                            "peak_mb": round(max(run["peak_mb"] for run in runs), 1),
                            "added_mb": round(max(run["added_mb"] for run in runs), 1),
                            "all_seconds": [round(run["seconds"], 2) for run in runs],
                        }
                    )
                clip.unlink()
        finally:
            server.stop()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, metavar="MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a short form, which is not written to the documentation")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(*options.work)))
    elif options.serve:
        asyncio.run(serve(*options.serve))
    elif options.quick:
        save("archive", compare([20], 1), key=("megabytes", "contestant"), quick=True)
    else:
        save("archive", compare(options.sizes or [100, 1000], options.rounds), key=("megabytes", "contestant"))


if __name__ == "__main__":
    main()
