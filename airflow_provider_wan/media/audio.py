# SPDX-License-Identifier: Apache-2.0
"""Validate audio files against the API's rules.

The rules: WAV or MP3, 3 to 30 seconds, at most 15 MB. The API trims what exceeds the clip's duration. The type is read
from the bytes, never from a name.
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
#: Bytes. "15 MB" is interpreted as the smaller value.
MAX_AUDIO_BYTES = 15_000_000

CONTENT_TYPES = {"WAV": "audio/wav", "MP3": "audio/mpeg"}

_RULE_FORMAT = "must be a WAV or an MP3"
_RULE_COMPLETE = "is broken or cut off"
_UNKNOWN_LENGTHS = (0, 0xFFFFFFFF)  # written by encoders that could not seek back


@dataclass(frozen=True)
class AudioInfo:
    """Properties of an audio file.

    :param format: ``WAV`` or ``MP3``.
    :param content_type: its media type.
    :param seconds: its duration.
    :param size: size in bytes.
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
    """Validate an audio file against the API's rules.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :raises WanValidationError: if it violates a rule.
    """
    if len(data) > MAX_AUDIO_BYTES:
        raise WanValidationError(field, f"{len(data)} bytes", f"at most {MAX_AUDIO_BYTES} bytes", "Save it as MP3")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        audio_format, seconds = "WAV", _measure_wav(data, field)
    elif (start := _find_first_mp3_frame(data)) is not None:
        audio_format, seconds = "MP3", _measure_mp3(data, start, field)
    else:
        value = f"{len(data)} bytes beginning with {data[:8]!r}" if data else "nothing"
        raise WanValidationError(field, value, _RULE_FORMAT, "Convert it first; the name's extension is ignored")
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        rule = f"must last {MIN_SECONDS:.0f} to {MAX_SECONDS:.0f} seconds"
        raise WanValidationError(field, f"{seconds:.2f} s", rule, "Cut or extend it first")
    return AudioInfo(
        audio_format, CONTENT_TYPES[audio_format], round(seconds, 3), len(data), hashlib.sha256(data).hexdigest()
    )


def _measure_wav(data: bytes, field: str) -> float:
    # The standard library's wave module reads only integer PCM, and trusts the length in the header.
    bytes_per_second = 0
    offset = 12
    while offset + 8 <= len(data):
        name = data[offset : offset + 4]
        (length,) = struct.unpack_from("<I", data, offset + 4)
        offset += 8
        if name == b"fmt " and length >= 16 and offset + 16 <= len(data):
            (bytes_per_second,) = struct.unpack_from("<I", data, offset + 8)
        elif name == b"data":
            available = len(data) - offset
            if length not in _UNKNOWN_LENGTHS and available < length:
                raise WanValidationError(
                    field, f"WAV with {available} of {length} bytes", _RULE_COMPLETE, "Provide all of it"
                )
            if bytes_per_second:
                return (available if length in _UNKNOWN_LENGTHS else length) / bytes_per_second
            break
        offset += length + length % 2
    raise WanValidationError(field, f"WAV of {len(data)} bytes without sound", _RULE_COMPLETE, "Provide all of it")


def _find_first_mp3_frame(data: bytes) -> int | None:
    """Return the offset of the first MPEG frame: at the start, or after an ID3v2 tag and its padding."""
    offset = 0
    while data[offset : offset + 3] == b"ID3" and offset + 10 <= len(data):
        size = data[offset + 6 : offset + 10]
        footer = 10 if data[offset + 5] & 0x10 else 0
        offset += 10 + footer + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    while offset < len(data) and data[offset] == 0:
        offset += 1
    header = data[offset : offset + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    layer, bitrate, rate = header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    # Layer III only: others are not MP3, and AAC in ADTS has 0 there.
    return offset if layer == 1 and bitrate not in (0, 15) and rate != 3 else None


def _measure_mp3(data: bytes, start: int, field: str) -> float:
    try:
        tag = TinyTag.get(filename="audio.mp3", file_obj=io.BytesIO(data), tags=False)
    except (TinyTagException, ValueError, struct.error, IndexError):
        tag = None
    if tag is None or not tag.duration or not tag.bitrate:
        raise WanValidationError(field, f"MP3 of {len(data)} bytes without sound", _RULE_COMPLETE, "Provide all of it")
    seconds = float(tag.duration)
    # The duration may come from a header that was written before the file was cut off.
    expected = float(tag.bitrate) * 1000 / 8 * seconds
    if len(data) - start < 0.95 * expected - 4096:
        value = f"MP3 with {len(data) - start} of about {expected:.0f} bytes"
        raise WanValidationError(field, value, _RULE_COMPLETE, "Provide all of it")
    return seconds
