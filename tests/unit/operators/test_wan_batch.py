# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.batch.engine import EndOfCycle
from airflow_provider_wan.batch.errors import WanBatchError
from airflow_provider_wan.operators.assets import build_asset
from airflow_provider_wan.operators.batch_setup import build_batch, build_defaults, hash_arguments
from airflow_provider_wan.operators.wan_batch import WanI2VBatchOperator, list_datasets


def operator(**more: Any) -> Any:
    given = {"manifest": "s3://b/rows.jsonl", "output_prefix": "s3://b/clips/"}
    return WanI2VBatchOperator(task_id="clips", **{**given, **more})


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fit", "stretch"),
        ("delivery", "ftp"),
        ("cancel_policy", "some"),
        ("on_item_failure", "stop"),
        ("max_failed_fraction", 2),
        ("max_failed_fraction", True),
        ("max_in_flight", 0),
        ("max_in_flight", 2.5),
        ("submits_per_second", 0),
        ("timeout", -1),
        ("item_timeout", "1h"),
        ("poll_interval", 0),
    ],
)
def test_an_argument_that_is_none_is_refused_when_the_dag_is_read(argument: str, value: bool | float | str) -> None:
    with pytest.raises(WanValidationError, match=argument):
        operator(**{argument: value})


@pytest.mark.parametrize(
    ("output", "uri"),
    [
        ("s3://b/clips/", "s3://b/clips/"),
        ("s3://b/clips/{{ ds }}/", "s3://b/clips/"),
        ("s3://b/clips/day-{{ ds }}/", "s3://b/clips/"),
        ("s3://b/{{ ds }}/", None),
        ("s3://{{ var.value.b }}/clips/", None),
    ],
)
def test_the_asset_is_the_prefix_up_to_a_template(output: str, uri: str | None) -> None:
    asset = build_asset(output)

    assert (asset.name if asset else None) == uri
    assert [each.name for each in operator(output_prefix=output).outlets] == ([uri] if uri else [])


def test_outlets_of_the_users_own_replace_it() -> None:
    assert operator(outlets=[]).outlets == []


def test_text_of_a_template_gets_the_type_of_its_field(connection: Any) -> None:
    connection()
    defaults = build_defaults(operator(duration="10", audio="False", seed="None", prompt="5"))

    assert (defaults["duration"], defaults["audio"], defaults["prompt"], "seed" in defaults) == (10, False, "5", False)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("prompt", "a dog"),
        ("idempotency_key", "again"),
        ("reuse", "content"),
        ("rows", [1, 2]),
        ("row_templates", {"prompt": "{{ TEXT }}"}),
        ("fit", "pad"),
        ("pad_fill", "black"),
        ("crop_anchor", "left"),
        ("frame", "1"),
    ],
)
def test_a_checkpoint_of_another_value_of_what_decides_a_rows_clip_is_not_continued(
    connection: Any, argument: str, value: Any
) -> None:
    connection()
    context: Any = {"ti": SimpleNamespace()}
    before = hash_arguments(operator(), context)
    assert hash_arguments(operator(), context) == before
    assert hash_arguments(operator(**{argument: value}), context) != before


def test_a_lifetime_with_which_every_url_counts_as_expired_is_refused(connection: Any) -> None:
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="clips", run_id="r", map_index=-1, try_number=1)}

    with pytest.raises(WanValidationError, match=r"expires_in=120.*at least 360 s.*Leave it out"):
        build_batch(operator(expires_in=120), context)


@pytest.mark.parametrize("method", ["execute", "execute_complete"])
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            ClientError(
                {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}},
                "GetObject",
            ),
            "S3 refuses GetObject at s3://b/clips/: AccessDenied. Give the credentials s3:GetObject",
        ),
        (EndpointConnectionError(endpoint_url="http://s3"), "EndpointConnectionError. Check the endpoint"),
    ],
    ids=["403", "no connection"],
)
def test_an_s3_that_refuses_the_checkpoint_is_a_sentence_with_a_remedy(
    connection: Any, method: str, error: Exception, remedy: str, tmp_path: Path
) -> None:
    connection()
    run = SimpleNamespace(conf={}, run_id="r")
    ti = SimpleNamespace(dag_id="d", task_id="clips", run_id="r", map_index=-1, try_number=1)
    task = operator(manifest=["https://images.example.com/1.png"], ledger_uri=f"file://{tmp_path}")
    task.__dict__["s3"] = SimpleNamespace(get_object=Mock(side_effect=error))
    more: list[Any] = [{}] if method == "execute_complete" else []

    with pytest.raises(WanBatchError, match=re.escape(remedy)) as raised:
        getattr(task, method)({"ti": ti, "dag_run": run}, *more)

    assert "retry or clear this task" in str(raised.value)
    assert raised.value.__context__ is None


def test_lineage_reads_the_manifest_or_the_images_folders_and_writes_clips_and_results() -> None:
    read, written = list_datasets("s3://b/rows.jsonl", "s3://b/clips/", "s3://b/clips/_batch/x/")

    assert read == ["s3://b/rows.jsonl"]
    assert written == ["s3://b/clips/", "s3://b/clips/_batch/x/results.jsonl"]
    listed, _ = list_datasets(
        [{"image": "s3://b/in/a.png"}, "s3://b/in/b.png", {"image": "/disk/c.png"}], "s3://b/c/", None
    )
    assert listed == ["/disk", "s3://b/in"]


class TestKill:
    """A batch is killed while one request is its own, and one is another task's that it follows."""

    @pytest.fixture
    def killed(self) -> Any:
        cancelled: list[str] = []

        def cancel(request_id: str) -> bool:
            cancelled.append(request_id)
            return True

        record = RequestRecord("own", RequestStatus.QUEUED, "queued")
        each = {
            row: SimpleNamespace(request_id=name, item=SimpleNamespace(paid_here=name == "own"))
            for row, name in enumerate(("own", "followed"), 1)
        }
        killed = operator(cancel_policy="always")
        killed.__dict__["hook"] = SimpleNamespace(get_request=lambda request_id: record, cancel=cancel)
        killed._batch_run = SimpleNamespace(scheduler=SimpleNamespace(in_flight=each), end_time=time.time() + 60)
        return SimpleNamespace(operator=killed, cancelled=cancelled)

    def test_the_worker_cancels_only_its_own(self, killed: Any) -> None:
        killed.operator.on_kill()

        assert killed.cancelled == ["own"]

    def test_the_trigger_gets_those_that_it_may_not_cancel(self, killed: Any) -> None:
        with pytest.raises(TaskDeferred) as deferred:
            killed.operator._defer(killed.operator._batch_run, EndOfCycle(("own", "followed"), None, is_last=False))

        assert deferred.value.trigger.followed_ids == ["followed"]
