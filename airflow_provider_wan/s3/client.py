# SPDX-License-Identifier: Apache-2.0
"""Configuration of S3 clients, and the options of everything that they write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from botocore.config import Config

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import public_url
from airflow_provider_wan.s3.errors import ENDPOINT_REMEDY, S3ProtocolError

#: Options that a store may ask for with every object that is written.
WRITE_OPTIONS = (
    "ACL",
    "BucketKeyEnabled",
    "ChecksumAlgorithm",
    "SSEKMSEncryptionContext",
    "SSEKMSKeyId",
    "ServerSideEncryption",
    "StorageClass",
    "Tagging",
)
_ENCRYPTION_OPTIONS = frozenset({"BucketKeyEnabled", "SSEKMSEncryptionContext", "SSEKMSKeyId"})
_WRITES = ("PutObject", "CreateMultipartUpload", "CopyObject")


def build_signing_config(
    given: Config | None = None, *, max_connections: int = 10, timeout: float | None = None
) -> Config:
    """Return a configuration of a client that signs with version 4, as KMS and the newer regions require.

    :param given: configuration of the connection, which it extends.
    :param max_connections: maximum number of connections that the client keeps open.
    :param timeout: seconds for a connection and for each read, which are tried twice; None for the connection's.
    """
    config = Config(signature_version="s3v4", max_pool_connections=max_connections)
    if timeout is not None:
        retries = {"mode": "standard", "total_max_attempts": 2}
        config = config.merge(Config(connect_timeout=timeout, read_timeout=timeout, retries=retries))
    return config if given is None else given.merge(config)


def build_checksum_config(given: Config | None, endpoint_url: str | None) -> Config | None:
    """Return a configuration that sends checksums only where they are required, for other stores than AWS.

    Many of them do not know the checksums that boto3 adds to each request by default.

    :param given: configuration of the connection; what it says of checksums is kept.
    :param endpoint_url: address of the store; None for AWS.
    """
    if is_aws_endpoint(endpoint_url):
        return given
    default = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    return default if given is None else default.merge(given)


def is_aws_endpoint(endpoint_url: str | None) -> bool:
    """Return whether an address is one of AWS.

    :param endpoint_url: the address; None for the default one.
    """
    host = urlsplit(endpoint_url or "").hostname or ""
    return not host or host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"))


def parse_write_options(value: object, name: str) -> dict[str, Any]:
    """Return the options of all writes.

    :param value: an object with names of :data:`WRITE_OPTIONS`; ``Tagging`` may be an object. None for no options.
    :param name: where they are set, for the error.
    :raises WanValidationError: if it is not such an object.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or (unknown := set(map(str, value)) - set(WRITE_OPTIONS)):
        printed = sorted(unknown) if isinstance(value, Mapping) else type(value).__name__
        raise WanValidationError(name, printed, f"must be an object with some of {', '.join(WRITE_OPTIONS)}")
    options = dict(value)
    if isinstance(tags := options.get("Tagging"), Mapping):
        options["Tagging"] = urlencode({str(name): str(tag) for name, tag in tags.items()})
    return options


def merge_write_options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of several places, of which each has the last word over those before it.

    A place that names an encryption takes the key and the context of the places before it out: they belong to theirs.

    :param layers: from :func:`parse_write_options`.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        if "ServerSideEncryption" in layer:
            merged = {name: value for name, value in merged.items() if name not in _ENCRYPTION_OPTIONS}
        merged |= layer
    return merged


def refuse_redirects(client: Any) -> None:
    """Make a client fail on a redirect that names no region, as that of a login page or from http to https.

    botocore asks for the bucket's region then, is redirected again, and goes on until Python's stack is full.

    :param client: a boto3 S3 client.
    """

    def check(response_dict: dict[str, Any], **_: Any) -> None:
        headers = response_dict["headers"]
        if response_dict["status_code"] in (301, 302, 307) and "x-amz-bucket-region" not in headers:
            target = public_url(headers.get("location", ""))
            raise S3ProtocolError(
                reason=f"a redirect{' to ' if target else ''}{target}, which names no region, is not followed: "
                + ENDPOINT_REMEDY
            )

    # That is how it asks.
    client.meta.events.register("before-parse.s3.HeadBucket", check)


def set_write_options(client: Any, options: Mapping[str, Any]) -> None:
    """Make a client send options with each object that it writes, whatever writes it.

    :param client: a boto3 S3 client.
    :param options: from :func:`parse_write_options`.
    """

    def add(params: dict[str, Any], **_: Any) -> None:
        for name, value in options.items():
            params.setdefault(name, value)

    def add_checksum(params: dict[str, Any], **_: Any) -> None:
        params.setdefault("ChecksumAlgorithm", options["ChecksumAlgorithm"])

    for operation in _WRITES if options else ():
        client.meta.events.register(f"provide-client-params.s3.{operation}", add)
    if "ChecksumAlgorithm" in options:
        # S3 wants the checksum that an upload announces with each of its parts.
        client.meta.events.register("provide-client-params.s3.UploadPart", add_checksum)
