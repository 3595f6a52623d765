# SPDX-License-Identifier: Apache-2.0
"""Is this a whole MP4? Answered while its bytes flow by, without keeping them.

Only the movie's description (``moov``, and ``moof`` in a fragmented file) is held in memory, and that up to a limit;
of all other boxes just the lengths are counted. ISO/IEC 14496-12 is the format's description.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from airflow_provider_wan.api.errors import WanResultError

#: Bytes of a ``moov`` or ``moof`` that are taken into memory. A clip of seconds needs some thousands.
MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 16
_KEPT = (b"ftyp", b"moov", b"moof")
_HEAD = 16  # bytes of a box header with a 64-bit length


@dataclass(frozen=True)
class VideoInfo:
    """What a whole MP4 holds.

    :param seconds: its duration.
    :param width: pixels of the pictures; likewise ``height``.
    :param codec: four letters, such as ``avc1`` for H.264.
    :param has_audio: whether there is a sound track.
    :param size: bytes of the file.
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
    last_chunk: int = 0  # the greatest offset at which a chunk begins


@dataclass
class _Movie:
    timescale: int = 0
    ticks: int = 0
    tracks: list[_Track] = field(default_factory=list)
    default_durations: dict[int, int] = field(default_factory=dict)
    fragmented: bool = False


