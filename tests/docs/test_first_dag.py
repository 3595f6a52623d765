# SPDX-License-Identifier: Apache-2.0
"""The README's first Dag, from an image in S3 to a clip in S3, as a reader would run it."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_provider_wan.sandbox import SandboxServer
from dev.airflow_home import clean_environment, make_home
from dev.docs.pages import ROOT, blocks
from dev.seaweed import SeaweedFS
from dev.stack import TEMPLATES
from tests.docs.conftest import KEY, run_dag_test

BUCKET = "my-bucket"
PROMPT = "The cat turns its head"


def test_the_first_dag_makes_a_clip_and_defers_meanwhile(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    block = next(block for block in blocks("python") if block.page == ROOT / "README.md")
    (dags / "first_clip.py").write_text(block.text, encoding="utf-8")
    lineage = tmp_path / "lineage.jsonl"
    transport = json.dumps({"type": "file", "log_file_path": str(lineage), "append": True})
    options = {"openlineage": {"transport": transport.replace("%", "%%"), "namespace": "tests"}}
    if version("apache-airflow-core") < "3.3":
        # The README's note on Airflow before 3.3.
        options["wan"] = {"ledger_uri": f"s3://{BUCKET}/wan-ledger"}
    home = make_home(tmp_path / "airflow", port=1, dags={"dags": dags}, templates=TEMPLATES, overrides=options)
    with SeaweedFS() as s3, SandboxServer(api_key=KEY, speed=60, render="tiny") as sandbox:
        client = s3.client()
        client.create_bucket(Bucket=BUCKET)
        client.upload_file(str(ROOT / "dev" / "photos" / "cat.jpg"), BUCKET, "photos/cat.jpg")
        reached = {"conn_type": "wan", "host": sandbox.base_url, "password": KEY}
        environment = clean_environment(
            tmp_path,
            {
                "AIRFLOW_HOME": str(home.path),
                "PYTHONPATH": str(ROOT),
                "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
                "AIRFLOW_CONN_WAN_DEFAULT": json.dumps(reached),
            },
        )
        output = run_dag_test("first_clip", environment, tmp_path)
        assert re.search(r"Pausing task as DEFERRED.*task_id=clip", output)
        assert [charge["usd"] for charge in sandbox.charges()] == [0.5]
        request_id = sandbox.charges()[0]["request_id"]
        record = json.loads(client.get_object(Bucket=BUCKET, Key=f"clips/cat-{request_id}.json")["Body"].read())
        video = client.get_object(Bucket=BUCKET, Key=f"clips/cat-{request_id}.mp4")
    assert record["size"] == video["ContentLength"] > 0
    assert record["cost_usd"] == 0.5
    assert KEY not in output
    assert "X-Amz-Signature" not in output
    lineage_text = lineage.read_text()
    assert KEY not in lineage_text
    assert "X-Amz-Signature" not in lineage_text
    assert PROMPT not in lineage_text
    check_lineage([json.loads(line) for line in lineage_text.splitlines()], request_id, record)
    check_asset_event(home.database, request_id, record)


def check_lineage(events: list[dict[str, Any]], request_id: str, record: dict[str, Any]) -> None:
    """The image leads to the clip: each task reads what the one before has written."""
    ended = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    steps = [ended[f"first_clip.{task}"] for task in ("image", "clip", "archive")]
    names = [
        [[(each["namespace"], each["name"]) for each in step[side]] for side in ("inputs", "outputs")] for step in steps
    ]
    bucket = f"s3://{BUCKET}"
    assert names[0][0] == [(bucket, "photos/cat.jpg")]
    for step, following in itertools.pairwise(names):
        assert len(step[1]) == 1
        assert step[1] == following[0]
    assert names[2][1] == [(bucket, f"clips/cat-{request_id}.mp4")]
    facet = steps[2]["run"]["facets"]["wanClip"]
    assert (facet["requestId"], facet["sha256"], facet["cost"]) == (request_id, record["sha256"], 0.5)
    assert steps[2]["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == record["size"]


def check_asset_event(database: Path, request_id: str, record: dict[str, Any]) -> None:
    with sqlite3.connect(database) as connection:
        query = "select asset.uri, asset_event.extra from asset_event join asset on asset.id = asset_event.asset_id"
        ((uri, extra),) = connection.execute(query).fetchall()
    clip = json.loads(extra)["wan"]
    assert uri.rstrip("/") == f"s3://{BUCKET}/clips"
    assert clip["uri"] == f"s3://{BUCKET}/clips/cat-{request_id}.mp4"
    assert (clip["request_id"], clip["sha256"], clip["cost"]) == (request_id, record["sha256"], 0.5)
    assert len(clip["fingerprint"]) == 64
