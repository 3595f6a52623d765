# SPDX-License-Identifier: Apache-2.0
"""An image or audio as a task names it: a URL, or the result of its ingest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError

# What a presigned URL must still live at the submission, for the service to fetch it.
MIN_URL_SECONDS = 300.0


@dataclass(frozen=True)
class MediaRef:
    """
    What the API is to fetch.

    :param field: the argument that named it.
    :param url: where it lies; not checked here.
    :param sha256: of the original's bytes, where its ingest told: what fitting makes of them may change with
        the version of a library, and is still the same image.
    :param expires_at: Unix seconds at which the URL dies, where its ingest told.
    """

    field: str
    url: Any
    sha256: str | None = None
    expires_at: float | None = None

    @classmethod
    def parse(cls, field: str, value: Any) -> MediaRef:
        """
        Read an argument.

        :raises WanValidationError: for a mapping that is no result of an ingest.
        """
        if not isinstance(value, Mapping):
            return cls(field, value)
        if not isinstance(value.get("url"), str):
            raise WanValidationError(field, sorted(map(str, value)), "must be a URL, or the result of S3ToWanOperator")
        return cls(field, value["url"], value.get("source_sha256") or value.get("sha256"), value.get("expires_at"))

    def warn_if_ambiguous(self, log: Any) -> None:
        """Warn where a file is told apart from others by a query string, in which signatures have to be guessed."""
        if self.sha256 is None and isinstance(self.url, str) and "?" in self.url:
            log.warning(
                "%s has a query string and no sha256: URLs that differ only in parameters that look like signatures "
                "(such as token or expires) name the same clip, and all others another one. S3ToWanOperator gives a "
                "sha256, which tells files apart by their content.",
                self.field,
            )

    def validate_lifetime(self) -> None:
        """
        Refuse a URL that the service could no longer fetch. It matters only where it is about to be paid.

        :raises WanValidationError: where less than 5 minutes are left.
        """
        if self.expires_at is None:
            return
        left = self.expires_at - time.time()
        if left < MIN_URL_SECONDS:
            raise WanValidationError(
                self.field,
                f"expires in {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago",
                f"the presigned URL must live for {MIN_URL_SECONDS:.0f} s more for the service to fetch it",
                "Clear the ingest task too: it gives a fresh one, and what was paid for is found again",
            )
