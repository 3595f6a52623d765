# SPDX-License-Identifier: Apache-2.0
"""The DAGs of the tutorials do what the tutorials say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_wan.sandbox import SandboxServer
from dev.airflow_home import clean_environment, make_home
from dev.docs.pages import ROOT, blocks
from dev.seaweed import SeaweedFS
from dev.stack import TEMPLATES
from tests.docs.conftest import KEY, run_dag_test

BUCKET = "my-bucket"


def extract_dag(page: str) -> str:
    """Return the first Python block of a page."""
    return next(block.text for block in blocks("python") if block.page == ROOT / page)


def test_the_first_dag_of_the_tutorial_is_the_one_of_the_readme() -> None:
    assert extract_dag("docs/tutorials/first-clip.md") == extract_dag("README.md")


@pytest.mark.nightly
def test_the_first_batch_is_estimated_and_then_made(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "first_batch.py").write_text(extract_dag("docs/tutorials/first-batch.md"), encoding="utf-8")
    options = {"wan": {"ledger_uri": f"s3://{BUCKET}/wan-ledger"}}
    home = make_home(tmp_path / "airflow", port=1, dags={"dags": dags}, templates=TEMPLATES, overrides=options)
    with SeaweedFS() as s3, SandboxServer(api_key=KEY, speed=60, render="tiny") as sandbox:
        client = s3.client()
        client.create_bucket(Bucket=BUCKET)
        for name, photo in (("cat", "cat.jpg"), ("dog", "rocket.jpg")):
            client.upload_file(str(ROOT / "dev" / "photos" / photo), BUCKET, f"photos/{name}.jpg")
        environment = clean_environment(
            tmp_path,
            {
                "AIRFLOW_HOME": str(home.path),
                "PYTHONPATH": str(ROOT),
                "AIRFLOW_CONN_AWS_DEFAULT": s3.airflow_connection(),
                "AIRFLOW_CONN_WAN_DEFAULT": json.dumps({"conn_type": "wan", "host": sandbox.base_url, "password": KEY}),
            },
        )

        estimate = run_dag_test("first_batch", environment, tmp_path)
        assert sandbox.accepted() == []
        assert "$1.50" in estimate
        run_dag_test("first_batch", environment, tmp_path, "--conf", '{"dry_run": false}')
        assert sorted(charge["usd"] for charge in sandbox.charges()) == [0.5, 1.0]
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix="first-batch/")["Contents"]
    keys = [each["Key"] for each in listed]
    assert sum(key.endswith(".mp4") for key in keys) == 2
    for name in ("results.jsonl", "sheet.html", "sheet.png", "summary.json"):
        assert any(key.startswith("first-batch/_batch/") and key.endswith(f"/{name}") for key in keys), name
