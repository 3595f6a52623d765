# SPDX-License-Identifier: Apache-2.0
"""
The checkpoint of a batch: what is settled, and what was under way. It lies beside the results.

::

    checkpoint.json      position in the manifest, what is under way, window, figures
    parts/<identity>/<number>-<nonce>.jsonl     rows that were settled between two checkpoints

A part is written before the checkpoint that counts on it, so each checkpoint is true by itself: a row below its
position is in a part, or among its open rows. Rows that were settled or submitted after it are looked at again, and the
ledger tells what they are. Nothing about money rests on this.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from airflow_provider_wan.batch.results import Row
from airflow_provider_wan.media.multipart import ObjectWriter

VERSION = 1
# Rows that are held at once while the parts are put in order.
BLOCK = 20_000
JSONL = "application/x-ndjson"


@dataclass(frozen=True)
class UnderWay:
    """A clip under way, as the checkpoint knows it."""

    row: int
    request_id: str
    fingerprint: str
    since: float
    cost: float | None
    ours: bool


@dataclass(frozen=True)
class Checkpoint:
    """
    Where a batch stands.

    :param identity: of the manifest.
    :param started_at: Unix seconds of the first try's beginning.
    :param end_time: Unix seconds at which the present try gives up.
    :param taken: how far the manifest was read: the last row's number.
    :param items: how many rows were taken.
    :param open: rows up to there that are not settled, those under way left out.
    :param running: those under way.
    :param left: rows that are left to another try, for want of budget or since the batch had to stop.
    :param settled: ranges of rows beyond ``taken`` that an earlier try has settled.
    :param stopped: why nothing more is submitted, and whether another try may do.
    :param exhausted: whether no more rows are taken.
    :param window: see :class:`~airflow_provider_wan.batch.window.Window`.
    :param tally: see :class:`~airflow_provider_wan.batch.results.Tally`.
    :param spent: US dollars, those of what is under way included.
    :param parts: how many there are.
    :param clean: whether nothing was submitted since.
    :param total: rows of the manifest, where they were counted.
    :param waves: how often the present try was woken.
    :param tries: how often open rows were tried, by row.
    :param done: whether the batch has come to its end, with success.
    """

    identity: str
    started_at: float
    end_time: float
    taken: int = 0
    items: int = 0
    open: tuple[int, ...] = ()
    running: tuple[UnderWay, ...] = ()
    left: tuple[int, ...] = ()
    settled: tuple[tuple[int, int], ...] = ()
    stopped: tuple[str, bool] | None = None
    exhausted: bool = False
    window: dict[str, Any] | None = None
    tally: dict[str, Any] | None = None
    spent: float = 0.0
    parts: int = 0
    clean: bool = False
    done: bool = False
    total: int | None = None
    waves: int = 0
    tries: dict[str, int] = field(default_factory=dict)
    version: int = field(default=VERSION)

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Checkpoint | None:
        """Read it; None where it is none, or another version's: then all is looked at again."""
        try:
            data = json.loads(text)
            if data.get("version") != VERSION:
                return None
            known = {each.name for each in fields(cls)}
            data = {name: value for name, value in data.items() if name in known}
            data["open"], data["left"] = tuple(data["open"]), tuple(data["left"])
            data["settled"] = tuple((low, high) for low, high in data["settled"])
            data["running"] = tuple(UnderWay(**each) for each in data["running"])
            return cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Journal:
    """
    The files of one batch.

    :param client: a boto3 S3 client.
    :param bucket: where they lie.
    :param prefix: below which, ending in ``/``.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._nonce = uuid4().hex[:8]

    @property
    def uri(self) -> str:
        """``s3://`` prefix."""
        return f"s3://{self._bucket}/{self._prefix}"

    def read(self) -> Checkpoint | None:
        """Return the last checkpoint; None where there is none."""
        body = self.get("checkpoint.json")
        return None if body is None else Checkpoint.from_json(body)

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        self.put("checkpoint.json", checkpoint.to_json(), "application/json")

    def add_part(self, identity: str, number: int, rows: Iterable[Row]) -> None:
        """Write a part."""
        body = b"".join(row.to_json() for row in rows)
        self.put(f"parts/{identity}/{number:06d}-{self._nonce}.jsonl", body, JSONL)

    def rows(self, identity: str) -> Iterator[Row]:
        """Yield the rows of all parts, the oldest first: a row may come again, and the last one counts."""
        for key in self._keys(f"parts/{identity}/"):
            for line in self._lines(key):
                yield Row.from_json(line)

    def forget(self) -> None:
        """Remove all parts."""
        for key in self._keys("parts/"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def merge(self, identity: str, last_row: int) -> None:
        """
        Write ``results.jsonl``, a row an item in the manifest's order, and ``rejected.jsonl``, those without a clip.

        It holds some 20,000 rows at once, however many there are.
        """
        keys = self._keys(f"parts/{identity}/")
        spans: dict[str, tuple[int, int]] = {}
        with self._writer("results.jsonl") as results, self._writer("rejected.jsonl") as rejected:
            for start in range(0, last_row + 1, BLOCK):
                block: dict[int, bytes] = {}
                for key in keys:
                    low, high = spans.get(key, (0, last_row))
                    if low >= start + BLOCK or high < start:
                        continue
                    numbers = []
                    for line in self._lines(key):
                        number = int(json.loads(line)["row"])
                        numbers.append(number)
                        if start <= number < start + BLOCK:
                            block[number] = line
                    spans[key] = (min(numbers, default=0), max(numbers, default=0))
                for number in sorted(block):
                    results.write(block[number])
                    if not Row.from_json(block[number]).status.final:
                        rejected.write(block[number])

    def get(self, name: str) -> bytes | None:
        """Return a file; None where there is none."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code")) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        with answer["Body"] as body:
            data: bytes = body.read()
            return data

    def put(self, name: str, body: bytes, content_type: str) -> None:
        """Write a file."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body, ContentType=content_type)

    def _writer(self, name: str) -> _Lines:
        return _Lines(ObjectWriter(self._client, self._bucket, self._prefix + name, content_type=JSONL, metadata={}))

    def _lines(self, key: str) -> Iterator[bytes]:
        body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
        with contextlib.closing(body):
            for line in body.iter_lines(64 * 1024, keepends=True):
                if line.strip():
                    yield line if line.endswith(b"\n") else line + b"\n"

    def _keys(self, below: str) -> list[str]:
        keys: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + below, **token)
            keys += [found["Key"] for found in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return sorted(keys)
            token = {"ContinuationToken": page["NextContinuationToken"]}


class _Lines:
    """Writes lines to an object that appears when all went well."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.commit({})
        else:
            self._writer.abort()

    def write(self, line: bytes) -> None:
        """Add a line."""
        self._writer.write(line)
