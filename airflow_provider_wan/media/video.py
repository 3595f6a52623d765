# SPDX-License-Identifier: Apache-2.0
"""Check that a stream of bytes is a complete MP4, in constant memory.

Only the movie's description (``moov``, and ``moof`` in a fragmented file) is buffered, up to a limit; the bytes of all
other boxes are only counted. The format is described in ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from airflow_provider_wan.api.errors import WanResultError

#: Maximum size in bytes of a ``moov`` or ``moof`` box. A clip of some seconds needs some thousands.
MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 16
_BUFFERED = (b"ftyp", b"moov", b"moof")
_HEAD = 16  # bytes of a box header with a 64-bit length


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a complete MP4.

    :param seconds: its duration.
    :param width: width of the frames in pixels.
    :param height: height of the frames in pixels.
    :param codec: four letters, such as ``avc1`` for H.264.
    :param has_audio: whether it has an audio track.
    :param size: size of the file in bytes.
    :param fragmented: whether it is a fragmented MP4.
    """

    seconds: float
    width: int
    height: int
    codec: str
    has_audio: bool
    size: int
    fragmented: bool = False


@dataclass
class _Track:
    track_id: int = 0
    kind: bytes = b""
    codec: bytes = b""
    width: int = 0
    height: int = 0
    timescale: int = 0
    ticks: int = 0  # duration in units of the timescale
    samples: int = 0
    sample_bytes: int = 0
    last_chunk: int = 0  # the greatest offset of a chunk


@dataclass
class _Movie:
    timescale: int = 0
    ticks: int = 0
    tracks: list[_Track] = field(default_factory=list)
    default_durations: dict[int, int] = field(default_factory=dict)
    fragmented: bool = False


