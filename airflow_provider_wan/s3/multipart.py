# SPDX-License-Identifier: Apache-2.0
"""Writes an object to S3 piece by piece, in constant memory, so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PART_BYTES = 8 * 1024 * 1024
#: Parts under way while the next one fills: with these, memory is at most four parts.
PARTS_IN_FLIGHT = 3


class ObjectWriter:
    """Collects parts and uploads them while the next one is being collected.

    What stays below one part goes by a single PUT. Nothing is visible in the bucket before :meth:`commit`.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param content_type: its media type.
    :param metadata: user metadata, ASCII.
    """

    def __init__(self, client: Any, bucket: str, key: str, *, content_type: str, metadata: Mapping[str, str]) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        self._content_type = content_type
        self._metadata = dict(metadata)
        self._upload_id: str | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._in_flight: deque[Future[tuple[dict[str, Any], bytearray]]] = deque()
        self._parts: list[dict[str, Any]] = []
        self._part_number = 0
        self._buffer = bytearray()
        self._filled = 0

    def write(self, piece: bytes) -> None:
        """Take the next piece.

        :raises botocore.exceptions.ClientError: when S3 refuses a part; likewise botocore's other errors.
        """
        view = memoryview(piece)
        while view:
            if not self._buffer:
                self._buffer = self._next_buffer()
            count = min(len(view), PART_BYTES - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == PART_BYTES:
                self._send()

    def commit(self, metadata: Mapping[str, str]) -> str:
        """Make the object appear.

        :param metadata: more user metadata, known only now; kept where the object goes by a single PUT, as S3 fixes
            that of a multipart upload at its beginning.
        :return: the object's ETag, without quotes.
        """
        if self._upload_id is None:
            body = bytes(memoryview(self._buffer)[: self._filled])
            attributes = {"ContentType": self._content_type, "Metadata": {**self._metadata, **metadata}}
            answer = self._client.put_object(**self._target, Body=body, **attributes)
        else:
            if self._filled:
                del self._buffer[self._filled :]
                self._send()
            while self._in_flight:
                self._collect()
            answer = self._client.complete_multipart_upload(
                **self._target, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        self._close()
        return str(answer["ETag"]).strip('"')

    def abort(self) -> None:
        """Leave nothing behind. Does nothing after :meth:`commit`, and never raises what S3 answers."""
        for future in self._in_flight:
            future.cancel()
        upload_id = self._upload_id
        self._close()
        if upload_id is not None:
            # The error that led here is the one to be told; S3's lifecycle rule removes what remains.
            with contextlib.suppress(Exception):
                self._client.abort_multipart_upload(**self._target, UploadId=upload_id)

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        self._upload_id = None
        self._in_flight.clear()
        self._buffer = bytearray()

    def _next_buffer(self) -> bytearray:
        self._filled = 0
        if len(self._in_flight) >= PARTS_IN_FLIGHT:
            return self._collect()
        return bytearray(PART_BYTES)

    def _collect(self) -> bytearray:
        part, buffer = self._in_flight.popleft().result()
        self._parts.append(part)
        return buffer

    def _send(self) -> None:
        if self._upload_id is None or self._pool is None:
            attributes = {"ContentType": self._content_type, "Metadata": self._metadata}
            created = self._client.create_multipart_upload(**self._target, **attributes)
            self._upload_id = str(created["UploadId"])
            self._pool = ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="wan-upload")
        self._part_number += 1
        self._in_flight.append(self._pool.submit(self._upload, self._part_number, self._buffer, self._upload_id))
        self._buffer = bytearray()
        self._filled = 0

    def _upload(self, number: int, buffer: bytearray, upload_id: str) -> tuple[dict[str, Any], bytearray]:
        answer = self._client.upload_part(**self._target, UploadId=upload_id, PartNumber=number, Body=buffer)
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        # Where boto3 sent a checksum with the part, S3 wants it again on completion.
        part |= {name: answer[name] for name in answer if name.startswith("Checksum") and name != "ChecksumType"}
        return part, buffer
