# SPDX-License-Identifier: Apache-2.0
"""Object storage besides S3, by Airflow's ``ObjectStoragePath``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.object_storage import SCHEMES

T = TypeVar("T")


class AirflowObjectStorage:
    """Reads URIs such as ``gs://bucket/key`` and ``gs://conn_id@bucket/key``, with the connections of the deployment.

    See :class:`~airflow_provider_wan.media.object_storage.ObjectStorage`.
    """

    def open(self, uri: str) -> IO[bytes]:
        """Open an object.

        :param uri: URI of the object.
        """
        opened: IO[bytes] = self._read(uri, lambda path: path.open("rb"))
        return opened

    def get_size(self, uri: str) -> int:
        """Return the size in bytes.

        :param uri: URI of the object.
        """
        return int(self._read(uri, lambda path: path.stat().st_size))

    def get_version(self, uri: str) -> str:
        """Return a text that changes with the content.

        :param uri: URI of the object.
        """
        return str(self._read(uri, lambda path: path.checksum()))

    def list_objects(self, uri: str) -> Iterator[tuple[str, str]]:
        """Yield the path below a folder, and the version, of each object, in the order of the paths.

        :param uri: URI of the folder, which ends in ``/``.
        """

        def find(path: Any) -> tuple[str, dict[str, dict[str, Any]]]:
            root = str(path.path).strip("/") + "/"
            return root, path.fs.find(root, detail=True)

        root, found = self._read(uri, find)
        for name in sorted(found):
            version = hashlib.sha256(repr(sorted(found[name].items(), key=str)).encode()).hexdigest()
            yield name.lstrip("/").removeprefix(root), version

    @staticmethod
    def _read(uri: str, read: Callable[[Any], T]) -> T:
        from airflow.sdk import ObjectStoragePath

        try:
            return read(ObjectStoragePath(uri))
        except (ValueError, ImportError) as error:
            scheme = uri.partition("://")[0].lower()
            remedy = f"pip install {SCHEMES[scheme]}, with what it needs to read {scheme}://"
            raise WanValidationError("uri", uri, str(error)[:200], remedy) from None
        except OSError:
            raise
        except Exception as error:  # the libraries of the stores raise errors of their own
            raise OSError(None, f"{type(error).__name__}") from error
