# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a batch: which rows have results, and what was in flight. It is stored beside the results.

::

    checkpoint.json      position in the manifest, requests in flight, window, counts
    parts/<manifest id>/<number>-<nonce>.jsonl     results since the previous checkpoint

A part is written before the checkpoint that refers to it, so every checkpoint is consistent by itself: a row up to its
position is in a part, in flight, skipped or open. Rows that got a result or were submitted after the last checkpoint
are processed again, and the ledger knows their state. No decision about money depends on the checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_wan.api.redaction import clean_text
from airflow_provider_wan.batch.errors import CheckpointError
from airflow_provider_wan.batch.results import ItemResult, ResultCounts
from airflow_provider_wan.batch.throttle import ConcurrencyWindow
from airflow_provider_wan.s3.multipart import ObjectWriter
from airflow_provider_wan.s3.objects import delete_object, list_objects, open_object, put_object, read_object
from airflow_provider_wan.s3.uri import build_s3_uri

if TYPE_CHECKING:
    from pydantic import TypeAdapter

log = logging.getLogger(__name__)

#: Version of the format of ``checkpoint.json`` and of the parts.
VERSION = 2
# Number of rows that are in memory at once while the parts are sorted.
BLOCK_ROWS = 20_000
JSONL = "application/x-ndjson"


@dataclass(frozen=True)
class InFlightRecord:
    """An item in flight, as the checkpoint stores it.

    :param row: row number.
    :param request_id: the API's id.
    :param fingerprint: key in the ledger.
    :param submitted_at: Unix seconds.
    :param cost: US dollars, if known.
    :param paid_here: whether this task has paid for it.
    :param digest: hash of the row that asked for it; None if an earlier version wrote the checkpoint.
    """

    row: int
    request_id: str
    fingerprint: str
    submitted_at: float
    cost: float | None
    paid_here: bool
    digest: str | None = None


@dataclass(frozen=True)
class StopReason:
    """Why a batch submits nothing more.

    :param message: message of the error.
    :param can_progress: whether a retry can make progress.
    """

    message: str
    can_progress: bool


@dataclass(frozen=True)
class Checkpoint:
    """State of a batch.

    :param manifest_id: identity of the manifest.
    :param arguments_id: hash of the arguments that decide which clip a row gets.
    :param started_at: Unix seconds at which the first attempt began.
    :param end_time: Unix seconds at which the present attempt ends.
    :param last_row: number of the last row that was read.
    :param items: number of rows that were read.
    :param open_rows: rows up to ``last_row`` without a result that are not in flight.
    :param in_flight: items in flight.
    :param skipped_rows: rows that are left to another attempt, because the budget is used up or the batch had to stop.
    :param finished_ranges: ranges of rows after ``last_row`` that have a final result of an earlier attempt.
    :param stop_reason: why nothing more is submitted.
    :param exhausted: whether no more rows are read.
    :param window: limit of requests in flight.
    :param counts: counts of the results.
    :param parts: number of parts.
    :param clean: whether nothing was submitted after this checkpoint was written.
    :param done: whether the batch has ended with success.
    :param total_rows: rows of the manifest, if they were counted.
    :param cycles: number of deferral cycles of the present attempt.
    :param attempts: number of attempts of open rows, by row.
    :param unclaimed: requests that no row asks for any more, since the manifest, the arguments or an image changed.
    :param awaited: requests of earlier attempts, by their rows, whose clips are paid for, or may be, and not archived.
    :param unmatched: requests that an earlier attempt sent after its last checkpoint, or that got no response: their
        rows are not known, and of the latter their ids are empty.
    :param spent: US dollars that all attempts together have spent, with what is reserved.
    :param max_cost: the budget in US dollars; None: no limit.
    :param version: version of the format.
    """

    manifest_id: str
    arguments_id: str
    started_at: float
    end_time: float
    last_row: int = 0
    items: int = 0
    open_rows: tuple[int, ...] = ()
    in_flight: tuple[InFlightRecord, ...] = ()
    skipped_rows: tuple[int, ...] = ()
    finished_ranges: tuple[tuple[int, int], ...] = ()
    stop_reason: StopReason | None = None
    exhausted: bool = False
    window: ConcurrencyWindow | None = None
    counts: ResultCounts = field(default_factory=ResultCounts)
    parts: int = 0
    clean: bool = False
    done: bool = False
    total_rows: int | None = None
    cycles: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    unclaimed: tuple[InFlightRecord, ...] = ()
    awaited: tuple[InFlightRecord, ...] = ()
    unmatched: tuple[InFlightRecord, ...] = ()
    spent: float = 0.0
    max_cost: float | None = None
    version: int = VERSION

    def to_json(self) -> bytes:
        """Return the checkpoint as JSON."""
        return clean_text(json.dumps(asdict(self), ensure_ascii=False)).encode()

    @classmethod
    def from_json(cls, text: bytes, uri: str) -> Checkpoint:
        """Parse a checkpoint.

        :param text: JSON.
        :param uri: where it is stored, for the error.
        :raises CheckpointError: if another version wrote it, or it is damaged.
        """
        try:
            data = json.loads(text)
        except ValueError:
            raise CheckpointError(uri, "is damaged: it is not JSON") from None
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise CheckpointError(uri, f"has format version {version}, and this version reads {VERSION}")
        try:
            return _checkpoint_adapter().validate_json(text)
        except ValueError as error:
            raise CheckpointError(uri, f"is damaged: {error}"[:500]) from None


@cache
def _checkpoint_adapter() -> TypeAdapter[Checkpoint]:
    # Building a validator takes time that parsing a Dag must not spend.
    from pydantic import TypeAdapter

    return TypeAdapter(Checkpoint)


