# SPDX-License-Identifier: Apache-2.0
"""Writes an object to S3 piece by piece, in constant memory, so that it appears whole or not at all.

Both ways end in one request, the PUT or the completion of a multipart upload, which may carry a condition.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from airflow_provider_wan.s3.errors import read_field

PART_BYTES = 8 * 1024 * 1024
#: Parts in flight while the next one fills: with these, memory is at most four parts.
PARTS_IN_FLIGHT = 3
#: A part that is copied within S3 has at most 5 GiB.
COPY_PART_BYTES = 1024**3


class MultipartUpload:
    """One multipart upload, which begins with the object.

    :param client: a boto3 S3 client.
    :param bucket: the bucket.
    :param key: the object's key.
    :param content_type: its media type.
    :param metadata: user metadata, ASCII.
    """

    def __init__(self, client: Any, bucket: str, key: str, *, content_type: str, metadata: Mapping[str, str]) -> None:
        self._client = client
        self._target = {"Bucket": bucket, "Key": key}
        created = client.create_multipart_upload(**self._target, ContentType=content_type, Metadata=dict(metadata))
        self._target["UploadId"] = read_field(created, "UploadId")
        self._parts: dict[int, dict[str, Any]] = {}

    def upload_part(self, number: int, body: bytes | bytearray) -> None:
        """Upload one part; safe to call from several threads.

        :param number: its number, from 1.
        :param body: its content.
        """
        self._add(number, self._client.upload_part(**self._target, PartNumber=number, Body=body))

    def copy_from(self, bucket: str, key: str, etag: str, size: int) -> None:
        """Copy another object within S3.

        Unlike a plain copy, the completion of a multipart upload takes a condition on most servers.

        :param bucket: bucket of the other object; ``key`` likewise.
        :param etag: its ETag: if it has changed, nothing is copied.
        :param size: its number of bytes, at least 1.
        """
        for number, first in enumerate(range(0, size, COPY_PART_BYTES), 1):
            response = self._client.upload_part_copy(
                **self._target,
                PartNumber=number,
                CopySource={"Bucket": bucket, "Key": key},
                CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={first}-{min(first + COPY_PART_BYTES, size) - 1}",
            )
            self._add(number, response.get("CopyPartResult", {}))

    def complete(self, condition: Mapping[str, str]) -> str:
        """Make the object appear.

        :param condition: ``IfNoneMatch`` or ``IfMatch``; empty for none.
        :returns: the object's ETag, without quotes.
        """
        parts = [self._parts[number] for number in sorted(self._parts)]
        response = self._client.complete_multipart_upload(**self._target, MultipartUpload={"Parts": parts}, **condition)
        return read_field(response, "ETag").strip('"')

    def abort(self) -> None:
        """Remove the parts. Errors are ignored: S3's lifecycle rule removes what remains."""
        with contextlib.suppress(Exception):
            self._client.abort_multipart_upload(**self._target)

    def _add(self, number: int, response: Mapping[str, Any]) -> None:
        part = {"PartNumber": number, "ETag": read_field(response, "ETag")}
        # Where boto3 sent a checksum with the part, S3 wants it again on completion.
        part |= {name: response[name] for name in response if name.startswith("Checksum") and name != "ChecksumType"}
        self._parts[number] = part


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
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._metadata = dict(metadata)
        self._upload: MultipartUpload | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._in_flight: deque[Future[bytearray]] = deque()
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

    def commit(self, metadata: Mapping[str, str], condition: Mapping[str, str] | None = None) -> str:
        """Make the object appear. After an error it may be called again, or :meth:`abort`.

        :param metadata: more user metadata, known only now; kept where the object goes by a single PUT, as S3 fixes
            that of a multipart upload at its beginning.
        :param condition: ``IfNoneMatch`` or ``IfMatch``; default: none.
        :returns: the object's ETag, without quotes.
        """
        if self._upload is None:
            del self._buffer[self._filled :]
            attributes = {"ContentType": self._content_type, "Metadata": {**self._metadata, **metadata}}
            response = self._client.put_object(
                Bucket=self._bucket, Key=self._key, Body=self._buffer, **attributes, **(condition or {})
            )
            etag = read_field(response, "ETag").strip('"')
        else:
            if self._filled:
                del self._buffer[self._filled :]
                self._send()
            while self._in_flight:
                self._collect()
            etag = self._upload.complete(condition or {})
        self._close()
        return etag

    def abort(self) -> None:
        """Leave nothing behind. Does nothing after :meth:`commit`, and never raises what S3 answers."""
        for future in self._in_flight:
            future.cancel()
        upload = self._upload
        self._close()
        if upload is not None:
            upload.abort()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        self._upload = None
        self._in_flight.clear()
        self._buffer = bytearray()

    def _next_buffer(self) -> bytearray:
        self._filled = 0
        if len(self._in_flight) >= PARTS_IN_FLIGHT:
            return self._collect()
        return bytearray(PART_BYTES)

    def _collect(self) -> bytearray:
        return self._in_flight.popleft().result()

    def _send(self) -> None:
        if self._upload is None or self._pool is None:
            self._upload = MultipartUpload(
                self._client, self._bucket, self._key, content_type=self._content_type, metadata=self._metadata
            )
            self._pool = ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="wan-upload")
        self._part_number += 1
        self._in_flight.append(self._pool.submit(_upload_part, self._upload, self._part_number, self._buffer))
        self._buffer = bytearray()
        self._filled = 0


def _upload_part(upload: MultipartUpload, number: int, buffer: bytearray) -> bytearray:
    """Upload a part, and return its buffer for another one."""
    upload.upload_part(number, buffer)
    return buffer
