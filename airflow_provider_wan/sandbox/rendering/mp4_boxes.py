# SPDX-License-Identifier: Apache-2.0
"""MP4 boxes: padding with a ``free`` box, and a minimal well-formed file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

CHUNK = 256 * 1024
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def box(kind: bytes, body: bytes) -> bytes:
    """Build a box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def free_box(body: bytes) -> bytes:
    """Build a box that players skip."""
    return box(b"free", body)


def skeleton(seconds: int) -> bytes:
    """Build a minimal file: ``ftyp``, a ``moov`` with the duration and no track, an empty ``mdat``."""
    header = struct.pack(">IIIII", 0, 0, 0, 1000, seconds * 1000)
    header += struct.pack(">IH10x", 0x10000, 0x100) + _MATRIX + bytes(24) + struct.pack(">I", 1)
    return (
        box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isomiso2avc1mp41")
        + box(b"moov", box(b"mvhd", header))
        + box(b"mdat", b"")
    )


def padded(clip: bytes, size: int) -> Iterator[bytes]:
    """Yield a clip that a ``free`` box at its end pads to ``size`` bytes.

    :raises ValueError: if the clip and the header of the box exceed ``size``.
    """
    padding = size - len(clip) - 16
    if padding < 0:
        raise ValueError(f"size is {size}: the clip and its padding need {len(clip) + 16} bytes at least")
    yield clip
    yield struct.pack(">I4sQ", 1, b"free", padding + 16)
    zeros = bytes(CHUNK)
    while padding > 0:
        piece = zeros[:padding] if padding < CHUNK else zeros
        padding -= len(piece)
        yield piece
