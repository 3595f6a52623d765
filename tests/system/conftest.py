# SPDX-License-Identifier: Apache-2.0
"""One stack for all system tests: SeaweedFS, the sandbox, and Airflow's scheduler, Dag processor, triggerer and API."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from dev.stack import ROOT, Stack
from tests.system.desk import BUCKET, Desk

DAGS = ("wan_image_to_video", "wan_single_clip", "blocking_clip", "patient_clip", "many_clips", "quick_clips")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything up, the example Dags and those of the tests read, and an empty bucket."""
    options = {"triggerer": {"job_heartbeat_sec": "2", "triggerer_health_check_threshold": "15"}}
    if version("apache-airflow-core") < "3.3":
        # Without Airflow's own task state store, the provider's memory needs a place.
        options["wan"] = {"ledger_uri": f"s3://{BUCKET}/ledger"}
    folders = {"dags": ROOT / "dags", "tests": Path(__file__).with_name("dags")}
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, dags=folders, speed=12, airflow_options=options) as stack:
        stack.s3_client().create_bucket(Bucket=BUCKET)
        stack.wait_for_dags(*DAGS)
        yield stack


@pytest.fixture(scope="session")
def desk(stack: Stack) -> Desk:
    return Desk(stack)


@pytest.fixture(scope="session")
def s3(stack: Stack) -> Any:
    return stack.s3_client()
