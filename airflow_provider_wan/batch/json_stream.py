# SPDX-License-Identifier: Apache-2.0
"""Reads large JSON by its elements. One that is not JSON, or not UTF-8, is named, and the next one is read.

Only the current element is in memory.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any

#: Characters of one element.
MAX_ELEMENT = 32_000_000
_CHUNK = 256 * 1024
_SPACE = re.compile(r"[ \t\r\n]*+")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_SURROGATES = re.compile("[\udc80-\udcff]")
_DECODER = json.JSONDecoder()


class JsonStructureError(ValueError):
    """The text around the elements is not JSON, or ends."""


@dataclass(frozen=True)
class InvalidElement:
    """An element that cannot be read.

    :param reason: why.
    """

    reason: str


class JsonReader:
    """Reads the arrays of a JSON text in UTF-8, with or without a byte order mark.

    :param stream: the open file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        # Bytes that are not UTF-8 become surrogates, so that they are a fault of their element only.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0

    def read_elements(self) -> Iterator[Any]:
        """Yield the elements of the array that begins here.

        :returns: each element, or an :class:`InvalidElement`.
        :raises JsonStructureError: if there is no array, or it does not end.
        """
        self._expect("[")
        while self._peek() != "]":
            yield self._read_value()
            if self._expect(",]") == "]":
                return
        self._at += 1

    def read_arrays(self, names: Collection[str]) -> Iterator[str]:
        """Yield the names of those members of the object here that are arrays. Each has to be read before the next.

        :param names: names of the members.
        :raises JsonStructureError: if there is no object, or it does not end.
        """
        self._expect("{")
        while self._peek() != "}":
            name = self._read_value()
            self._expect(":")
            if self._peek() == "[" and name in names:
                yield name
            else:
                self._skip_value()
            if self._expect(",}") == "}":
                return

    def check_end(self) -> None:
        """Check that nothing follows.

        :raises JsonStructureError: if there is more text.
        """
        if found := self._peek():
            raise JsonStructureError(f"{found!r} follows the end")

    def _read_value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if (found := self._find_end()) is not None:
                    end, value = (
                        found,
                        InvalidElement(f"is not JSON ({getattr(error, 'msg', 'it is nested too deep')})"),
                    )
                    break
                if not self._fill():
                    raise JsonStructureError("it is cut off") from None
            else:
                if end < len(self._text) or not self._fill():  # a number may continue
                    break
        if _SURROGATES.search(self._text, self._at, end):
            value = InvalidElement("is not UTF-8")
        self._at = end
        return value

    def _skip_value(self) -> None:
        if self._peek() == "[":
            self._at += 1
            while self._peek() != "]":
                self._skip_value()
                if self._expect(",]") == "]":
                    return
            self._at += 1
            return
        while (end := self._find_end()) is None:
            if not self._fill():
                raise JsonStructureError("it is cut off")
        self._at = end

    def _find_end(self) -> int | None:
        """Return where the value ends that begins here; None if it continues."""
        depth = 0
        for match in _TOKEN.finditer(self._text, self._at):
            match match[0]:
                case "[" | "{":
                    depth += 1
                case "]" | "}" | "," if depth == 0:
                    return match.start()
                case "]" | "}":
                    depth -= 1
                case '"':
                    return None
        return None

    def _peek(self) -> str:
        """Return the next character that is not white space; an empty text at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _expect(self, characters: str) -> str:
        found = self._peek()
        if not found or found not in characters:
            expected = " or ".join(map(repr, characters))
            raise JsonStructureError(f"{expected} is expected, and not {found!r}" if found else "it is cut off")
        self._at += 1
        return found

    def _fill(self) -> bool:
        """Read more text. Return False if there is none."""
        rest = self._text[self._at :]
        if len(rest) >= MAX_ELEMENT:
            raise JsonStructureError(f"an element has {MAX_ELEMENT} characters or more: a quote may not be closed")
        # A long element is tried again with twice its text, so that the time grows with its length only.
        data = self._stream.read(max(_CHUNK, len(rest)))
        self._text = rest + self._decoder.decode(data, not data)
        self._at = 0
        return len(self._text) > len(rest)