class Mp4Checker:
    """Takes a file piece by piece and tells whether it is a whole MP4 with pictures in it.

    >>> checker = Mp4Checker()
    >>> for piece in pieces: checker.feed(piece)        # doctest: +SKIP
    >>> checker.finish().seconds                        # doctest: +SKIP
    5.0

    The answer does not depend on how the file was cut into pieces.
    """

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()  # of the file, to name what it is instead
        self._pending = bytearray()  # the header of a box, or a box that is kept
        self._name = b""
        self._left = 0  # bytes of the current box still to come
        self._open_ended = False  # a box of length 0 reaches to the end
        self._media_bytes = 0
        self._movie: _Movie | None = None
        self._seen: set[bytes] = set()
        self._ends: dict[int, int] = {}  # of each track's fragments so far, in its ticks

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece, of any length.

        :raises WanResultError: as soon as it is plain that this is no MP4.
        """
        view = memoryview(piece)
        self.size += len(view)
        if len(self._head) < 64:
            self._head += view[: 64 - len(self._head)]
        at = 0
        while at < len(view):
            if self._open_ended or self._left:
                at += self._take(view[at:])
            else:
                at += self._read_header(view[at:])

    def finish(self) -> VideoInfo:
        """Tell what the file held, once all of it was fed.

        :raises WanResultError: when it is cut off, empty, no MP4, or without pictures.
        """
        if not self.size:
            raise WanResultError("The clip is empty: 0 bytes")
        if not self._seen:
            raise WanResultError(f"The result is no MP4 but {_nature(bytes(self._head))}")
        if self._name in _KEPT and self._open_ended:
            self._close_kept()
        elif self._left or self._pending:
            missing = f"{self._left} bytes of its {_text(self._name)} box are" if self._left else "a box header is"
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
            codec=_text(video.codec),
            has_audio=any(track.kind == b"soun" for track in movie.tracks),
            size=self.size,
            fragmented=movie.fragmented,
        )

    def _read_header(self, view: memoryview) -> int:
        wanted = _HEAD if bytes(self._pending[:4]) == b"\0\0\0\x01" else 8
        taken = min(wanted - len(self._pending), len(view))
        self._pending += view[:taken]
        if len(self._pending) < wanted or (wanted == 8 and bytes(self._pending[:4]) == b"\0\0\0\x01"):
            return taken
        (length,) = struct.unpack_from(">I", self._pending)
        name = bytes(self._pending[4:8])
        if not self._seen and name != b"ftyp":
            raise WanResultError(f"The result is no MP4 but {_nature(bytes(self._head))}")
        if length == 1:
            (length,) = struct.unpack_from(">Q", self._pending, 8)
        if (length and length < wanted) or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name):
            raise WanResultError(f"The clip is broken: no box begins at byte {self.size - len(view)}")
        if name in _KEPT and length > MAX_DESCRIPTION_BYTES:
            raise WanResultError(f"The clip is broken: a {_text(name)} box of {length} bytes")
        self._seen.add(name)
        self._name = name
        self._open_ended = length == 0
        self._left = length - wanted if length else 0
        self._pending.clear()
        if not self._open_ended and not self._left:
            self._end_box()
        return taken

    def _take(self, view: memoryview) -> int:
        taken = len(view) if self._open_ended else min(self._left, len(view))
        if self._name in _KEPT:
            self._pending += view[:taken]
            if len(self._pending) > MAX_DESCRIPTION_BYTES:
                raise WanResultError(f"The clip is broken: a {_text(self._name)} box without end")
        elif self._name == b"mdat":
            self._media_bytes += taken
        if not self._open_ended:
            self._left -= taken
            if not self._left:
                self._end_box()
        return taken

    def _end_box(self) -> None:
        if self._name in _KEPT:
            self._close_kept()

    def _close_kept(self) -> None:
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
            raise WanResultError(f"The clip's {_text(self._name)} box is broken: {error}") from None

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
                elif inner == b"tfdt":  # where the fragment begins
                    (self._ends[track_id],) = struct.unpack_from(">Q" if box[0] == 1 else ">I", box, 4)
                elif inner == b"trun":
                    self._ends[track_id] = self._ends.get(track_id, 0) + _run_ticks(box, default)

    def _check_samples(self, movie: _Movie, video: _Track) -> None:
        """The description must fit the data: else it is that of another file, or data is missing."""
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


def check_clip(info: VideoInfo, seconds: float | None) -> None:
    """Hold a clip against what was asked for.

    :param info: what was found.
    :param seconds: the duration that was asked for; ``None`` when it is not known.
    :raises WanResultError: when they differ by more than a second and a tenth of what was asked for.
    """
    if seconds is not None and abs(info.seconds - seconds) > max(1.0, seconds / 10):
        raise WanResultError(f"The clip lasts {info.seconds:.2f} s, where {seconds:g} s were asked for")


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The boxes within a box.

    :raises ValueError: when one reaches beyond its parent.
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
            raise ValueError(f"a {_text(name)} box of {length} bytes reaches beyond its parent")
        yield name, view[at + head : at + length]
        at += length


def _read_movie(body: memoryview) -> _Movie:
    movie = _Movie()
    for name, box in _boxes(body):
        if name == b"mvhd":
            movie.timescale, movie.ticks = _clock(box)
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
            track.timescale, track.ticks = _clock(box)
        elif name == b"hdlr":
            track.kind = bytes(box[8:12])
        elif name == b"stsd":
            track.codec = bytes(box[12:16])
            if track.kind == b"vide":  # hdlr stands before minf
                track.width, track.height = struct.unpack_from(">HH", box, 40)
        elif name == b"stsz":
            each, track.samples = struct.unpack_from(">II", box, 4)
            track.sample_bytes = each * track.samples if each else sum(_words(box, 12, track.samples, ">I"))
        elif name in (b"stco", b"co64"):
            (count,) = struct.unpack_from(">I", box, 4)
            track.last_chunk = max(_words(box, 8, count, ">I" if name == b"stco" else ">Q"), default=0)


def _clock(box: memoryview) -> tuple[int, int]:
    """Timescale and duration of an mvhd or mdhd box; a duration of all ones stands for "unknown"."""
    numbers: tuple[int, int]
    numbers = struct.unpack_from(">IQ", box, 20) if box[0] == 1 else struct.unpack_from(">II", box, 12)
    timescale, ticks = numbers
    return timescale, 0 if ticks in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) else ticks


def _words(box: memoryview, start: int, count: int, kind: str) -> Iterator[int]:
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
    return sum(islice(_words(box, start, count * stride, ">I"), 0, None, stride))


def _text(name: bytes) -> str:
    return name.decode("latin-1")


def _nature(head: bytes) -> str:
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
