# SPDX-License-Identifier: Apache-2.0
"""An API server of Airflow with a ledger of made clips, for tests and pictures of the gallery."""

from __future__ import annotations

import io
import json
import math
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import requests
from PIL import Image

from airflow_provider_wan.ledger import LedgerEntry
from airflow_provider_wan.ledger.entry import EntryState, Outcome
from airflow_provider_wan.ledger.stores import open_store
from dev.airflow_home import AirflowHome, airflow_command, clean_environment, make_home
from dev.component import Component, wait_for
from dev.seaweed import SeaweedFS
from dev.stack import ROOT, TEMPLATES, free_ports
from dev.testkit.ledger import a_claim

BUCKET = "clips"
DAGS = ("wan_image_to_video", "wan_dataset_backfill")
PROMPT = "The camera moves slowly around the subject; soft light."
_PHOTOS = sorted((ROOT / "dev" / "photos").glob("*.jpg"))
_STATES = (
    *(EntryState.ARCHIVED, EntryState.SUBMITTED, EntryState.ARCHIVED, EntryState.FAILED),
    *(EntryState.ARCHIVED, EntryState.IN_DOUBT, EntryState.ARCHIVED, EntryState.ARCHIVED),
)
_REASONS = {
    EntryState.FAILED: "DataInspectionFailed: the image may contain inappropriate content. Use another image.",
    EntryState.IN_DOUBT: "The answer to the submission was lost, and the API's list is inconclusive.",
}


@dataclass
class GalleryServer:
    """
    A running API server.

    :param home: its configuration and login.
    :param s3: holds the clips and images.
    """

    home: AirflowHome
    s3: SeaweedFS
    component: Component

    @property
    def url(self) -> str:
        """Address of the gallery."""
        return f"{self.home.url}/wan"

    def token(self, user: str) -> str:
        """Log a user in, and return the token."""
        passwords = json.loads((self.home.path / "passwords.json").read_text())
        answer = requests.post(
            f"{self.home.url}/auth/token", json={"username": user, "password": passwords[user]}, timeout=30
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


def make_entries(count: int, now: float) -> Iterator[LedgerEntry]:
    """
    Yield clips in all states, over some weeks, of two Dags.

    :param now: Unix seconds of the newest one.
    """
    draw = random.Random(7)
    for n in range(count):
        state = _STATES[n % len(_STATES)]
        started = now - n * min(3600.0, 20 * 86400 / max(count, 1))
        ended = state in (EntryState.ARCHIVED, EntryState.FAILED)
        accepted = state is not EntryState.IN_DOUBT
        photo = _PHOTOS[n % len(_PHOTOS)].stem
        yield replace(
            a_claim(fingerprint=f"{n:064x}", seed=n),
            state=state,
            claimed_at=started,
            renewed_at=started,
            intent_at=started,
            request_id=f"req-{draw.getrandbits(64):016x}" if accepted else None,
            submitted_at=started + 2 if accepted else None,
            outcome=Outcome(_REASONS.get(state), False, started + 60 + 80 * math.exp(draw.gauss(0, 0.4)))
            if ended or not accepted
            else None,
            cost=0.5 if state is EntryState.ARCHIVED else 0.0 if state is EntryState.FAILED else None,
            archive_uri=f"s3://{BUCKET}/{photo}.mp4" if state is EntryState.ARCHIVED else None,
            archive_sha256="0" * 64 if state is EntryState.ARCHIVED else None,
            dag_id=DAGS[n % 2],
            run_id=f"scheduled__2026-11-{1 + n % 24:02d}T00:00:00+00:00",
            task_id="generate",
            map_index=n % 40,
            source_uri=f"s3://{BUCKET}/{photo}.jpg",
        )


def pan(photo: Path) -> bytes:
    """Return two seconds of video that move across a photograph."""
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB").resize((480, 300)))
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 480, 300, "yuv420p"
        for n in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(pixels, 2 * n, axis=1), format="rgb24")))
        container.mux(stream.encode())
    return target.getvalue()


def fill_bucket(client: Any) -> None:
    """Put a clip with its record, and a source image, for each of the project's photographs."""
    client.create_bucket(Bucket=BUCKET)
    for photo in _PHOTOS:
        client.put_object(Bucket=BUCKET, Key=photo.name, Body=photo.read_bytes(), ContentType="image/jpeg")
        client.put_object(Bucket=BUCKET, Key=f"{photo.stem}.mp4", Body=pan(photo), ContentType="video/mp4")
        record = {"parameters": {"prompt": PROMPT, "resolution": "720P"}, "width": 1280, "height": 720}
        client.put_object(Bucket=BUCKET, Key=f"{photo.stem}.json", Body=json.dumps(record).encode())


@contextmanager
def gallery_server(folder: Path, *, clips: int, now: float, viewers: Sequence[str] = ()) -> Iterator[GalleryServer]:
    """
    Run an API server whose ledger holds made clips.

    :param folder: holds everything; must not exist yet.
    :param clips: how many.
    :param now: Unix seconds of the newest one.
    :param viewers: users besides ``admin``; each may read the Dag of the same name only.
    """
    folder = folder.resolve()
    ledger = folder / "ledger"
    store = open_store(f"file://{ledger}")
    for entry in make_entries(clips, now):
        store.create(entry)
    users = ",".join(["admin:admin", *(f"{viewer}:viewer" for viewer in viewers)])
    with SeaweedFS(folder / "s3") as s3:
        fill_bucket(s3.client())
        aws = {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
        connection = {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": aws}
        home = make_home(
            folder / "airflow",
            port=free_ports(1)[0],
            dags={"dags": ROOT / "dags"},
            templates=TEMPLATES,
            overrides={
                "core": {
                    "auth_manager": "dev.testkit.one_dag_auth.OneDagAuthManager",
                    "simple_auth_manager_users": users,
                },
                "wan": {"ledger_uri": f"file://{ledger}"},
            },
        )
        environment = clean_environment(
            folder,
            {
                "AIRFLOW_HOME": str(home.path),
                "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
                "PYTHONPATH": str(ROOT),
            },
        )
        # Which Dags a user may read is asked of those that Airflow knows.
        subprocess.run(airflow_command("dags", "reserialize"), env=environment, cwd=ROOT, check=True)
        component = Component("api-server", airflow_command("api-server"), env=environment, cwd=ROOT, log_dir=folder)
        component.start()
        try:

            def answers() -> bool:
                try:
                    return requests.get(f"{home.url}/api/v2/version", timeout=5).ok
                except requests.RequestException:
                    return False

            wait_for("the API server", answers, seconds=180, every=0.5, parts=[component])
            yield GalleryServer(home, s3, component)
        finally:
            component.stop()
