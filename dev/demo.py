# SPDX-License-Identifier: Apache-2.0
"""``make demo``: eight photographs become eight clips, by a real Airflow, into a real S3, with the API's sandbox.

Exit code 0 only when every clip is good, was charged once, and no secret was found in Airflow's database and logs.
The results are in ``demo-output/``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow_provider_wan.links.wan import build_run_path
from airflow_provider_wan.media import contact_sheet
from dev import leaks
from dev.component import StackError
from dev.demo_checks import BUCKET, DAG, OUTPUT, PHOTOS, Watch, collect, report_results
from dev.stack import ROOT, Stack

FOLDER = ROOT / ".run" / "demo"
PID_FILE = ROOT / ".run" / "demo.pid"
STEPS = ("ingest", "generate", "archive")
# The sandbox's clock: a clip that takes the service a minute takes a third of that here.
SPEED = 3
WORDS = {"success": "done", "deferred": "waiting", "none": "to come", "scheduled": "scheduled"}


class Clock:
    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        print(f"{self():6.1f} s  {text}", flush=True)


def upload(stack: Stack, day: str) -> list[Path]:
    """Upload the photographs and their prompts to the prefix from which the Dag reads the images of ``day``."""
    s3 = stack.s3_client()
    s3.create_bucket(Bucket=BUCKET)
    photos = sorted(PHOTOS.glob("*.jpg"))
    for path in [*photos, *(photo.with_suffix(".txt") for photo in photos)]:
        s3.upload_file(str(path), BUCKET, f"images/{day}/{path.name}")
    return photos


def summary(instances: Sequence[dict[str, Any]]) -> str:
    """Return one line with the progress of each step."""
    by_step: dict[str, Counter[str]] = defaultdict(Counter)
    for instance in instances:
        by_step[instance["task_id"].split(".")[-1]][instance["state"] or "none"] += 1
    parts = []
    for step in STEPS:
        states = ", ".join(f"{count} {WORDS.get(state, state)}" for state, count in sorted(by_step[step].items()))
        parts.append(f"{step}: {states or 'to come'}")
    return " | ".join(parts)


def watch(stack: Stack, run_id: str, clock: Clock, *, seconds: float = 480) -> Watch:
    """Follow the run to its end, and print a line when something changed, at most every two seconds.

    :raises StackError: if the run does not end in time.
    """
    seen, printed, printed_at = Watch(), "", 0.0
    deadline = clock() + seconds
    while True:
        stack.check()
        state = stack.airflow.run(DAG, run_id)["state"]
        instances = stack.airflow.task_instances(DAG, run_id)
        states = Counter(instance["state"] or "none" for instance in instances)
        line = summary(instances)
        if states["deferred"] and not states.keys() & {"queued", "running", "restarting"}:
            # All tasks wait: a worker that stays busy now would be busy with waiting.
            busy = stack.busy_workers()
            seen.trigger_arguments += leaks.trigger_arguments(stack.home.database, stack.home.fernet_key)
            if not busy:
                seen.idle_samples += 1
                seen.most_waiting = max(seen.most_waiting, states["deferred"])
                line += "   (no worker is busy)"
        ended = state in ("success", "failed")
        if line != printed and (clock() - printed_at >= 2 or ended):
            clock.say(line)
            printed, printed_at = line, clock()
        if ended:
            clock.say(f"the run ended: {state}")
            return seen
        if clock() > deadline:
            raise StackError(f"the run has no end after {seconds:.0f} s: {line}")
        time.sleep(0.7)


def show_failures(stack: Stack, run_id: str) -> None:
    for instance in stack.airflow.task_instances(DAG, run_id):
        if instance["state"] == "failed":
            text = stack.airflow.task_log(
                DAG,
                run_id,
                instance["task_id"],
                map_index=instance["map_index"],
                attempt=instance["try_number"],
            )
            print(f"\n--- {instance['task_id']} [{instance['map_index']}] failed:")
            print("\n".join(text.splitlines()[-12:]))


def run(stack: Stack, clock: Clock) -> tuple[bool, str]:
    """Make the clips. :return: whether all is good, and the run's id."""
    now = datetime.now(UTC)
    day = f"{now - timedelta(days=1):%Y-%m-%d}"
    clock.say("starting SeaweedFS, the sandbox and Airflow …")
    stack.start()
    clock.say(f"all parts are healthy: {', '.join(stack.components)}")
    photos = upload(stack, day)
    clock.say(f"{len(photos)} photographs are in s3://{BUCKET}/images/{day}/")
    stack.wait_for_dags(DAG)
    # The last whole day before now is the run's data interval.
    run_id = stack.airflow.trigger(DAG, logical_date=now)
    clock.say(f"triggered {DAG}")
    seen = watch(stack, run_id, clock)
    show_failures(stack, run_id)
    clips, tiles, failed = collect(stack, run_id)
    clock.say(f"decoded every frame of {len(clips)} clips")
    if tiles:
        cost = sum(clip.cost for clip in clips)
        length = sum(clip.facts.seconds for clip in clips)
        title = f"{DAG}: {len(photos)} photographs, {len(clips)} clips"
        subtitle = f"{day}  ·  720P  ·  {length:.0f} seconds of video  ·  ${cost:.2f} at list price, one charge a clip"
        (OUTPUT / "contact-sheet.png").write_bytes(contact_sheet.render_png(tiles, title=title, subtitle=subtitle))
        (OUTPUT / "index.html").write_bytes(contact_sheet.render_html(tiles, title=title, subtitle=subtitle))
    good = report_results(stack, photos, clips, failed, seen)
    print(f"\nSee {OUTPUT.name}/index.html and {OUTPUT.name}/contact-sheet.png\n")
    clock.say("every clip is good" if good else "NOT everything is good")
    return good, run_id


