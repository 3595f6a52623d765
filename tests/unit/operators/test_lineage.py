# SPDX-License-Identifier: Apache-2.0
"""What a task reports to OpenLineage and to its assets."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.definitions.asset import AssetUniqueKey
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.operators.assets import build_file_asset, emit_asset_events
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.lineage import build_lineage, name_dataset
from airflow_provider_wan.operators.wan import WanI2VOperator
from airflow_provider_wan.operators.wan_batch import list_datasets
from airflow_provider_wan.transfers.wan_to_s3 import WanToS3Operator
from tests.unit.operators.conftest import IMAGE


@pytest.mark.parametrize(
    ("uri", "dataset"),
    [
        ("s3://b/clips/a.mp4", ("s3://b", "clips/a.mp4")),
        ("s3://b/clips/", ("s3://b", "clips")),
        ("s3a://b/clips/a?b#1.mp4", ("s3://b", "clips/a?b#1.mp4")),
        ("S3://b/a.mp4", ("s3://b", "a.mp4")),
        ("gs://conn@b/cats/#1?.jpg", ("gs://b", "cats/#1?.jpg")),
        ("https://user:word@h.example:8443/a/b.jpg?X-Amz-Signature=c0ffee", ("https://h.example:8443", "a/b.jpg")),
        ("file:///disk/a.png", ("file", "/disk/a.png")),
        ("/disk/a.png", ("file", "/disk/a.png")),
    ],
)
def test_files_are_named_as_openlineage_names_them(uri: str, dataset: tuple[str, str]) -> None:
    assert name_dataset(uri) == dataset


def test_a_task_that_was_deferred_names_all_its_files() -> None:
    operator = WanImageToVideoOperator(
        task_id="clip",
        source="s3://b/first.jpg",
        last_frame="https://images.example.com/last.jpg",
        target="s3://b/clips/a.mp4",
    )
    resumed = operator.get_openlineage_facets_on_complete(None).inputs
    operator.img_url = {"url": "https://b.s3.example.com/_ingest/1.jpg", "uri": "s3://b/_ingest/1.jpg"}
    executed = operator.get_openlineage_facets_on_complete(None).inputs
    assert [each.name for each in resumed] == [each.name for each in executed] == ["first.jpg", "last.jpg"]


@pytest.mark.parametrize(
    ("manifest", "inputs"),
    [
        ("gs://b/rows.csv", ["gs://b/rows.csv"]),
        ("/disk/rows.csv", ["/disk/rows.csv"]),
        (
            ["s3://b/x/1.jpg", {"image": "gs://b/y/2.jpg"}, {"img_url": "https://h/z/3.jpg"}, {"image": None}, 7],
            ["gs://b/y", "https://h/z", "s3://b/x"],
        ),
        ('[{"image": "s3://b/1.jpg", "prompt": "a secret"}]', []),
    ],
    ids=["storage", "disk", "list", "text"],
)
def test_a_batch_names_what_it_reads_wherever_it_is(manifest: Any, inputs: list[str]) -> None:
    assert list_datasets(manifest, "s3://b/clips/", None)[0] == inputs


def test_the_facet_of_a_run_has_what_was_made_and_no_address() -> None:
    result = {"request_id": "r-1", "fingerprint": "f", "sha256": "5", "cost": 0.5, "size": 7, "video_url": "https://x"}
    lineage = build_lineage(["s3://b/a.jpg", None], ["s3://b/a.mp4"], result)

    facet: Any = lineage.run_facets["wanClip"]
    assert (facet.requestId, facet.fingerprint, facet.sha256, facet.cost) == ("r-1", "f", "5", 0.5)
    assert lineage.outputs[0].outputFacets["outputStatistics"].size == 7
    assert "https://x" not in str(lineage)
    assert build_lineage([None], [None]).run_facets == {}


def test_a_task_that_makes_a_clip_leads_from_its_image_to_its_request(run: Any, api: Any) -> None:
    operator = run.operator(deferrable=False, outlets=[])
    result = operator.execute(run.context())

    lineage = operator.get_openlineage_facets_on_complete(None)

    assert [(each.namespace, each.name) for each in lineage.inputs] == [("https://images.example.com", "cat.jpg")]
    ((namespace, name),) = [(each.namespace, each.name) for each in lineage.outputs]
    assert f"{namespace}/{name}" == f"{api.base_url}/requests/{result['request_id']}"


@pytest.mark.parametrize("outlet", [Asset("clips"), AssetAlias("clips")])
def test_events_of_the_outlets_have_request_key_hash_and_cost(run: Any, outlet: Any) -> None:
    context = {**run.context(), "outlet_events": OutletEventAccessors()}
    operator = run.operator(deferrable=False, outlets=[outlet], img_url={"url": IMAGE, "sha256": "a" * 64})
    result = operator.execute(context)

    event: Any = context["outlet_events"][outlet]
    extra = event.asset_alias_events[0].extra if isinstance(outlet, AssetAlias) else event.extra
    assert extra["wan"]["request_id"] == result["request_id"]
    assert (extra["wan"]["fingerprint"], extra["wan"]["cost"]) == (result["fingerprint"], 0.5)
    assert not [name for name in extra["wan"] if "url" in name]


def test_the_event_of_an_outlet_that_is_a_reference_says_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asset = Asset("clips", uri="s3://b/clips/")
    resolved: Any = (AssetUniqueKey.from_asset(asset), {})
    monkeypatch.setattr(OutletEventAccessors, "_resolve_asset_ref", lambda *_: resolved)
    context: Any = {"outlet_events": OutletEventAccessors()}
    operator = WanI2VOperator(task_id="generate", img_url=IMAGE, outlets=[Asset.ref(name="clips")])
    emit_asset_events(context, operator, "s3://b/clips/", {"cost": 0.5})
    assert context["outlet_events"][asset].extra == {"wan": {"cost": 0.5}}


@pytest.mark.parametrize(
    ("key", "bucket", "uri"),
    [
        ("s3://b/clips/a.mp4", None, "s3://b/clips/"),
        ("s3://b/clips/{{ ds }}/a.mp4", None, "s3://b/clips/"),
        ("s3://b/clips/a-{{ x/y }}.mp4", None, "s3://b/clips/"),
        ("clips/a.mp4", "b", "s3://b/clips/"),
        ("clips/a.mp4", "{{ var.value.b }}", None),
        ("s3://b/a.mp4", None, None),
        ({"xcom": 1}, None, None),
    ],
)
def test_the_asset_of_a_clip_is_the_prefix_in_which_it_lies(key: Any, bucket: Any, uri: str | None) -> None:
    asset = build_file_asset(key, bucket)
    assert (asset.name if asset else None) == uri


def test_the_tasks_that_write_a_clip_have_an_outlet_and_the_users_own_replaces_it() -> None:
    archive: dict[str, Any] = {"task_id": "archive", "request_id": "r", "s3_key": "s3://b/clips/a.mp4"}
    whole: dict[str, Any] = {"task_id": "clip", "source": "s3://b/a.jpg", "target": "s3://b/clips/a.mp4"}
    cases: list[tuple[Any, dict[str, Any]]] = [(WanToS3Operator, archive), (WanImageToVideoOperator, whole)]
    for operator, arguments in cases:
        assert [each.name for each in operator(**arguments).outlets] == ["s3://b/clips/"]
        assert operator(**arguments, outlets=[]).outlets == []
    assert WanI2VOperator(task_id="generate", img_url=IMAGE).outlets == []


def test_a_mapped_task_has_only_the_outlets_that_airflow_has_registered() -> None:
    mapped = WanToS3Operator.partial(task_id="archive", request_id="r").expand(s3_key=["s3://b/clips/a.mp4"])
    task = mapped.unmap({"s3_key": "s3://b/clips/a.mp4"})
    assert task.outlets == mapped.outlets == []
