# SPDX-License-Identifier: Apache-2.0
"""What the gallery shows of a ledger entry, and how clips are filtered, ordered and added up. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PAGE_SIZE = 24
MAX_PAGE_SIZE = 96


@dataclass(frozen=True)
class Clip:
    """
    A clip as the gallery shows it. It holds no prompt and no signed URL.

    :param fingerprint: the ledger entry's name.
    :param state: the ledger entry's state.
    :param dag_id: the Dag whose task asked for the clip; None where none did.
    :param started_at: Unix seconds of the claim.
    :param submitted_at: Unix seconds of the acceptance by the API.
    :param finished_at: Unix seconds of the end.
    :param seconds: length of the video.
    :param estimate: US dollars, by the prices at the payment.
    :param cost: US dollars charged, duplicate charges included, as far as is known.
    :param reason: why it failed or is in doubt.
    :param archive_uri: ``s3://`` URI of the archived video.
    :param source_uri: URI of the source image, without a query string.
    :param duplicates: ids of further requests that were charged for the same clip.
    :param reused: how often a task was given this clip instead of paying for another.
    :param ledger: tag of its ledger; empty for the deployment's.
    :param is_sent: whether a request was accepted, or may have been.
    """

    fingerprint: str
    state: str
    dag_id: str | None
    run_id: str | None
    task_id: str | None
    map_index: int | None
    started_at: float
    submitted_at: float | None
    finished_at: float | None
    request_id: str | None
    model: str
    resolution: str
    seconds: float
    estimate: float | None
    cost: float | None
    reason: str | None
    permanent: bool
    archive_uri: str | None
    source_uri: str | None
    attempts: int
    duplicates: tuple[str, ...] = ()
    reused: int = 0
    ledger: str = ""
    is_sent: bool = True

    @property
    def id(self) -> str:
        """The clip's name in the gallery's addresses: two ledgers may each have an entry of one fingerprint."""
        return f"{self.fingerprint}-{self.ledger}" if self.ledger else self.fingerprint

    @property
    def name(self) -> str:
        """The last part of the source's or the archive's path."""
        for uri in (self.source_uri, self.archive_uri):
            if uri and (name := uri.rstrip("/").rpartition("/")[2]):
                return name
        return self.request_id or self.fingerprint[:12]

    @property
    def day(self) -> str:
        """The UTC day of the acceptance, or else of the claim."""
        moment = self.started_at if self.submitted_at is None else self.submitted_at
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")

    def waited(self, now: float) -> float | None:
        """
        Return for how long the service took or has been taking, in seconds.

        :param now: Unix seconds.
        """
        if self.submitted_at is None:
            return None
        return max(0.0, (self.finished_at if self.finished_at is not None else now) - self.submitted_at)

    def as_dict(self, now: float) -> dict[str, Any]:
        """
        Return what the page needs of the clip.

        :param now: Unix seconds.
        """
        return {
            "id": self.id,
            "fingerprint": self.fingerprint,
            "name": self.name,
            "state": self.state,
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "waited": self.waited(now),
            "request_id": self.request_id,
            "model": self.model,
            "resolution": self.resolution,
            "seconds": self.seconds,
            "estimate": self.estimate,
            "cost": self.cost,
            "reason": self.reason,
            "permanent": self.permanent,
            "archive_uri": self.archive_uri,
            "source_uri": self.source_uri,
            "attempts": self.attempts,
            "duplicates": list(self.duplicates),
        }


#: States of a clip that has not ended.
OPEN_STATES = frozenset({"claimed", "submitted", "succeeded", "in_doubt"})


def is_open(clip: Clip) -> bool:
    """Return whether a clip's entry is still going to change."""
    return clip.state in OPEN_STATES


@dataclass(frozen=True)
class ClipQuery:
    """
    Which clips a page shows.

    :param dag_ids: the Dags that the caller may read, with None in it for clips of no Dag; None for all clips.
    :param text: words that the name, the ids, the reason or the addresses must contain.
    :param page: counted from 1.
    :param size: clips on a page.
    """

    dag_ids: Collection[str | None] | None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    states: tuple[str, ...] = ()
    text: str = ""
    page: int = 1
    size: int = PAGE_SIZE


