# SPDX-License-Identifier: Apache-2.0
"""Manifests that describe images beside them, and manifests in other object storage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import ColumnMapping
from airflow_provider_wan.batch.manifest import open_manifest
from airflow_provider_wan.batch.rows import RawRow
from airflow_provider_wan.media.source import MediaSource, SourceMissingError
from airflow_provider_wan.operators.object_storage import AirflowObjectStorage

NO_S3: Any = None
COCO = {
    "info": {"year": 2017},
    "images": [
        {"id": 1, "file_name": "000001.jpg", "coco_url": "http://images.example.org/1.jpg", "height": 480},
        {"id": 2, "file_name": "s3://b/2.jpg", "height": 480},
        {"id": 3, "file_name": "/data/3.jpg"},
        {"id": 4},
        5,
    ],
    "annotations": [
        {"image_id": 2, "id": 9, "caption": "a dog"},
        {"image_id": 1, "id": 10, "caption": "a cat"},
        {"image_id": 1, "id": 11, "caption": "an animal"},
        {"image_id": 3, "id": 12, "bbox": [1, 2, 3, 4]},
    ],
}


def read(uri: str, **columns: Any) -> list[RawRow]:
    mapping = ColumnMapping.parse(columns.get("columns"), columns.get("row_templates"))
    return list(open_manifest(uri, NO_S3, mapping, AirflowObjectStorage()).rows())


def images(rows: list[RawRow]) -> list[Any]:
    return [row.values.get("image") for row in rows]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("order", [1, -1])
def test_a_coco_dataset_has_a_row_for_each_image_with_its_first_caption(
    tmp_path: Path, indent: int | None, order: int
) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({name: COCO[name] for name in list(COCO)[::order]}, indent=indent))

    rows = read(str(path))

    assert images(rows) == [f"{tmp_path}/000001.jpg", "s3://b/2.jpg", "/data/3.jpg", None, None]
    assert [row.values.get("prompt") for row in rows[:3]] == ["a cat", "a dog", None]
    assert [row.number for row in rows] == [1, 2, 3, 4, 5]
    assert rows[4].fault


@pytest.mark.parametrize("ids", [("1", 1), (1, "1"), (1.0, 1), (2**70, 2**70)])
def test_the_ids_of_a_coco_dataset_may_be_numbers_or_text(tmp_path: Path, ids: tuple[Any, Any]) -> None:
    path = tmp_path / "captions.json"
    pictures = [
        {"id": ids[0], "score": float("nan"), "file_name": "a.jpg"},
        {"id": [1], "file_name": "b.jpg"},
        {"id": {}},
    ]
    annotations = [{"image_id": [], "caption": "x"}, {"image_id": ids[1], "bbox": [float("inf")], "caption": "a cat"}]
    path.write_text(json.dumps({"info": {"a": ["]", "\\"]}, "images": pictures, "annotations": annotations}))

    rows = read(str(path))

    assert [row.values.get("prompt") for row in rows] == ["a cat", None, None]
    assert images(rows)[:2] == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


def test_a_broken_image_of_a_coco_dataset_is_a_fault_of_its_row_and_a_broken_annotation_one_of_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2 3}], "annotations": []}')
    assert [row.fault is None for row in read(str(path))] == [True, False]

    path.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": x}]}')
    with pytest.raises(WanValidationError, match=r"annotation 1.*is not JSON"):
        read(str(path))


def test_a_coco_dataset_is_read_by_other_columns_compressed_and_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "captions.json.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(COCO).encode()))

    rows = read(str(path), columns={"image": "coco_url", "prompt": None})
    templated = read(str(path), row_templates={"image": "s3://b/train/{{ file_name }}", "prompt": "{{ caption }}!"})

    assert images(rows)[0] == "http://images.example.org/1.jpg"
    assert "prompt" not in rows[0].values
    assert templated[0].values["image"] == "s3://b/train/000001.jpg"
    assert templated[0].values["prompt"] == "a cat!"


def test_jsonl_with_a_list_of_images_is_no_coco_dataset(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"image": "a.jpg", "images": ["b", "c"]}\n{"image": "d.jpg"}\n')
    assert images(read(str(path))) == ["a.jpg", "d.jpg"]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_an_image_folder_with_metadata_has_its_rows(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for each in ("1.jpg", "2.jpg", "not-described.jpg"):
        (folder / each).write_bytes(b"x")
    rows = [{"file_name": "1.jpg", "text": "one"}, {"file_name": "2.jpg", "text": "two"}]
    lines = (
        [json.dumps(row) for row in rows] if name.endswith("jsonl") else ["file_name,text", "1.jpg,one", "2.jpg,two"]
    )
    (folder / name).write_text("\n".join(lines))

    found = read(f"{tmp_path}/", columns={"prompt": "text"})

    assert images(found) == [f"{folder}/1.jpg", f"{folder}/2.jpg"]
    assert [row.values["prompt"] for row in found] == ["one", "two"]
    assert images(read(str(folder / name))) == images(found)


def test_images_beside_a_manifest_may_have_any_name(tmp_path: Path) -> None:
    names = ["2 #1.jpg", "50%20off.jpg", "a?b.jpg", "./c.jpg", "x/../c.jpg"]
    folder = tmp_path / "a #1"
    (folder / "x").mkdir(parents=True)
    for name in names[:4]:
        (folder / name).write_bytes(b"x")
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps({"file_name": name}) for name in names))

    for uri in (f"{folder}/", f"file://{folder}/", f"file://{folder}/metadata.jsonl", f"{folder}/metadata.jsonl"):
        rows = read(uri)
        assert len(rows) == 5
        for image in images(rows):
            assert MediaSource.parse(image).read(NO_S3, 1, "image", "") == b"x"
    for uri in (f"file://{folder}/50%20off.jpg", f"file://localhost{folder}/2%20%231.jpg"):
        assert MediaSource.parse(uri).read(NO_S3, 1, "image", "") == b"x"


def test_a_path_is_resolved_in_an_object_store_but_not_above_the_bucket(storage: MemoryFileSystem) -> None:
    names = ["./a.jpg", "../images/b.jpg", "../../c.jpg", "d//e.jpg", ".hidden.jpg", "../../../f.jpg"]
    lines = "\n".join(json.dumps({"file_name": name}) for name in names)
    storage.pipe("/bucket/set/train/metadata.jsonl", lines.encode())

    rows = read("gs://bucket/set/train/metadata.jsonl")

    assert images(rows)[:5] == [
        "gs://bucket/set/train/a.jpg",
        "gs://bucket/set/images/b.jpg",
        "gs://bucket/c.jpg",
        "gs://bucket/set/train/d//e.jpg",
        "gs://bucket/set/train/.hidden.jpg",
    ]
    assert rows[5].fault == "image='../../../f.jpg': leads above gs://bucket"


def test_metadata_without_file_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("path,text\n1.jpg,one\n")
    with pytest.raises(WanValidationError, match="file_name"):
        read(f"{tmp_path}/")


# --- other object storage ---------------------------------------------------------------------------
@pytest.fixture
def storage() -> Iterator[MemoryFileSystem]:
    files = MemoryFileSystem()
    attach("gs", fs=files)
    yield files
    files.store.clear()


def test_images_and_manifests_are_read_from_other_object_storage(storage: MemoryFileSystem) -> None:
    storage.pipe("/bucket/in/a.jpg", b"content")
    storage.pipe("/bucket/in/_hidden/b.jpg", b"x")
    storage.pipe("/bucket/in/sub/c.png", b"x")
    storage.pipe("/bucket/rows.csv", b"image,prompt\ngs://bucket/in/a.jpg,one\n")

    assert images(read("gs://bucket/in/")) == ["gs://bucket/in/a.jpg", "gs://bucket/in/sub/c.png"]
    assert images(read("gs://bucket/rows.csv")) == ["gs://bucket/in/a.jpg"]
    source = MediaSource.parse("gs://bucket/in/a.jpg")
    assert source.read(NO_S3, 100, "source", "", storage=AirflowObjectStorage()) == b"content"
    with pytest.raises(WanValidationError, match="7 bytes"):
        source.read(NO_S3, 6, "source", "", storage=AirflowObjectStorage())


@pytest.mark.parametrize("uri", ["gs://bucket/rows.jsonl", "gs://bucket/"])
def test_a_manifest_there_is_another_one_once_it_changes(storage: MemoryFileSystem, uri: str) -> None:
    identities = set()
    for content in (b'{"image": "a.jpg"}', b'{"image": "bb.jpg"}'):
        storage.pipe("/bucket/rows.jsonl", content)
        manifest = open_manifest(uri, NO_S3, storage=AirflowObjectStorage())
        assert manifest.identity() == manifest.identity()
        identities.add(manifest.identity())
    assert len(identities) == 2


def test_what_is_missing_there_is_named(storage: MemoryFileSystem) -> None:
    with pytest.raises(SourceMissingError, match=r"gs://bucket/no\.csv can't be read"):
        read("gs://bucket/no.csv")
    with pytest.raises(SourceMissingError, match=r"gs://bucket/no\.jpg can't be read"):
        MediaSource.parse("gs://bucket/no.jpg").read(NO_S3, 9, "source", "", storage=AirflowObjectStorage())


def test_a_store_without_its_provider_names_the_package() -> None:
    with pytest.raises(WanValidationError, match="pip install apache-airflow-providers-microsoft-azure"):
        read("abfs://container/rows.csv")
    with pytest.raises(WanValidationError, match="only S3, a disk and the web"):
        list(open_manifest("gs://bucket/rows.csv", NO_S3).rows())