class Mp4Checker:
    """Checks, chunk by chunk, that a file is a complete MP4 with a video track.

    >>> checker = Mp4Checker()
    >>> for chunk in chunks: checker.feed(chunk)        # doctest: +SKIP
    >>> checker.finish().seconds                        # doctest: +SKIP
    5.0

    The result does not depend on how the file is divided into chunks.
    """

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()  # first bytes of the file, to describe what it is if it is not an MP4
        self._pending = bytearray()  # a box header, or a box that is buffered
        self._name = b""
        self._remaining = 0  # remaining bytes of the current box
        self._open_ended = False  # a box of length 0 extends to the end
        self._media_bytes = 0
        self._movie: _Movie | None = None
        self._box_names: set[bytes] = set()
        self._ends: dict[int, int] = {}  # end of each track's last fragment, in its ticks

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Check the next chunk.

        :param chunk: bytes of any length.
        :raises WanResultError: as soon as the file cannot be an MP4.
        """
        view = memoryview(chunk)
        self.size += len(view)
        if len(self._head) < 64:
            self._head += view[: 64 - len(self._head)]
        at = 0
        while at < len(view):
            if self._open_ended or self._remaining:
                at += self._consume(view[at:])
            else:
                at += self._read_header(view[at:])

    def finish(self) -> VideoInfo:
        """Return the properties of the file, after its last chunk.

        :raises WanResultError: if it is cut off, empty, not an MP4, or has no frames.
        """
        if not self.size:
            raise WanResultError("The clip is empty: 0 bytes")
        if not self._box_names:
            raise WanResultError(f"The result is no MP4 but {_describe_content(bytes(self._head))}")
        if self._name in _BUFFERED and self._open_ended:
            self._parse_buffered_box()
        elif self._remaining or self._pending:
            missing = (
                f"{self._remaining} bytes of its {_decode_name(self._name)} box are"
                if self._remaining
                else "a box header is"
            )
            raise WanResultError(f"The clip is cut off after {self.size} bytes: {missing} missing")
        movie = self._movie
        if movie is None:
            raise WanResultError(f"The clip is cut off or no video: {self.size} bytes without a moov box")
        if not self._media_bytes:
            raise WanResultError(f"The clip is cut off: {self.size} bytes without media data")
        video = next((track for track in movie.tracks if track.kind == b"vide"), None)
        if video is None:
            raise WanResultError("The clip has no video track")
        if not video.width or not video.height:
            raise WanResultError(f"The clip's pictures have no size: {video.width}×{video.height} pixels")
        self._check_samples(movie, video)
        seconds = round(self._seconds(movie, video), 3)
        if seconds <= 0:
            raise WanResultError("The clip has no duration")
        return VideoInfo(
            seconds=seconds,
            width=video.width,
            height=video.height,
            codec=_decode_name(video.codec),
            has_audio=any(track.kind == b"soun" for track in movie.tracks),
            size=self.size,
            fragmented=movie.fragmented,
        )

    def _read_header(self, view: memoryview) -> int:
        header_size = _HEAD if bytes(self._pending[:4]) == b"\0\0\0\x01" else 8
        consumed = min(header_size - len(self._pending), len(view))
        self._pending += view[:consumed]
        if len(self._pending) < header_size or (header_size == 8 and bytes(self._pending[:4]) == b"\0\0\0\x01"):
            return consumed
        (length,) = struct.unpack_from(">I", self._pending)
        name = bytes(self._pending[4:8])
        if not self._box_names and name != b"ftyp":
            raise WanResultError(f"The result is no MP4 but {_describe_content(bytes(self._head))}")
        if not any(self._pending) and self._movie is not None and self._media_bytes:
            # Padding after the last box, as of a file of whole blocks. Players ignore it.
            self._open_ended, self._name = True, b"free"
            self._pending.clear()
            return consumed
        if length == 1:
            (length,) = struct.unpack_from(">Q", self._pending, 8)
        if (length and length < header_size) or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name):
            raise WanResultError(f"The clip is broken: no box begins at byte {self.size - len(view)}")
        if name in _BUFFERED and length > MAX_DESCRIPTION_BYTES:
            raise WanResultError(f"The clip is broken: a {_decode_name(name)} box of {length} bytes")
        self._box_names.add(name)
        self._name = name
        self._open_ended = length == 0
        self._remaining = length - header_size if length else 0
        self._pending.clear()
        if not self._open_ended and not self._remaining:
            self._end_box()
        return consumed

    def _consume(self, view: memoryview) -> int:
        consumed = len(view) if self._open_ended else min(self._remaining, len(view))
        if self._name in _BUFFERED:
            self._pending += view[:consumed]
            if len(self._pending) > MAX_DESCRIPTION_BYTES:
                raise WanResultError(f"The clip is broken: a {_decode_name(self._name)} box without end")
        elif self._name == b"mdat":
            self._media_bytes += consumed
        if not self._open_ended:
            self._remaining -= consumed
            if not self._remaining:
                self._end_box()
        return consumed

    def _end_box(self) -> None:
        if self._name in _BUFFERED:
            self._parse_buffered_box()

    def _parse_buffered_box(self) -> None:
        body = memoryview(self._pending)
        self._pending = bytearray()
        try:
            if self._name == b"moov":
                if self._movie is not None:
                    raise WanResultError("The clip is broken: it has two moov boxes")
                self._movie = _read_movie(body)
            elif self._name == b"moof":
                self._read_fragment(body)
        except (struct.error, IndexError, ValueError) as error:
            raise WanResultError(f"The clip's {_decode_name(self._name)} box is broken: {error}") from None

    def _read_fragment(self, body: memoryview) -> None:
        defaults = self._movie.default_durations if self._movie else {}
        for name, traf in _boxes(body):
            if name != b"traf":
                continue
            track_id = default = 0
            for inner, box in _boxes(traf):
                if inner == b"tfhd":
                    flags, track_id = struct.unpack_from(">II", box)
                    default = defaults.get(track_id, 0)
                    if flags & 0x8:
                        (default,) = struct.unpack_from(">I", box, 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2))
                elif inner == b"tfdt":  # start of the fragment
                    (self._ends[track_id],) = struct.unpack_from(">Q" if box[0] == 1 else ">I", box, 4)
                elif inner == b"trun":
                    self._ends[track_id] = self._ends.get(track_id, 0) + _run_ticks(box, default)

    def _check_samples(self, movie: _Movie, video: _Track) -> None:
        """Refuse a description that does not fit the data: it is that of another file, or data is missing."""
        if movie.fragmented:
            return
        if not video.samples:
            raise WanResultError("The clip's video track has no pictures")
        described = sum(track.sample_bytes for track in movie.tracks)
        if described > self._media_bytes or max(track.last_chunk for track in movie.tracks) >= self.size:
            raise WanResultError(
                f"The clip is cut off: its tracks describe {described} bytes, of which {self._media_bytes} are there"
            )

    def _seconds(self, movie: _Movie, video: _Track) -> float:
        if movie.fragmented and self._ends.get(video.track_id) and video.timescale:
            return self._ends[video.track_id] / video.timescale
        if movie.ticks and movie.timescale:
            return movie.ticks / movie.timescale
        return video.ticks / video.timescale if video.timescale else 0.0


def is_of_length(info: VideoInfo, seconds: float) -> bool:
    """Return whether a clip is as long as requested: within a second, or a tenth of the requested duration.

    :param info: properties of the clip.
    :param seconds: requested duration.
    """
    return abs(info.seconds - seconds) <= max(1.0, seconds / 10)


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the boxes within a box.

    :raises ValueError: if one extends beyond its parent.
    """
    at = 0
    while at + 8 <= len(view):
        (length,) = struct.unpack_from(">I", view, at)
        name = bytes(view[at + 4 : at + 8])
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, at + 8)
            head = _HEAD
        elif length == 0:
            length = len(view) - at
        if length < head or at + length > len(view):
            raise ValueError(f"a {_decode_name(name)} box of {length} bytes reaches beyond its parent")
        yield name, view[at + head : at + length]
        at += length