class CheckpointStore:
    """The files of one batch.

    :param client: a boto3 S3 client.
    :param bucket: bucket of the files.
    :param prefix: prefix of the files, ending in ``/``.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._nonce = uuid4().hex[:8]

    @property
    def uri(self) -> str:
        """``s3://`` prefix of the files."""
        return build_s3_uri(self._bucket, self._prefix)

    def read(self) -> Checkpoint | None:
        """Return the last checkpoint; None if there is none.

        :raises CheckpointError: if another version wrote it, or it is damaged.
        """
        body = self.get("checkpoint.json")
        return None if body is None else Checkpoint.from_json(body, f"{self.uri}checkpoint.json")

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint.

        :param checkpoint: the new checkpoint.
        """
        self.put("checkpoint.json", checkpoint.to_json(), "application/json")

    def write_part(self, manifest_id: str, number: int, results: Iterable[ItemResult]) -> None:
        """Write a part.

        :param manifest_id: identity of the manifest.
        :param number: number of the part.
        :param results: its results.
        """
        body = b"".join(result.to_json() for result in results)
        self.put(f"parts/{manifest_id}/{number:06d}-{self._nonce}.jsonl", body, JSONL)

    def read_parts(self, manifest_id: str, *, newest_first: bool = False) -> Iterator[ItemResult]:
        """Yield the results of all parts, the oldest first. The last result of a row counts.

        :param manifest_id: identity of the manifest.
        :param newest_first: yield the newest first; then one part is in memory.
        """
        keys = self._list_keys(f"parts/{manifest_id}/")
        for key in reversed(keys) if newest_first else keys:
            results: Iterable[tuple[ItemResult, bytes]] = self._read_results(key)
            for result, _ in reversed(list(results)) if newest_first else results:
                yield result

    def find_last_part(self, manifest_id: str) -> int:
        """Return the largest number of a part; 0 if there is none.

        It may be larger than that in the checkpoint, if a process died between the two writes.

        :param manifest_id: identity of the manifest.
        """
        names = (key.rpartition("/")[2] for key in self._list_keys(f"parts/{manifest_id}/"))
        numbers = (name.partition("-")[0] for name in names)
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def delete_parts(self) -> None:
        """Delete all parts."""
        self._delete_all("parts/")

    def delete_stills(self) -> None:
        """Delete the thumbnails of all rows: another manifest has other images there."""
        self._delete_all("stills/")

    def _delete_all(self, prefix: str) -> None:
        for key in self._list_keys(prefix):
            delete_object(self._client, self._bucket, key)

    def merge_parts(self, manifest_id: str, last_row: int) -> None:
        """Write ``results.jsonl``, one line per row in order, and ``rejected.jsonl``, the rows without a clip.

        Memory is bounded: some 20,000 rows are held at once.

        :param manifest_id: identity of the manifest.
        :param last_row: number of the last row that can have a result.
        """
        keys = self._list_keys(f"parts/{manifest_id}/")
        spans: dict[str, tuple[int, int]] = {}
        with self._open_writer("results.jsonl") as results, self._open_writer("rejected.jsonl") as rejected:
            for start in range(0, last_row + 1, BLOCK_ROWS):
                block: dict[int, tuple[ItemResult, bytes]] = {}
                for key in keys:
                    low, high = spans.get(key, (0, last_row))
                    if low >= start + BLOCK_ROWS or high < start:
                        continue
                    numbers = []
                    for result, line in self._read_results(key):
                        numbers.append(result.row)
                        if start <= result.row < start + BLOCK_ROWS:
                            block[result.row] = result, line
                    spans[key] = (min(numbers, default=0), max(numbers, default=0))
                for number in sorted(block):
                    result, line = block[number]
                    results.write(line)
                    if not result.status.is_final:
                        rejected.write(line)

    def get(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none.

        :param name: name below the prefix.
        """
        return read_object(self._client, self._bucket, self._prefix + name)

    def put(self, name: str, body: bytes, content_type: str) -> None:
        """Write a file.

        :param name: name below the prefix.
        :param body: its content.
        :param content_type: its MIME type.
        """
        put_object(self._client, self._bucket, self._prefix + name, body, content_type)

    @contextlib.contextmanager
    def _open_writer(self, name: str) -> Iterator[ObjectWriter]:
        """Yield a writer of an object that appears only if the block succeeds."""
        writer = ObjectWriter(self._client, self._bucket, self._prefix + name, content_type=JSONL, metadata={})
        try:
            yield writer
        except BaseException:
            writer.abort()
            raise
        writer.commit({})

    def _read_results(self, key: str) -> Iterator[tuple[ItemResult, bytes]]:
        """Yield the results of a part with their lines. A damaged line is no result: its row is evaluated again."""
        damaged = 0
        for line in self._read_lines(key):
            try:
                yield ItemResult.from_json(line), line
            except ValueError:
                damaged += 1
        if damaged:
            uri = build_s3_uri(self._bucket, key)
            log.warning("%d lines of %s are damaged, and are left out; the ledger knows their clips", damaged, uri)

    def _read_lines(self, key: str) -> Iterator[bytes]:
        with open_object(self._client, self._bucket, key) as (body, _):
            for line in body.iter_lines(64 * 1024, keepends=True):
                if line.strip():
                    yield line if line.endswith(b"\n") else line + b"\n"

    def _list_keys(self, prefix: str) -> list[str]:
        return sorted(found["Key"] for found in list_objects(self._client, self._bucket, self._prefix + prefix))
