# SPDX-License-Identifier: Apache-2.0
"""Real-world datasets through the batch operator, against a real S3 and the sandbox."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.batch_runs import BatchTask
from dev.testkit.media_files import picture
from dev.testkit.s3_folder import Folder


def prompts(sandbox: SandboxServer) -> list[Any]:
    accepted = [each["request_id"] for each in sandbox.accepted()]
    return sorted(
        job.payload["prompt"] for job in sandbox.call(lambda core: [core.jobs.get(each) for each in accepted])
    )


def test_a_parquet_with_the_pictures_inside_becomes_clips(folder: Folder, sandbox: SandboxServer) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [
        {"bytes": picture(3000, 2000, "PNG"), "path": "a.png"},
        {"bytes": picture(480, 640), "path": "b.jpg"},
        {"bytes": b"no picture", "path": "c.jpg"},
    ]
    buffer = io.BytesIO()
    table = {"image": images, "text": ["one", "two", "three"], "duration": [5.0, None, 5.0]}
    parquet.write_table(arrow.table(table), buffer)
    uri = folder.put("train/train-00000.parquet", buffer.getvalue())
    job = BatchTask(folder, {"manifest": f"{uri.rpartition('/')[0]}/", "columns": {"prompt": "text"}})

    result = job.try_(max_failed_fraction=0.5)

    assert (result["archived"], result["rejected"]) == (2, 1)
    assert prompts(sandbox) == ["one", "two"]
    (rejected,) = (row for row in job.rows() if row["status"] == "rejected")
    assert rejected["row"] == 3
    assert rejected["image"].startswith("c.jpg")


def test_a_parquet_of_pandas_with_floats_and_timestamps_becomes_clips(folder: Folder, sandbox: SandboxServer) -> None:
    pandas = pytest.importorskip("pandas")
    images = [folder.put(f"in/{number}.jpg", picture(480, 640 + number)) for number in range(3)]
    frame = pandas.DataFrame(
        {
            "image": images,
            "prompt": ["one", None, "three"],
            "duration": [5.0, float("nan"), 7.5],
            "seed": pandas.array([7, None, 9], dtype="Int64"),
            "taken": pandas.to_datetime([1, 2, None], unit="ns"),
            "tags": [{"a": [1]}, None, {"a": []}],
        }
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    job = BatchTask(folder, {"manifest": folder.put("frame.parquet", buffer.getvalue())})

    result = job.try_(max_failed_fraction=0.5)

    assert (result["archived"], result["rejected"]) == (2, 1)
    assert prompts(sandbox) == ["", "one"]
    (rejected,) = (row for row in job.rows() if row["status"] == "rejected")
    assert rejected["row"] == 3
    assert "duration=7.5" in rejected["error"]


def test_a_webdataset_shard_becomes_clips(folder: Folder, sandbox: SandboxServer) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (
            ("001.jpg", picture(480, 640)),
            ("001.txt", b"one"),
            ("002.jpg", picture(640, 480)),
            ("002.json", json.dumps({"prompt": "two"}).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    job = BatchTask(folder, {"manifest": folder.put("shards/00000.tar", buffer.getvalue())})

    assert job.try_()["archived"] == 2
    assert prompts(sandbox) == ["one", "two"]


def test_a_semicolon_csv_of_a_spreadsheet_becomes_clips(folder: Folder, sandbox: SandboxServer) -> None:
    images = [folder.put(f"in/{number}.jpg", picture(480, 640 + number)) for number in range(2)]
    lines = ["Bild;Text;Länge", *(f"{image};ein Käfer;5,0" for image in images), "s3://no/such.jpg;x;fünf"]
    uri = folder.put("rows.csv", "\r\n".join(lines).encode("cp1252"))
    job = BatchTask(
        folder,
        {"manifest": uri, "columns": {"image": "Bild", "duration": "Länge"}},
    )

    result = job.try_(row_templates={"prompt": "{{ Text }}, langsam"}, max_failed_fraction=0.5)

    assert (result["archived"], result["rejected"]) == (2, 1)
    assert prompts(sandbox) == ["ein Käfer, langsam"] * 2


def test_a_coco_dataset_in_other_object_storage_becomes_clips(folder: Folder, sandbox: SandboxServer) -> None:
    files = MemoryFileSystem()
    attach("gs", fs=files)
    files.pipe("/coco/images/1.png", picture(3000, 2000, "PNG"))
    dataset = {
        "images": [{"id": 1, "file_name": "images/1.png"}, {"id": 2, "file_name": "images/2.png"}],
        "annotations": [{"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "two"}],
    }
    files.pipe("/coco/captions.json", json.dumps(dataset).encode())
    job = BatchTask(folder, {"manifest": "gs://coco/captions.json"})

    result = job.try_(max_failed_fraction=0.5)

    assert (result["archived"], result["rejected"]) == (1, 1)
    assert prompts(sandbox) == ["one"]
    (rejected,) = (row for row in job.rows() if row["status"] == "rejected")
    assert (rejected["row"], rejected["image"]) == (2, "gs://coco/images/2.png")


def test_rows_of_wan27_have_a_last_frame_from_a_bucket(folder: Folder, sandbox: SandboxServer) -> None:
    first, last = (folder.put(f"in/{side}.jpg", picture(480, side)) for side in (640, 641))
    rows = [
        {"image": first, "last_frame": last, "duration": 2},
        {"image": first, "last_frame": f"{last}.gone", "duration": 2},
    ]
    job = BatchTask(folder, {"manifest": rows, "model": "wan2.7-i2v"})

    result = job.try_(max_failed_fraction=0.5)

    assert (result["archived"], result["rejected"]) == (1, 1)
    (accepted,) = sandbox.accepted()
    (payload,) = sandbox.call(lambda core: [core.jobs.get(accepted["request_id"]).payload])
    assert payload["first_frame"].startswith("http")
    assert payload["last_frame"].startswith("http")
    assert payload["last_frame"] != payload["first_frame"]
    (rejected,) = (row for row in job.rows() if row["status"] == "rejected")
    assert "641.jpg.gone" in rejected["error"]
