# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_wan.api.errors import WanResultError
from airflow_provider_wan.media.video import Mp4Checker, VideoInfo, is_of_length
from dev.testkit.media_files import box, video

CLIP = video(2)
FAST = video(2, movflags="faststart")
FRAGMENTED = video(2, movflags="frag_keyframe+empty_moov")
KINDS = {"moov last": CLIP, "moov first": FAST, "fragmented": FRAGMENTED}


def checked(data: bytes, piece: int | None = None) -> VideoInfo:
    checker = Mp4Checker()
    for start in range(0, len(data), piece or len(data) or 1):
        checker.feed(data[start : start + (piece or len(data))])
    return checker.finish()


def top_boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + length]))
        at += length
    return found


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_the_contents_of_a_real_mp4_are_read(data: bytes) -> None:
    info = checked(data)
    assert (info.width, info.height, info.codec, info.has_audio, info.size) == (320, 240, "avc1", True, len(data))
    assert info.seconds == pytest.approx(2, abs=0.1)
    assert info.fragmented == (data is FRAGMENTED)


@pytest.mark.parametrize("padding", [8, 15, 4096])
@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_zeros_after_the_last_box_are_padding(data: bytes, padding: int) -> None:
    for piece in (None, 1000):
        assert checked(data + bytes(padding), piece).seconds == pytest.approx(2, abs=0.1)


def test_zeros_before_the_media_are_no_padding() -> None:
    first, *_ = FAST.partition(b"mdat")
    with pytest.raises(WanResultError, match="no box begins"):
        checked(first[:-4] + bytes(4096))


def test_a_silent_clip_has_no_audio() -> None:
    assert not checked(video(1, audio=False)).has_audio


def test_a_file_of_single_frame_fragments_has_its_full_length() -> None:
    assert checked(video(2, movflags="frag_every_frame+empty_moov")).seconds == pytest.approx(2, abs=0.1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.integers(1, 4000), min_size=1, max_size=60))
def test_the_answer_does_not_depend_on_how_the_file_is_cut_into_pieces(kind: str, lengths: list[int]) -> None:
    data = KINDS[kind]
    checker, at = Mp4Checker(), 0
    for length in lengths:
        checker.feed(data[at : at + length])
        at += length
    checker.feed(data[at:])
    assert checker.finish() == checked(data)


def test_one_byte_at_a_time_gives_the_same_answer() -> None:
    assert checked(CLIP, piece=1) == checked(CLIP)


@pytest.mark.parametrize("data", [CLIP, FAST], ids=["moov last", "moov first"])
def test_a_clip_cut_off_anywhere_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(WanResultError):
            checked(data[:length])


def test_a_fragmented_clip_is_whole_only_up_to_the_end_of_its_last_fragment() -> None:
    end_of_media = len(FRAGMENTED) - 8 - len(top_boxes(FRAGMENTED)[-1][1])
    assert top_boxes(FRAGMENTED)[-1][0] == b"mfra"  # an index behind the media
    for length in set(range(len(FRAGMENTED))) - {end_of_media}:
        with pytest.raises(WanResultError):
            checked(FRAGMENTED[:length])


def test_a_media_box_that_reaches_to_the_end_passes_whole_and_is_refused_cut_off() -> None:
    boxes = top_boxes(FAST)
    assert boxes[-1][0] == b"mdat"
    body = boxes[-1][1]
    open_ended = FAST[: -len(body) - 8] + struct.pack(">I4s", 0, b"mdat") + body
    assert checked(open_ended).seconds == checked(FAST).seconds
    with pytest.raises(WanResultError, match="cut off"):
        checked(open_ended[:-1])


def test_64_bit_lengths_are_understood() -> None:
    long = b"".join(box(name, body, long=name in (b"moov", b"free")) for name, body in top_boxes(CLIP))
    assert checked(long, piece=5).seconds == checked(CLIP).seconds


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page"),
        (b'{"error": "no such object"}', "a JSON text"),
        (b"{}", "a JSON text"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML text"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "gzip data"),
        (b"\x1aE\xdf\xa3" + bytes(20), "a WebM"),
        (bytes(100), "begins with 00000000"),
        (b"", "empty"),
    ],
)
def test_what_is_no_mp4_is_named(data: bytes, named: str) -> None:
    with pytest.raises(WanResultError, match=named):
        checked(data)


def test_a_file_that_is_no_mp4_is_recognized_by_its_first_chunk() -> None:
    with pytest.raises(WanResultError):
        Mp4Checker().feed(b"<html><body>")


def test_a_description_without_end_is_refused_before_it_fills_the_memory() -> None:
    checker = Mp4Checker()
    checker.feed(box(b"ftyp", b"isom"))
    with pytest.raises(WanResultError, match="moov box of 1073741824 bytes"):
        checker.feed(struct.pack(">I4s", 2**30, b"moov"))
    endless = Mp4Checker()
    endless.feed(box(b"ftyp", b"isom") + struct.pack(">I4s", 0, b"moov"))
    endless.feed(bytes(16 * 1024 * 1024))
    with pytest.raises(WanResultError, match="without end"):
        endless.feed(b"x")


def test_a_description_of_other_data_is_refused() -> None:
    boxes = top_boxes(FAST)
    with pytest.raises(WanResultError, match="describe"):
        checked(b"".join(box(name, body if name != b"mdat" else body[:100]) for name, body in boxes))


def test_a_clip_without_pictures_is_refused() -> None:
    boxes = top_boxes(CLIP)
    silent = b"".join(box(n, b.replace(b"vide", b"soun") if n == b"moov" else b) for n, b in boxes)
    with pytest.raises(WanResultError, match="no video track"):
        checked(silent)
    with pytest.raises(WanResultError, match="without a moov"):
        checked(b"".join(box(n, b) for n, b in boxes if n != b"moov"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_description_is_an_error_of_ours_or_still_readable(data: st.DataObject) -> None:
    start = CLIP.index(b"moov")
    damaged = bytearray(CLIP)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(start, len(CLIP) - 1))] = data.draw(st.integers(0, 255))
    try:
        info = checked(bytes(damaged))
    except WanResultError:
        return
    assert info.width > 0
    assert info.seconds > 0


def test_a_clip_may_be_a_second_or_a_tenth_longer_or_shorter_than_asked_for() -> None:
    info = checked(CLIP)

    assert is_of_length(info, 2)
    assert not is_of_length(info, 5)
