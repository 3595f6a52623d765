# SPDX-License-Identifier: Apache-2.0
"""The protocol of object storage besides S3, from which images and manifests are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Protocol

from airflow_provider_wan.api.errors import WanValidationError

#: Schemes of URIs, with the provider package of Airflow that reads them.
SCHEMES = {
    "gs": "apache-airflow-providers-google",
    "gcs": "apache-airflow-providers-google",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "adl": "apache-airflow-providers-microsoft-azure",
}


def is_object_uri(value: object) -> bool:
    """Return whether a value is text that begins with a scheme of :data:`SCHEMES`.

    :param value: any value.
    """
    return isinstance(value, str) and "://" in value and value.partition("://")[0].lower() in SCHEMES


class ObjectStorage(Protocol):
    """Reads objects by their URIs. Every method raises ``OSError`` if there is no such object, or it can't be read."""

    def open(self, uri: str) -> IO[bytes]:
        """Open an object.

        :param uri: URI of the object.
        """

    def get_size(self, uri: str) -> int:
        """Return the size in bytes.

        :param uri: URI of the object.
        """

    def get_version(self, uri: str) -> str:
        """Return a text that changes with the content.

        :param uri: URI of the object.
        """

    def list_objects(self, uri: str) -> Iterator[tuple[str, str]]:
        """Yield the path below a folder, and the version, of each object, in the order of the paths.

        :param uri: URI of the folder, which ends in ``/``.
        """


def require_storage(storage: ObjectStorage | None, field: str, uri: str) -> ObjectStorage:
    """Return the storage.

    :param storage: the storage, or None if there is none.
    :param field: name of the argument, for the error.
    :param uri: the URI to read.
    :raises WanValidationError: if there is none.
    """
    if storage is None:
        raise WanValidationError(field, uri, "only S3, a disk and the web can be read here")
    return storage
