# SPDX-License-Identifier: Apache-2.0
"""How a batch may end otherwise than well. What was archived stays archived, and the next try goes on from there."""

from __future__ import annotations

from airflow_provider_wan.api.errors import WanError


class WanBatchError(WanError):
    """
    A batch is not complete.

    :param message: what happened, and what to do.
    :param helps: whether another try of the same would come further.
    """

    def __init__(self, message: str, helps: bool) -> None:
        self.helps = helps
        super().__init__(message)

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        return self.helps

    def __reduce__(self) -> tuple[type[WanBatchError], tuple[str, bool]]:
        return type(self), (str(self), self.helps)
