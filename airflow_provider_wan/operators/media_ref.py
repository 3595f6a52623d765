# SPDX-License-Identifier: Apache-2.0
"""A reference to an image or audio file: its URL, or the result of its ingest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError

# For how long a presigned URL must still be valid at the submission, so that the service can fetch it.
MIN_URL_SECONDS = 300.0


@dataclass(frozen=True)
class MediaRef:
    """The file that the API is to fetch.

    :param field: argument that refers to it.
    :param url: its URL; not validated here.
    :param sha256: hash of the original's bytes, if an ingest reported it. The bytes after fitting depend on a
        library's version, and still show the same image.
    :param expires_at: Unix seconds at which the URL expires, if an ingest reported it.
    :param source_uri: URI of the file, for people.
    """

    field: str
    url: Any
    sha256: str | None = None
    expires_at: float | None = None
    source_uri: str | None = None

    @classmethod
    def parse(cls, field: str, value: Any) -> MediaRef:
        """Parse an argument.

        :param field: name of the argument.
        :param value: a URL, or the result of an ingest.
        :raises WanValidationError: if the value is a mapping that is not the result of an ingest.
        """
        if not isinstance(value, Mapping):
            return cls(field, value, source_uri=value if isinstance(value, str) else None)
        if not isinstance(value.get("url"), str):
            raise WanValidationError(field, sorted(map(str, value)), "must be a URL, or the result of S3ToWanOperator")
        return cls(
            field,
            value["url"],
            value.get("source_sha256") or value.get("sha256"),
            value.get("expires_at"),
            value.get("uri"),
        )

    @property
    def is_unread_url(self) -> bool:
        """Whether it is a URL whose content no ingest has read and validated."""
        return self.sha256 is None and isinstance(self.url, str)

    def warn_if_ambiguous(self, log: Any) -> None:
        """Warn if only a query string identifies the file, in which signatures have to be guessed.

        :param log: the task's logger.
        """
        if self.sha256 is None and isinstance(self.url, str) and "?" in self.url:
            log.warning(
                "%s has a query string and no sha256: URLs that differ only in parameters that look like signatures "
                "(such as token or expires) name the same clip, and all others another one. S3ToWanOperator gives a "
                "sha256, which tells files apart by their content.",
                self.field,
            )

    def validate_lifetime(self) -> None:
        """Refuse a URL that the service may not be able to fetch any more.

        :raises WanValidationError: if it expires in less than 5 minutes.
        """
        if self.expires_at is None:
            return
        left = self.expires_at - time.time()
        if left < MIN_URL_SECONDS:
            raise WanValidationError(
                self.field,
                f"expires in {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago",
                f"the presigned URL must be valid for {MIN_URL_SECONDS:.0f} s more for the service to fetch it",
                "Clear the ingest task too: it gives a fresh one, and what was paid for is found again",
            )
