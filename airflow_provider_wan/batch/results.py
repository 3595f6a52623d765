# SPDX-License-Identifier: Apache-2.0
"""The result of each row, and their counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum

from airflow_provider_wan.api.redaction import clean_text, redact
from airflow_provider_wan.ledger.entry import MAX_ERROR_LENGTH


class ItemStatus(StrEnum):
    """Status of a row in the results."""

    ARCHIVED = "archived"
    """The clip is archived. Final."""
    DUPLICATE = "duplicate"
    """An earlier row requests the same clip. Final."""
    REJECTED = "rejected"
    """Nothing was accepted, and nothing was paid."""
    FAILED = "failed"
    """The request failed, without a charge."""
    IN_DOUBT = "in_doubt"
    """It is unknown whether the submission was accepted."""
    TIMEOUT = "timeout"
    """The request is still in flight; the next attempt waits for it again."""
    LOST = "lost"
    """The clip was paid for, and its file is not available, or is not the clip that was asked for."""

    @property
    def is_final(self) -> bool:
        """Whether the next attempt keeps the result."""
        return self in (ItemStatus.ARCHIVED, ItemStatus.DUPLICATE)


@dataclass(frozen=True)
class ItemResult:
    """One line of ``results.jsonl``.

    :param row: row number in the manifest.
    :param image: where the image is, without a query string.
    :param status: status of the row.
    :param archive_uri: where the clip is archived; of a lost clip that is not the one that was asked for: where it is
        kept.
    :param sha256: SHA-256 of the clip.
    :param etag: the object's ETag.
    :param seconds: requested seconds of video.
    :param resolution: requested resolution.
    :param cost: US dollars that this task paid for the clip.
    :param reused: whether the clip was made for another task or another row.
    :param request_id: the API's id.
    :param fingerprint: key in the ledger.
    :param error: why there is no clip.
    :param note: what is unusual about the clip, such as a key of its own.
    :param digest: hash of the row.
    :param ended_at: Unix seconds at which the row got this result.
    """

    row: int
    image: str | None
    status: ItemStatus
    archive_uri: str | None = None
    sha256: str | None = None
    etag: str | None = None
    seconds: int | None = None
    resolution: str | None = None
    cost: float | None = None
    reused: bool = False
    request_id: str | None = None
    fingerprint: str | None = None
    error: str | None = None
    note: str | None = None
    digest: str | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        """Clean what comes from a row or from the API: a log that prints half an emoji would raise."""
        for name in ("image", "error", "note"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, clean_text(value))

    def to_json(self) -> bytes:
        """Return one line of JSON, without secrets."""
        values = asdict(self) | {"error": None if self.error is None else redact(self.error, MAX_ERROR_LENGTH)}
        return clean_text(json.dumps(values, ensure_ascii=False)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> ItemResult:
        """Parse one line.

        :param line: a line that :meth:`to_json` wrote.
        :raises ValueError: if it is not JSON, or no result of a row.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or not isinstance(values.get("row"), int) or "image" not in values:
            raise ValueError("not the result of a row")
        known = {each.name for each in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        return cls(**given | {"status": ItemStatus(str(values.get("status")))})


@dataclass
class ResultCounts:
    """Counts of the results.

    :param by_status: number of rows by status.
    :param reused: archived clips that this task did not pay for.
    :param video_seconds: seconds of archived video.
    :param can_progress: whether a retry can produce a clip for some row that has none.
    """

    by_status: dict[str, int] = field(default_factory=dict)
    reused: int = 0
    video_seconds: int = 0
    can_progress: bool = False

    def add(self, result: ItemResult, *, transient: bool) -> None:
        """Count a result.

        :param result: the result of a row.
        :param transient: for a row without a clip: whether a retry can produce one.
        """
        self.can_progress = self.can_progress or (transient and not result.status.is_final)
        self.by_status[result.status.value] = self.by_status.get(result.status.value, 0) + 1
        if result.status is ItemStatus.ARCHIVED:
            self.reused += result.reused
            self.video_seconds += result.seconds or 0

    @property
    def archived(self) -> int:
        """Number of rows with an archived clip."""
        return self.by_status.get(ItemStatus.ARCHIVED.value, 0)

    @property
    def total(self) -> int:
        """Number of rows that have a result."""
        return sum(self.by_status.values())

    @property
    def without_clip(self) -> int:
        """Number of rows whose result is not final."""
        return sum(count for status, count in self.by_status.items() if not ItemStatus(status).is_final)
