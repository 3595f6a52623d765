# SPDX-License-Identifier: Apache-2.0
"""Errors of a batch. Archived clips stay archived, and the next attempt continues from there."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_wan.api.errors import Paid, Retry, WanError, WanValidationError


class WanBatchError(WanError):
    """A batch is incomplete.

    :param message: what happened, and what to do.
    :param can_progress: whether a retry can make progress.
    """

    paid: ClassVar[Paid] = Paid.MAYBE

    def __init__(self, message: str, can_progress: bool) -> None:
        self.can_progress = can_progress
        self.retry = Retry.RESUME if can_progress else Retry.NEVER
        super().__init__(message)

    def __reduce__(self) -> tuple[type[WanBatchError], tuple[str, bool]]:
        return type(self), (str(self), self.can_progress)


class CheckpointError(WanBatchError):
    """The checkpoint of a batch cannot be read: another version wrote it, or it is damaged.

    :param uri: where the checkpoint is stored.
    :param reason: what is wrong with it.
    """

    paid = Paid.NO

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = uri
        self.reason = reason
        super().__init__(
            f"The checkpoint {uri} {reason}. Nothing was paid. Finish the batch with the version that wrote it; or "
            "delete the checkpoint and clear the task: clips that the ledger knows are not paid for again, and what "
            "was spent counts towards max_cost all the same.",
            False,
        )

    def __reduce__(self) -> tuple[type[CheckpointError], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.uri, self.reason)


class EmptyManifestError(WanValidationError):
    """A file of rows has no content; in a folder, it is skipped."""

    def __init__(
        self, field: str = "manifest", value: object = "the file", rule: str = "is empty", remedy: str = ""
    ) -> None:
        super().__init__(field, value, rule, remedy)
