# SPDX-License-Identifier: Apache-2.0
"""Datasets with embedded images: Parquet as the library datasets writes it, and WebDataset shards."""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.batch.columns import ColumnMapping
from airflow_provider_wan.batch.manifest import open_manifest
from airflow_provider_wan.batch.rows import InvalidRow, parse_row
from airflow_provider_wan.media.source import Origin

PICTURES = [b"\x89PNG one", b"\xff\xd8\xff two"]


def no_s3() -> None:
    raise AssertionError("S3 is not needed")


def read(path: Path, **columns: str) -> list[Any]:
    manifest = open_manifest(str(path), no_s3, ColumnMapping.parse(columns))
    return [parse_row(row, {"resolution": "720P"}) for row in manifest.rows()]


def content(item: Any) -> bytes:
    return bytes(item.image.read(no_s3, 1000, "image", ""))


def write_tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_parquet_of_pictures_has_an_item_for_each(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [
        {"bytes": PICTURES[0], "path": "cats/tom.png"},
        {"bytes": PICTURES[1], "path": None},
        {"bytes": None, "path": "s3://b/c.png"},
        {"bytes": None, "path": None},
    ]
    parquet.write_table(arrow.table({"image": images, "text": ["a", "b", "c", "d"]}), tmp_path / "train.parquet")

    one, two, three, bad = read(tmp_path / "train.parquet", prompt="text")

    assert (content(one), one.stem, one.request.prompt) == (PICTURES[0], "tom", "a")
    assert (content(two), two.image.origin) == (PICTURES[1], Origin.EMBEDDED)
    assert (three.image.text, three.image.origin) == ("s3://b/c.png", Origin.S3)
    assert isinstance(bad, InvalidRow)
    assert one.digest != two.digest


def test_a_column_of_bytes_is_a_column_of_pictures(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"jpg": PICTURES}), tmp_path / "train.parquet")

    assert [content(item) for item in read(tmp_path / "train.parquet", image="jpg")] == PICTURES


def test_a_shard_has_an_item_for_each_sample(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "00000.tar",
        ("a/001.jpg", PICTURES[0]),
        ("a/001.txt", "ein Käfer\n".encode()),
        ("a/001.json", json.dumps({"duration": 10, "key": "001"}).encode()),
        ("a/002.png", PICTURES[1]),
        ("a/002.json", b"{broken"),
        ("a/003.txt", b"no picture"),
        ("a/004.jpg", PICTURES[1]),
        ("a/004.json", json.dumps({"prompt": "y"}).encode()),
        ("a/004.txt", b"z"),
    )

    one, broken, without, last = read(shard)

    assert (content(one), one.request.prompt, one.request.duration) == (PICTURES[0], "ein Käfer", 10)
    assert one.stem == "001"
    assert "row 2 a/002.json cannot be read" in broken.reason
    assert "row 3" in without.reason or "must name the image" in without.reason
    assert last.request.prompt == "y"


@pytest.mark.parametrize("name", ["c.jfif", "c.v1.jpg", "c.JPEG", "c.final.v2.png"])
def test_an_image_of_any_extension_and_with_more_dots_is_the_one_of_its_sample(tmp_path: Path, name: str) -> None:
    shard = write_tar(tmp_path / "a.tar", ("a.jpg", PICTURES[0]), (name, PICTURES[1]), ("c.txt", b"two"))

    _, item = read(shard)

    assert (content(item), item.request.prompt) == (PICTURES[1], "two")