def demo(*, keep: bool) -> int:
    clock = Clock()

    def interrupt(*_: object) -> NoReturn:
        clock.say("stopping …")
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A process in the background or under nohup ignores one of these signals on purpose.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    with ExitStack() as cleanup:
        stack = Stack(FOLDER, dags={"dags": ROOT / "dags"}, speed=SPEED)
        cleanup.callback(PID_FILE.unlink, missing_ok=True)
        PID_FILE.parent.mkdir(parents=True, exist_ok=True)
        PID_FILE.write_text(str(os.getpid()))
        cleanup.callback(stack.stop)
        try:
            good, run_id = run(stack, clock)
            if keep:
                print(f"\nAirflow is at {stack.home.url}    user: admin    password: {stack.home.password}")
                print(f"The clips are at {stack.home.url}{build_run_path(DAG, run_id)}")
                print(f"All clips are at {stack.home.url}/plugin/wan-clips")
                print(f"S3 is at {stack.s3_url}, the sandbox at {stack.sandbox_url}")
                print("Ctrl-C here, or 'make stop' elsewhere, ends it.", flush=True)
                with suppress(KeyboardInterrupt):
                    threading.Event().wait()
        except KeyboardInterrupt:
            return 130
        except StackError as error:
            clock.say(f"stopped: {error}")
            return 1
    clock.say("everything that was started has been stopped")
    return 0 if good else 1


def stop() -> int:
    """Stop the demo that runs in another terminal."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and b"dev.demo" not in command.read_bytes():
            raise ProcessLookupError
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        print("No demo is running.")
        return 0
    print("Stopping the demo …", flush=True)
    deadline = time.monotonic() + 60
    while PID_FILE.exists():
        if time.monotonic() > deadline:
            print(f"The demo (process {pid}) does not end.", file=sys.stderr)
            return 1
        time.sleep(0.2)
    print("Stopped.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C or 'make stop'")
    parser.add_argument("--stop", action="store_true", help="stop a demo that was left up")
    options = parser.parse_args()
    return stop() if options.stop else demo(keep=options.keep)


if __name__ == "__main__":
    sys.exit(main())
