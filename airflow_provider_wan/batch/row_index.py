# SPDX-License-Identifier: Apache-2.0
"""Sets of rows and of digests for many millions of rows, in a few bytes for each."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator

_MAX_LOAD = 0.65
_DIGEST_BITS = 64


class DigestIndex:
    """The first row of each digest, in 18 to 37 bytes for each digest.

    Of a digest, 64 bits are compared: with 10 million rows, the probability that any two different ones are taken for
    the same is 3 in a million.
    """

    def __init__(self) -> None:
        self._count = 0
        self._allocate(1024)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: str) -> bool:
        return bool(self._rows[self._find_slot(_shorten(digest))])

    def get(self, digest: str) -> int | None:
        """Return the row of a digest; None if it has none.

        :param digest: hexadecimal digits of a hash, at least 16.
        """
        return self._rows[self._find_slot(_shorten(digest))] or None

    def setdefault(self, digest: str, row: int) -> int:
        """Return the row of a digest, after adding it with a row if it is new.

        :param digest: hexadecimal digits of a hash, at least 16.
        :param row: row number, 1 or more.
        """
        value = _shorten(digest)
        slot = self._find_slot(value)
        if self._rows[slot]:
            return self._rows[slot]
        self._digests[slot], self._rows[slot] = value, row
        self._count += 1
        if self._count > _MAX_LOAD * len(self._rows):
            self._grow()
        return row

    def _allocate(self, slots: int) -> None:
        self._mask = slots - 1
        self._digests = array("Q", bytes(8 * slots))
        self._rows = array("I", bytes(4 * slots))  # 0: the slot is free

    def _find_slot(self, value: int) -> int:
        slot = value & self._mask
        while self._rows[slot] and self._digests[slot] != value:
            slot = (slot + 1) & self._mask
        return slot

    def _grow(self) -> None:
        digests, rows = self._digests, self._rows
        self._allocate(2 * len(rows))
        for value, row in zip(digests, rows, strict=True):
            if row:
                slot = self._find_slot(value)
                self._digests[slot], self._rows[slot] = value, row


def hash_text(text: str) -> str:
    """Return a hash of a text for :class:`DigestIndex`.

    :param text: the text.
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BITS // 8).hexdigest()


def _shorten(digest: str) -> int:
    return int(digest[: _DIGEST_BITS // 4], 16)


class RowSet:
    """Row numbers, in one bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def __contains__(self, row: int) -> bool:
        index = row >> 3
        return index < len(self._bits) and bool(self._bits[index] & 1 << (row & 7))

    def add(self, row: int) -> None:
        """Add a row.

        :param row: row number.
        """
        index = row >> 3
        if index >= len(self._bits):
            self._bits.extend(bytes(max(index + 1 - len(self._bits), len(self._bits))))
        self._bits[index] |= 1 << (row & 7)

    def rows_after(self, row: int) -> Iterator[int]:
        """Yield the rows above a number, in order.

        :param row: the number.
        """
        for index in range(max(0, row + 1) >> 3, len(self._bits)):
            byte = self._bits[index]
            if byte:
                first = index << 3
                yield from (each for each in range(first, first + 8) if byte & 1 << (each - first) and each > row)

    @property
    def last(self) -> int:
        """The largest row number; 0 if there is none."""
        for index in range(len(self._bits) - 1, -1, -1):
            if self._bits[index]:
                return (index << 3) + self._bits[index].bit_length() - 1
        return 0
