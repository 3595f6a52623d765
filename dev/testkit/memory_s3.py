# SPDX-License-Identifier: Apache-2.0
"""An S3 client in memory, with the calls of the checkpoint store."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError


class _StreamingBody(io.BytesIO):
    def iter_lines(self, size: int, keepends: bool = False) -> Iterator[bytes]:
        yield from self.read().splitlines(keepends)


class MemoryS3:
    """One bucket.

    :ivar objects: content by key.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> dict[str, str]:
        self.objects[Key] = bytes(Body)
        return {"ETag": '"x"'}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": _StreamingBody(self.objects[Key])}

    def delete_object(self, *, Bucket: str, Key: str) -> None:
        del self.objects[Key]

    def get_paginator(self, operation: str) -> MemoryS3:
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:
        """Yield one key per page, and an empty page at the end, which S3 may send too."""
        for key in list(self.objects):
            if key.startswith(Prefix):
                yield {"Contents": [{"Key": key}]}
        yield {}
