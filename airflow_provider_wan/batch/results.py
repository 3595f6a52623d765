# SPDX-License-Identifier: Apache-2.0
"""What became of each row, and of all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from airflow_provider_wan.ledger.entry import scrub


class Status(StrEnum):
    """
    What became of a row.

    ``ARCHIVED`` is done for good, and so is ``DUPLICATE``: an earlier row asks for the very same clip. ``REJECTED``:
    nothing was accepted or paid. ``FAILED``: no clip, and no charge. ``IN_DOUBT``: whether it was accepted is not
    known. ``TIMEOUT``: it is still under way, and the next try looks for it. ``LOST``: it was made and paid for, and
    its file can't be had.
    """

    ARCHIVED = "archived"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    TIMEOUT = "timeout"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """Whether the next try leaves it alone."""
        return self in (Status.ARCHIVED, Status.DUPLICATE)


@dataclass(frozen=True)
class Row:
    """
    One line of ``results.jsonl``.

    :param row: number in the manifest.
    :param image: where the image lies, without a query string.
    :param status: what became of it.
    :param archive_uri: where the clip lies.
    :param sha256: of the clip.
    :param seconds: of video, as asked for.
    :param resolution: as asked for.
    :param cost: US dollars that this task paid for it.
    :param reused: whether the clip was made for somebody else, or for another row.
    :param request_id: of the API.
    :param fingerprint: in the ledger.
    :param error: why there is no clip.
    :param digest: of the row, to know it again.
    """

    row: int
    image: str | None
    status: Status
    archive_uri: str | None = None
    sha256: str | None = None
    seconds: int | None = None
    resolution: str | None = None
    cost: float | None = None
    reused: bool = False
    request_id: str | None = None
    fingerprint: str | None = None
    error: str | None = None
    digest: str | None = None

    def to_json(self) -> bytes:
        """Return one line."""
        values = asdict(self) | {"error": None if self.error is None else scrub(self.error)}
        return json.dumps(values, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Row:
        """Read one line. :raises ValueError: where it is none."""
        values = json.loads(line)
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known} | {"status": _status(values)})


def _status(values: Mapping[str, Any]) -> Status:
    return Status(values["status"])


@dataclass
class Tally:
    """
    How many rows became what.

    :param counts: rows by status.
    :param reused: archived clips that this task did not pay for.
    :param video_seconds: seconds of video archived.
    :param passing: whether another try may do for some row that gave no clip.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    video_seconds: int = 0
    passing: bool = False

    def add(self, row: Row, *, passing: bool) -> None:
        """Count a row."""
        self.passing = self.passing or (passing and not row.status.final)
        self.counts[row.status.value] += 1
        if row.status is Status.ARCHIVED:
            self.reused += row.reused
            self.video_seconds += row.seconds or 0

    @property
    def settled(self) -> int:
        """Rows that have become something."""
        return sum(self.counts.values())

    @property
    def bad(self) -> int:
        """Rows that gave no clip."""
        return sum(count for status, count in self.counts.items() if not Status(status).final)

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return {**asdict(self), "counts": dict(self.counts)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tally:
        """Go on counting."""
        return cls(Counter(data["counts"]), int(data["reused"]), int(data["video_seconds"]), bool(data["passing"]))


@dataclass(frozen=True)
class Summary:
    """
    The whole in a few figures: what goes into XCom.

    :param items: rows of the manifest that were looked at.
    :param counts: of them, by status.
    :param left: rows that were not begun, where the batch had to stop.
    :param reused: archived clips that this task did not pay for.
    :param video_seconds: seconds of video archived.
    :param cost: US dollars that this task has paid, in all its tries.
    :param elapsed: seconds since the first try began.
    :param folder: ``s3://`` prefix of the files below.
    """

    items: int
    counts: Mapping[str, int]
    left: int
    reused: int
    video_seconds: int
    cost: float
    elapsed: float
    folder: str

    def as_result(self) -> dict[str, Any]:
        """Return plain values, with a count for each status."""
        values = asdict(self)
        counts = {status.value: int(self.counts.get(status.value, 0)) for status in Status}
        del values["counts"]
        files = {
            "results": f"{self.folder}results.jsonl",
            "rejected_uri": f"{self.folder}rejected.jsonl",
            "sheet": f"{self.folder}sheet.html",
        }
        return {**values, **counts, **files}