def in_scope(clip: Clip, query: ClipQuery) -> bool:
    """Return whether the caller may see a clip and it belongs to the Dag, run and task of the page."""
    if query.dag_ids is not None and clip.dag_id not in query.dag_ids:
        return False
    return (
        (query.dag_id is None or clip.dag_id == query.dag_id)
        and (query.run_id is None or clip.run_id == query.run_id)
        and (query.task_id is None or clip.task_id == query.task_id)
        and (query.map_index is None or clip.map_index in (None, query.map_index))
    )


def matches_text(clip: Clip, words: Sequence[str]) -> bool:
    """Return whether every word occurs in one of the texts of a clip."""
    if not words:
        return True
    fields = (clip.name, clip.request_id, clip.run_id, clip.task_id, clip.dag_id, clip.reason, clip.archive_uri)
    text = " ".join(field for field in (*fields, clip.source_uri, clip.fingerprint) if field).lower()
    return all(word in text for word in words)


def select(clips: Iterable[Clip], query: ClipQuery, now: float) -> dict[str, Any]:
    """
    Return one page of clips, newest first, with the totals of all that are in its scope.

    :param now: Unix seconds.
    """
    scope = [clip for clip in clips if in_scope(clip, query)]
    words = query.text.lower().split()
    matching = [
        clip for clip in scope if (not query.states or clip.state in query.states) and matches_text(clip, words)
    ]
    matching.sort(key=lambda clip: (-clip.started_at, clip.id))
    size = min(max(query.size, 1), MAX_PAGE_SIZE)
    pages = max(1, -(-len(matching) // size))
    page = min(max(query.page, 1), pages)
    return {
        "clips": [clip.as_dict(now) for clip in matching[(page - 1) * size : page * size]],
        "page": page,
        "pages": pages,
        "size": size,
        "matching": len(matching),
        "totals": totals(scope),
        "dags": _list_dags(scope),
    }


def _list_dags(clips: Iterable[Clip]) -> list[str]:
    return sorted({clip.dag_id for clip in clips if clip.dag_id})


def totals(clips: Iterable[Clip]) -> dict[str, Any]:
    """Return how many clips are in each state, and their money in US dollars."""
    states: dict[str, dict[str, float]] = defaultdict(lambda: {"clips": 0, "charged": 0.0, "estimate": 0.0})
    unpriced = 0
    for clip in clips:
        row = states[clip.state]
        row["clips"] += 1
        row["charged"] += clip.cost or 0.0
        row["estimate"] += clip.estimate or 0.0
        unpriced += clip.estimate is None
    return {
        "states": {state: dict(row) for state, row in sorted(states.items())},
        "clips": sum(int(row["clips"]) for row in states.values()),
        "charged": sum(row["charged"] for row in states.values()),
        "unpriced": unpriced,
    }


def spend(clips: Iterable[Clip], query: ClipQuery) -> dict[str, Any]:
    """Return the money by Dag, by day and by state, in US dollars, with the totals of all that are in the scope."""
    scope = [clip for clip in clips if in_scope(clip, query)]
    matching = [clip for clip in scope if not query.states or clip.state in query.states]
    return {
        "by_dag": _group(matching, lambda clip: clip.dag_id or "(no Dag)"),
        "by_day": _group(matching, lambda clip: clip.day),
        "by_state": _group(matching, lambda clip: clip.state),
        "totals": totals(scope),
        "dags": _list_dags(scope),
    }


_SUMS = ("clips", "estimate", "charged", "duplicates", "reused", "saved")


def _group(clips: Iterable[Clip], key: Callable[[Clip], str]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for clip in clips:
        name = key(clip)
        row = rows.setdefault(name, {"name": name, **dict.fromkeys(_SUMS, 0)})
        row["clips"] += 1
        row["estimate"] += (clip.estimate or 0.0) if clip.is_sent else 0.0
        row["charged"] += clip.cost or 0.0
        row["duplicates"] += len(clip.duplicates)
        row["reused"] += clip.reused
        row["saved"] += clip.reused * (clip.estimate or 0.0)
    return [rows[name] for name in sorted(rows)]


def prompt_and_parameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a clip's record says of how it was made."""
    parameters = record.get("parameters")
    names = ("model", "width", "height", "seconds", "size", "codec", "has_audio", "archived_at", "sha256")
    return {
        "parameters": dict(parameters) if isinstance(parameters, Mapping) else {},
        "video": {name: record[name] for name in names if name in record},
    }
