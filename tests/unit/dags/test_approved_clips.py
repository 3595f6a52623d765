# SPDX-License-Identifier: Apache-2.0
"""The example Dag ``wan_approved_clips``: where clips go, and where they are published."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from airflow.sdk import DAG

from dev.stack import ROOT

IMAGES = ("s3://media/a/cat.jpg", "s3://media/b/cat.jpg", "https://images.example.com/cat.jpg?X-Amz-Signature=1")


def test_images_of_one_name_in_two_folders_are_two_clips_and_two_publications(
    dags: list[DAG], monkeypatch: pytest.MonkeyPatch
) -> None:
    runpy.run_path(str(ROOT / "dags" / "wan_approved_clips.py"))
    (dag,) = dags
    mapped: Any = dag.get_task("clip")
    clip = mapped.unmap({"op_kwargs": {"image": IMAGES[0]}}).python_callable
    context = {"params": {"prompt": "a cat"}, "run_id": "run-1"}
    monkeypatch.setitem(clip.__globals__, "get_current_context", lambda: context)
    targets = [clip(image, "s3://media/drafts/run-1")["target"] for image in IMAGES]
    assert len(set(targets)) == len(IMAGES)
    assert not any("Signature" in target for target in targets)

    copied: dict[str, str] = {}

    class Hook:
        def copy_object(self, source: str, target: str, *buckets: str) -> None:
            copied[source] = target

    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.s3.S3Hook", lambda aws_conn_id: Hook())
    publish: Any = dag.get_task("publish")
    made = [{"uri": target, "record_uri": f"{target.removesuffix('.mp4')}.json"} for target in targets]
    published = publish.python_callable(made)
    assert len(set(copied.values())) == len(set(published)) == 2 * len(IMAGES)
    assert {uri.split("/")[3] for uri in published} == {"published"}
    assert all("/run-1/" in uri for uri in published)
