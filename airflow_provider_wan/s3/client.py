# SPDX-License-Identifier: Apache-2.0
"""Configuration of S3 clients."""

from __future__ import annotations

from botocore.config import Config


def build_signing_config(given: Config | None = None, *, max_connections: int = 10) -> Config:
    """Return a configuration of a client that signs with version 4, as KMS and the newer regions require.

    :param given: configuration of the connection, which it extends.
    :param max_connections: maximum number of connections that the client keeps open.
    """
    config = Config(signature_version="s3v4", max_pool_connections=max_connections)
    return config if given is None else given.merge(config)