def _read_movie(body: memoryview) -> _Movie:
    movie = _Movie()
    for name, box in _boxes(body):
        if name == b"mvhd":
            movie.timescale, movie.ticks = _read_duration(box)
        elif name == b"trak":
            track = _Track()
            _read_track(box, track, 0)
            movie.tracks.append(track)
        elif name == b"mvex":
            movie.fragmented = True
            for inner, trex in _boxes(box):
                if inner == b"trex":
                    track_id, _, duration = struct.unpack_from(">III", trex, 4)
                    movie.default_durations[track_id] = duration
    return movie


def _read_track(view: memoryview, track: _Track, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("boxes nested too deeply")
    for name, box in _boxes(view):
        if name in (b"mdia", b"minf", b"stbl"):
            _read_track(box, track, depth + 1)
        elif name == b"tkhd":
            (track.track_id,) = struct.unpack_from(">I", box, 20 if box[0] == 1 else 12)
        elif name == b"mdhd":
            track.timescale, track.ticks = _read_duration(box)
        elif name == b"hdlr":
            track.kind = bytes(box[8:12])
        elif name == b"stsd":
            track.codec = bytes(box[12:16])
            if track.kind == b"vide":  # hdlr precedes minf
                track.width, track.height = struct.unpack_from(">HH", box, 40)
        elif name == b"stsz":
            each, track.samples = struct.unpack_from(">II", box, 4)
            track.sample_bytes = each * track.samples if each else sum(_read_table(box, 12, track.samples, ">I"))
        elif name in (b"stco", b"co64"):
            (count,) = struct.unpack_from(">I", box, 4)
            track.last_chunk = max(_read_table(box, 8, count, ">I" if name == b"stco" else ">Q"), default=0)


def _read_duration(box: memoryview) -> tuple[int, int]:
    """Return timescale and duration of an mvhd or mdhd box; a duration of all ones means "unknown"."""
    numbers: tuple[int, int]
    numbers = struct.unpack_from(">IQ", box, 20) if box[0] == 1 else struct.unpack_from(">II", box, 12)
    timescale, ticks = numbers
    return timescale, 0 if ticks in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) else ticks


def _read_table(box: memoryview, start: int, count: int, kind: str) -> Iterator[int]:
    end = start + count * struct.calcsize(kind)
    if end > len(box):
        raise ValueError(f"a table of {count} entries in {len(box)} bytes")
    return (word for (word,) in struct.iter_unpack(kind, box[start:end]))


def _run_ticks(box: memoryview, default: int) -> int:
    version_and_flags: int
    count: int
    version_and_flags, count = struct.unpack_from(">II", box)
    flags = version_and_flags & 0xFFFFFF
    if not flags & 0x100:
        return default * count
    start = 8 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
    stride = sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    return sum(islice(_read_table(box, start, count * stride, ">I"), 0, None, stride))


def _decode_name(name: bytes) -> str:
    return name.decode("latin-1")


def _describe_content(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML text (a storage host's error?)"
    if text.startswith((b"{", b"[")):
        return "a JSON text"
    if head.startswith(b"\x1f\x8b"):
        return "gzip data"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "a WebM or Matroska file"
    return f"something that begins with {head[:8].hex()}"
