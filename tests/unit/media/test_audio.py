# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.audio import check_audio
from dev.testkit.media_files import mp3, video, wav


@pytest.mark.parametrize("seconds", [3.0, 12.5, 30.0])
def test_a_wav_within_the_limits_passes(seconds: float) -> None:
    info = check_audio(wav(seconds))
    assert (info.format, info.content_type, info.seconds) == ("WAV", "audio/wav", seconds)


@pytest.mark.parametrize("headless", [False, True])
def test_an_mp3_within_the_limits_passes(headless: bool) -> None:
    info = check_audio(mp3(10, headless=headless))
    assert (info.format, info.content_type) == ("MP3", "audio/mpeg")
    assert info.seconds == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("data", [wav(2), wav(31), mp3(2), mp3(31), wav(2.99), wav(30.01)])
def test_audio_of_a_wrong_length_is_refused(data: bytes) -> None:
    with pytest.raises(WanValidationError, match="must last 3 to 30 seconds"):
        check_audio(data)


def test_more_than_15_mb_is_refused() -> None:
    with pytest.raises(WanValidationError, match="at most 15000000 bytes"):
        check_audio(wav(29, rate=300_000))


@pytest.mark.parametrize(
    "data",
    [b"This is a text named song.mp3\n" * 999, b"%PDF-1.7 " + bytes(9999), video(1), b"", b"\xff\xf1" + bytes(9999)],
    ids=["text", "pdf", "video", "nothing", "aac"],
)
def test_what_is_neither_wav_nor_mp3_is_refused(data: bytes) -> None:
    with pytest.raises(WanValidationError, match="must be a WAV or an MP3"):
        check_audio(data)


@pytest.mark.parametrize("data", [wav(10), mp3(10)], ids=["wav", "mp3"])
def test_audio_that_is_cut_off_is_refused_though_its_header_has_the_full_length(data: bytes) -> None:
    with pytest.raises(WanValidationError, match="cut off"):
        check_audio(data[: len(data) * 2 // 3])


def test_a_wav_whose_header_has_no_length_is_measured() -> None:
    data = bytearray(wav(5))
    at = data.index(b"data")
    struct.pack_into("<I", data, at + 4, 0xFFFFFFFF)
    assert check_audio(bytes(data)).seconds == 5.0


def test_an_id3_tag_alone_is_no_sound() -> None:
    with pytest.raises(WanValidationError):
        check_audio(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + b"no frame")
