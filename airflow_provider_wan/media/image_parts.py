# SPDX-License-Identifier: Apache-2.0
"""Walk the parts of image files (chunks, segments, blocks, directories), which Pillow reads one by one in Python.

Of a file that consists of millions of them, this would take minutes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice, repeat

from airflow_provider_wan.api.errors import WanValidationError

PNG_START = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000
_MAX_SEGMENTS = 100_000
_MAX_BLOCKS = 500_000
_MAX_TAGS = 150_000
_TAGS_PER_DIRECTORY = 30
_MAX_ICON_PIXELS = 16_000_000
_ICONS = (b"\0\0\1\0", b"icns")
# The sides of a PNG and of a JPEG 2000.
_EMBEDDED = re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)
_START_OF_SCAN = 0xDA
# Markers of a JPEG that have no content: stuffing, TEM, RST0 to RST7, SOI and EOI.
_EMPTY_SEGMENTS = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B


def check_parts(data: bytes, field: str) -> None:
    """Refuse a file of too many parts, and an icon whose images are too large: Pillow decodes them to open it.

    :param data: the whole file.
    :param field: name of the argument, for the error.
    :raises WanValidationError: if it has too many, or one that is too large.
    """
    if data.startswith(_ICONS):
        _check_icon(data, field)
    for start, name, limit, iterate in _KINDS:
        if data.startswith(start) and sum(1 for _ in islice(iterate(data), limit + 1)) > limit:
            rule, remedy = "takes too long to be read", "Save the picture again, as a JPEG"
            raise WanValidationError(field, name, rule, remedy)


def _check_icon(data: bytes, field: str) -> None:
    for found in _EMBEDDED.finditer(data):
        width, height = (int.from_bytes(side, "big") for side in found.groups() if side is not None)
        if width * height > _MAX_ICON_PIXELS:
            value = f"icon with an image of {width}×{height} pixels"
            rule, remedy = (
                f"at most {_MAX_ICON_PIXELS} pixels of it are decoded",
                "Save it with fewer pixels, as a JPEG",
            )
            raise WanValidationError(field, value, rule, remedy)


def iterate_png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, start and end of each chunk of a PNG, up to its end; an incomplete one is the last.

    :param data: the whole file.
    """
    at, kind = len(PNG_START), b""
    while kind != b"IEND" and at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        end = min(at + 12 + length, len(data))
        yield kind, at, end
        at = end
    if kind != b"IEND" and at < len(data):
        yield b"", at, len(data)


def iterate_jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield the start of each segment of a JPEG up to the first scan, and of each fill byte.

    :param data: the whole file.
    """
    at, marker = 0, 0
    while marker != _START_OF_SCAN and at + 4 <= len(data) and data[at] == 0xFF:
        yield at
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _EMPTY_SEGMENTS:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _iterate_blocks(data: bytes) -> Iterator[int]:
    """Yield the start of each image and extension of a GIF, and of each block of their data."""
    at = 13 + _measure_colours(data[10]) if len(data) > 10 else len(data)
    while at + 10 < len(data) and data[at] != _GIF_END:
        yield at
        if data[at] == _GIF_EXTENSION:
            at += 2
        elif data[at] == _GIF_IMAGE:
            at += 11 + _measure_colours(data[at + 9])
        else:
            at += 1
            continue
        while at < len(data) and data[at]:
            yield at
            at += data[at] + 1
        at += 1


def _measure_colours(flags: int) -> int:
    """Return the number of bytes of the colours of a GIF."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _iterate_tags(data: bytes) -> Iterator[int]:
    """Yield the start of each directory of a TIFF for each of its tags, and at least for so many as one usually has."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:3] == b"+"
    pointer, number, size = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}I", f"{order}H", 12)
    found: set[int] = set()
    at = 8 if is_big else 4
    while at + struct.calcsize(pointer) <= len(data):
        (start,) = struct.unpack_from(pointer, data, at)
        if start in found or not start or start + struct.calcsize(number) > len(data):
            return
        found.add(start)
        (count,) = struct.unpack_from(number, data, start)
        count = min(count, len(data) // size)
        yield from repeat(start, max(count, _TAGS_PER_DIRECTORY))
        at = start + struct.calcsize(number) + size * count


_TIFF = f"TIFF of more than {_MAX_TAGS // _TAGS_PER_DIRECTORY} images or {_MAX_TAGS} tags"
_KINDS: tuple[tuple[bytes | tuple[bytes, ...], str, int, Callable[[bytes], Iterator[object]]], ...] = (
    (PNG_START, f"PNG of more than {_MAX_CHUNKS} chunks", _MAX_CHUNKS, iterate_png_chunks),
    (b"\xff\xd8\xff", f"JPEG of more than {_MAX_SEGMENTS} segments", _MAX_SEGMENTS, iterate_jpeg_segments),
    (b"GIF8", f"GIF of more than {_MAX_BLOCKS} blocks", _MAX_BLOCKS, _iterate_blocks),
    ((b"II", b"MM"), _TIFF, _MAX_TAGS, _iterate_tags),
)