def test_the_image_of_a_sample_with_masks_is_the_one_without_a_name_of_its_own(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", ("a.seg.png", PICTURES[1]), ("a.jpg", PICTURES[0]), ("a.depth.png", b"x"))

    (item,) = read(shard)

    assert content(item) == PICTURES[0]


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.1.jpg", "a.2.jpg"), ("a.jpg", "a.jpg")])
def test_a_sample_with_several_images_is_a_fault(tmp_path: Path, names: tuple[str, str]) -> None:
    (bad,) = read(write_tar(tmp_path / "a.tar", *((name, PICTURES[0]) for name in names)))

    assert bad.reason == f"row 1 has several images: {names[0]}, {names[1]}. Rename all but one"


def test_a_sample_without_an_image_is_a_fault_that_names_its_files(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", ("a.xyz", b"x"), ("a.npy", b"x"), ("b.jpg", PICTURES[0]))

    bad, good = read(shard)

    assert bad.reason == "row 1 has no image: its files are a.xyz, a.npy"
    assert content(good) == PICTURES[0]


def test_texts_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    shard = write_tar(
        tmp_path / "a.tar",
        *(("a.jpg", PICTURES[0]), ("a.txt", mark + b"one")),
        *(("b.jpg", PICTURES[1]), ("b.json", mark + b'{"prompt": "\xef\xbb\xbftwo"}')),
    )
    (tmp_path / "rows.jsonl").write_bytes(mark + b'{"image": "a"}\n' + mark + b'{"image": "b", "prompt": "\\ufeffx"}')

    assert [item.request.prompt for item in read(shard)] == ["one", "two"]
    assert [item.request.prompt for item in read(tmp_path / "rows.jsonl")] == ["", "x"]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_shard_is_a_fault_of_its_row(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("a.jpg", PICTURES[0]), ("b.jpg", None), ("b.txt", b"two"), ("c.jpg", PICTURES[1])):
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = kind, "a.jpg"
            member.size = len(data or b"")
            archive.addfile(member, io.BytesIO(data or b""))

    one, bad, last = read(tmp_path / "a.tar")

    assert [one.row, last.row] == [1, 3]
    assert (
        bad.reason == "row 2 b.jpg is a link to a.jpg. Store the file itself, with tar --hard-dereference --dereference"
    )


def test_a_shard_that_is_sorted_by_type_is_not_paid_for_without_its_prompts(tmp_path: Path) -> None:
    shard = write_tar(
        tmp_path / "a.tar",
        *(("a.jpg", PICTURES[0]), ("b.jpg", PICTURES[1]), ("c.jpg", PICTURES[1]), ("c.txt", b"three")),
        *(("a.txt", b"one"), ("b.txt", b"two")),
    )

    one, two, three, *rest = read(shard)

    assert three.request.prompt == "three"
    for bad in (one, two, *rest):
        assert isinstance(bad, InvalidRow)
    assert "row 1 is one of several parts of the sample a" in one.reason
    assert "tar --sort=name" in one.reason


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_a_shard_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    with tarfile.open(tmp_path / f"a.tar.{suffix}", f"w:{suffix}") as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("a.jpg")
        member.size = len(PICTURES[0])
        archive.addfile(member, io.BytesIO(PICTURES[0]))

    assert [content(item) for item in read(tmp_path / f"a.tar.{suffix}")] == [PICTURES[0]]


def test_a_shard_may_be_compressed_with_zstandard(tmp_path: Path) -> None:
    zstd = pytest.importorskip("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    plain = write_tar(tmp_path / "a.tar", ("a.jpg", PICTURES[0]))
    (tmp_path / "b.tar.zst").write_bytes(zstd.compress(plain.read_bytes()))

    assert [content(item) for item in read(tmp_path / "b.tar.zst")] == [PICTURES[0]]


def test_shards_in_a_folder_are_one_manifest(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", (f"{number}.jpg", PICTURES[number]))

    manifest = open_manifest(f"{tmp_path}/", no_s3)

    assert [row.number for row in manifest.rows()] == [1, 2]


def test_a_shard_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", ("a.jpg", PICTURES[0] * 400), ("b.jpg", PICTURES[0] * 400))
    shard.write_bytes(shard.read_bytes()[:3000])

    with pytest.raises(WanValidationError, match="cut off"):
        read(shard)


def test_a_spooled_picture_is_on_the_disk_while_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    from airflow_provider_wan.media.source import MediaSource

    source = MediaSource.embed(PICTURES[0], "a.png").spool()

    assert source.read(no_s3, 1000, "image", "") == PICTURES[0]
    assert len(os.listdir(tmp_path)) == 1
    del source
    gc.collect()
    assert os.listdir(tmp_path) == []
