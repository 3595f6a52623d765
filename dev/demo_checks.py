# SPDX-License-Identifier: Apache-2.0
"""The demo's checks after its run: the clips, the charges, the idle workers and the secrets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from PIL import Image

from airflow_provider_wan.media.contact_sheet import Tile
from dev import leaks
from dev.clips import ClipFacts, faults, inspect
from dev.stack import ROOT, Stack

DAG = "wan_image_to_video"
BUCKET = "wan-media"
OUTPUT = ROOT / "demo-output"
PHOTOS = ROOT / "dev" / "photos"
PIXELS = 1280 * 720
SECONDS = 5


@dataclass
class Watch:
    """Observations during the run."""

    most_waiting: int = 0
    idle_samples: int = 0
    trigger_arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Clip:
    """The clip of one image, and its measurements."""

    name: str
    prompt: str
    request_id: str
    waited: float
    cost: float
    facts: ClipFacts
    faults: tuple[str, ...]


def collect(stack: Stack, run_id: str) -> tuple[list[Clip], list[Tile], list[str]]:
    """Fetch every clip from S3 and decode each of its frames.

    :return: clips, their tiles of the contact sheet, and what failed on the way.
    """
    s3, airflow = stack.s3_client(), stack.airflow
    for name in ("clips", "posters"):
        (OUTPUT / name).mkdir(parents=True, exist_ok=True)
    waits = {i["map_index"]: i for i in airflow.task_instances(DAG, run_id, "clip.generate")}
    found, tiles, failed = [], [], []
    for index, item in enumerate(airflow.xcom(DAG, run_id, "find_images")):
        name = PurePosixPath(item["source"]).stem
        try:
            made = airflow.xcom(DAG, run_id, "clip.generate", map_index=index)
            archived = airflow.xcom(DAG, run_id, "clip.archive", map_index=index)
            video, record = OUTPUT / "clips" / f"{name}.mp4", OUTPUT / "clips" / f"{name}.json"
            for uri, path in ((archived["uri"], video), (archived["record_uri"], record)):
                s3.download_file(BUCKET, uri.removeprefix(f"s3://{BUCKET}/"), str(path))
            facts = inspect(video)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            aspect = photo.width / photo.height
        wrong = faults(facts, seconds=SECONDS, pixels=PIXELS, audio=True, aspect=aspect)
        written = json.loads(record.read_text(encoding="utf-8"))
        if facts.sha256 not in json.dumps(written) or archived["sha256"] != facts.sha256:
            wrong.append("the SHA-256 of the record is not that of the file")
        if made["request_id"] not in json.dumps(written):
            wrong.append("the record does not name the request")
        began, ended = (datetime.fromisoformat(waits[index][each]) for each in ("start_date", "end_date"))
        clip = Clip(
            name=name,
            prompt=item["prompt"],
            request_id=made["request_id"],
            waited=(ended - began).total_seconds(),
            cost=float(made["cost"]),
            facts=facts,
            faults=tuple(wrong),
        )
        found.append(clip)
        tiles.append(build_tile(clip))
    return found, tiles, failed


def build_tile(clip: Clip) -> Tile:
    """Build the clip's tile of the contact sheet, and write its poster."""
    poster = OUTPUT / "posters" / f"{clip.name}.jpg"
    clip.facts.stills[0].convert("RGB").save(poster, quality=85)
    facts = clip.facts
    size = f"{facts.width}x{facts.height}, {facts.seconds:.1f} s, {facts.size / 1e6:.1f} MB"
    return Tile(
        title=clip.name,
        note=f"{size}, ${clip.cost:.2f}, waited {clip.waited:.0f} s",
        video=f"clips/{clip.name}.mp4",
        poster=f"posters/{clip.name}.jpg",
        picture=poster.read_bytes(),
    )


def table(clips: Sequence[Clip]) -> str:
    rows = [("image", "request", "waited", "clip", "frames", "size", "file", "cost", "sha256", "result")]
    for clip in clips:
        facts = clip.facts
        rows.append(
            (
                clip.name,
                clip.request_id,
                f"{clip.waited:.0f} s",
                f"{facts.seconds:.2f} s",
                str(facts.frames),
                f"{facts.width}x{facts.height}",
                f"{facts.size / 1e6:.2f} MB",
                f"${clip.cost:.2f}",
                facts.sha256[:12],
                "good" if not clip.faults else "; ".join(clip.faults),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def find_leaks(stack: Stack, clips: Sequence[Clip], seen: Watch) -> list[str]:
    secrets = leaks.Secrets(
        everywhere={"the API key": stack.api_key, "the S3 secret key": stack.s3_keys[1]},
        in_triggers={f"the prompt of {clip.name}": clip.prompt for clip in clips},
        signing_tasks=frozenset({"ingest"}),
    )
    found = [
        *leaks.scan_files([stack.logs, stack.home.logs], secrets),
        *leaks.scan_database(stack.home.database, stack.home.fernet_key, secrets),
    ]
    for text in seen.trigger_arguments:
        found += secrets.find(text, "a trigger's arguments", trigger=True)
    return [str(leak) for leak in dict.fromkeys(found)]


def count_logged_requests(stack: Stack, clips: Sequence[Clip]) -> int:
    """Count the requests that the triggerer's logs mention."""
    text = stack["triggerer"].log_text() + "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in stack.home.logs.rglob("*.trigger.*")
    )
    return sum(clip.request_id in text for clip in clips)


def report_results(
    stack: Stack, photos: Sequence[Path], clips: Sequence[Clip], failed: Sequence[str], seen: Watch
) -> bool:
    """Print the results of all checks. :return: whether all passed."""
    charges = stack.sandbox_admin("charges")["charges"]
    charged = Counter(charge["request_id"] for charge in charges)
    once = charged == Counter(clip.request_id for clip in clips)
    leaked = find_leaks(stack, clips, seen)
    logged = count_logged_requests(stack, clips)
    good = sum(not clip.faults for clip in clips)
    spent = f"${sum(charge['usd'] for charge in charges):.2f}"
    expected = f"${sum(clip.cost for clip in clips):.2f}"
    scanned = len(seen.trigger_arguments)
    lines = [
        (good == len(photos), f"{good} of {len(photos)} clips are good: every frame decoded"),
        (
            once,
            f"{len(charges)} charges, {spent}, for {len(clips)} clips, {expected}",
        ),
        (
            seen.most_waiting > 0,
            f"while up to {seen.most_waiting} clips waited, no worker was busy ({seen.idle_samples} samples)",
        ),
        (logged == len(clips), f"the triggerer's log mentions {logged} of {len(clips)} requests"),
        (
            bool(seen.trigger_arguments) and not leaked,
            f"secrets: {'; '.join(leaked) or 'none found'} (in the database, the logs and {scanned} trigger arguments)",
        ),
    ]
    print("\n" + table(clips) + "\n")
    for problem in failed:
        print(f"FAILED  {problem}")
    for fine, line in lines:
        print(f"{'ok    ' if fine else 'FAILED'}  {line}")
    return not failed and all(fine for fine, _ in lines)
