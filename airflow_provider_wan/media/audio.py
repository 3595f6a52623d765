# SPDX-License-Identifier: Apache-2.0
"""Is this an audio file that the API takes?

The rules are the API's: WAV or MP3, 3 to 30 seconds, at most 15 MB. What exceeds the clip's duration is trimmed
by the API. The type is read from the bytes, never from a name.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass

from tinytag import TinyTag, TinyTagException

from airflow_provider_wan.api.errors import WanValidationError

MIN_SECONDS = 3.0
MAX_SECONDS = 30.0
#: Bytes. "15 MB" is read in its smaller meaning.
MAX_AUDIO_BYTES = 15_000_000

CONTENT_TYPES = {"WAV": "audio/wav", "MP3": "audio/mpeg"}

_RULE_FORMAT = "must be a WAV or an MP3"
_RULE_WHOLE = "is broken or cut off"
_UNKNOWN_LENGTHS = (0, 0xFFFFFFFF)  # written by encoders that could not seek back


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds.

    :param format: ``WAV`` or ``MP3``.
    :param content_type: its media type.
    :param seconds: its length.
    :param size: bytes.
    :param sha256: hexadecimal hash of the bytes.
    """

    format: str
    content_type: str
    seconds: float
    size: int
    sha256: str

    @property
    def extension(self) -> str:
        """The usual file name extension, without a dot."""
        return self.format.lower()


def check_audio(data: bytes, *, field: str = "audio_url") -> AudioInfo:
    """Hold an audio file against the API's rules.

    :param data: the whole file.
    :param field: the name that an error shall carry.
    :raises WanValidationError: naming the field, the value, the rule, and the remedy.
    """
    if len(data) > MAX_AUDIO_BYTES:
        raise WanValidationError(field, f"{len(data)} bytes", f"at most {MAX_AUDIO_BYTES} bytes", "Save it as MP3")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        kind, seconds = "WAV", _wav_seconds(data, field)
    elif (start := _first_mp3_frame(data)) is not None:
        kind, seconds = "MP3", _mp3_seconds(data, start, field)
    else:
        value = f"{len(data)} bytes beginning with {data[:8]!r}" if data else "nothing"
        raise WanValidationError(field, value, _RULE_FORMAT, "Convert it first; the name's extension is not looked at")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        rule = f"must last {MIN_SECONDS:.0f} to {MAX_SECONDS:.0f} seconds"
        raise WanValidationError(field, f"{seconds:.2f} s", rule, "Cut or extend it first")
    return AudioInfo(kind, CONTENT_TYPES[kind], round(seconds, 3), len(data), hashlib.sha256(data).hexdigest())


def _wav_seconds(data: bytes, field: str) -> float:
    # The standard library's wave module reads integer PCM only, and believes the header about the length.
    bytes_per_second = 0
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8
        if name == b"fmt " and length >= 16 and at + 16 <= len(data):
            (bytes_per_second,) = struct.unpack_from("<I", data, at + 8)
        elif name == b"data":
            there = len(data) - at
            if length not in _UNKNOWN_LENGTHS and there < length:
                raise WanValidationError(field, f"WAV with {there} of {length} bytes", _RULE_WHOLE, "Provide all of it")
            if bytes_per_second:
                return (there if length in _UNKNOWN_LENGTHS else length) / bytes_per_second
            break
        at += length + length % 2
    raise WanValidationError(field, f"WAV of {len(data)} bytes without sound", _RULE_WHOLE, "Provide all of it")


def _first_mp3_frame(data: bytes) -> int | None:
    """Where the first MPEG frame begins: at the start, or right behind an ID3v2 tag and its padding."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = data[at + 6 : at + 10]
        footer = 10 if data[at + 5] & 0x10 else 0
        at += 10 + footer + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    while at < len(data) and data[at] == 0:
        at += 1
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    layer, bitrate, rate = header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    # Layer III only: others are not MP3, and 0 is what AAC in ADTS has there.
    return at if layer == 1 and bitrate not in (0, 15) and rate != 3 else None


def _mp3_seconds(data: bytes, start: int, field: str) -> float:
    try:
        tag = TinyTag.get(filename="audio.mp3", file_obj=io.BytesIO(data), tags=False)
    except (TinyTagException, ValueError, struct.error, IndexError):
        tag = None
    if tag is None or not tag.duration or not tag.bitrate:
        raise WanValidationError(field, f"MP3 of {len(data)} bytes without sound", _RULE_WHOLE, "Provide all of it")
    seconds = float(tag.duration)
    # The length may come from a header that was written before the file was cut.
    expected = float(tag.bitrate) * 1000 / 8 * seconds
    if len(data) - start < 0.95 * expected - 4096:
        value = f"MP3 with {len(data) - start} of about {expected:.0f} bytes"
        raise WanValidationError(field, value, _RULE_WHOLE, "Provide all of it")
    return seconds
