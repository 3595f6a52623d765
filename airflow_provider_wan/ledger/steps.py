# SPDX-License-Identifier: Apache-2.0
"""What a step of a submission comes to, where it is not the clip."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_wan.api.errors import WanError
from airflow_provider_wan.ledger.entry import LedgerEntry
from airflow_provider_wan.ledger.store import Versioned


class Why(StrEnum):
    """Why a clip can't be had now."""

    REFUSED = "refused for now"
    CLAIMED = "claimed by another task"
    DOUBT = "in doubt"


@dataclass(frozen=True)
class Later:
    """
    Nothing more can be done now: look again after a while.

    :param why: ``REFUSED``: a 429, a 503 or no connection, so nothing was accepted. ``CLAIMED``: somebody else
        is about to pay. ``DOUBT``: an answer was lost, the API's list does not show the request, and a second look
        will prove that it was not accepted.
    :param wait: seconds.
    :param entry: what the ledger holds.
    :param error: what the API said, for ``REFUSED``.
    """

    why: Why
    wait: float
    entry: LedgerEntry
    error: WanError | None = None


@dataclass
class Pending:
    """
    A claim of ours that the API has refused for now.

    :param current: the claim as this process wrote it.
    :param tries: how many refusals there were.
    :param until: Unix seconds of the next try.
    """

    current: Versioned
    tries: int
    until: float


def since(memory: dict[str, tuple[str, float]], held: Versioned, now: float) -> float:
    """Return since when this process knows this version of an entry."""
    version, moment = memory.get(held.entry.fingerprint, ("", now))
    if version != held.version:
        memory[held.entry.fingerprint] = (held.version, moment := now)
    return moment
