# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs: their real lifetime, and whether they work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.network import NetworkSettings, call_within, describe_connection_error
from airflow_provider_wan.api.redaction import public_url

DEFAULT_LIFETIME = 6 * 3600
MAX_LIFETIME = 7 * 24 * 3600  # of a signature of version 4
_MIN_LIFETIME = 60
_PROBE_TIMEOUT = 10.0  # seconds, for the connection and for the response
_MIN_SHORTENED = 900  # seconds: a default lifetime is not shortened below this
_REMEDY = (
    'Lower expires_in, deliver by delivery="upload", or give the AWS connection credentials that live longer '
    "(a role's session may last up to 12 h)"
)


class PresignError(RuntimeError):
    """A presigned URL does not lead to the object."""


@dataclass(frozen=True)
class PresignedUrl:
    """A URL with which anyone can read the object.

    :param url: the URL; a secret, and so not in representations.
    :param expires_at: Unix seconds.
    :param shortened: whether the credentials expire before the default lifetime.
    """

    url: str = field(repr=False)
    expires_at: int
    shortened: bool


def validate_lifetime(seconds: float | None) -> None:
    """Validate a lifetime.

    :param seconds: the lifetime; None for the default.
    :raises WanValidationError: if a signature cannot have that lifetime.
    """
    if seconds is not None and not _MIN_LIFETIME <= seconds <= MAX_LIFETIME:
        raise WanValidationError("expires_in", seconds, f"must be {_MIN_LIFETIME} s to 7 days ({MAX_LIFETIME} s)")


def presign(client: Any, bucket: str, key: str, *, content_type: str, lifetime: int | None) -> PresignedUrl:
    """Sign a GET of an object.

    A signature expires with the credentials that made it. If they expire before a given lifetime, that is an error;
    the default lifetime is shortened to theirs.

    :param client: a boto3 S3 client that signs with version 4.
    :param bucket: bucket of the object.
    :param key: its key.
    :param content_type: content type of the response, whatever that of the object is.
    :param lifetime: seconds; None for six hours, or as long as the credentials are valid.
    :raises WanValidationError: if the credentials expire too early.
    :raises PresignError: if the connection has no credentials.
    """
    now = datetime.now(UTC).timestamp()
    wanted = DEFAULT_LIFETIME if lifetime is None else lifetime
    remaining = _get_credentials_lifetime(client, now)
    shortened = remaining is not None and remaining < wanted
    if remaining is not None and shortened and (lifetime is not None or remaining < _MIN_SHORTENED):
        rule = f"the AWS credentials, and with them the presigned URL, expire in {max(remaining, 0):.0f} s"
        raise WanValidationError("expires_in", wanted, rule, _REMEDY)
    seconds = int(remaining) if remaining is not None and shortened else wanted
    url = client.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": key, "ResponseContentType": content_type},
        ExpiresIn=seconds,
    )
    if not url:
        raise PresignError(
            f"No URL could be signed for s3://{bucket}/{key}. Check that the AWS connection has credentials."
        )
    return PresignedUrl(url, int(now) + seconds, shortened)


def probe_url(url: str, size: int, network: NetworkSettings) -> None:
    """Fetch one byte through a presigned URL, as the API will, to find a wrong region or clock before it costs money.

    :param url: the URL.
    :param size: size of the object in bytes.
    :param network: TLS, proxy and bypass. A client certificate is for the API only, and is not presented.
    :raises PresignError: if the URL does not lead to an object of that size.
    """
    import requests

    display_url = public_url(url)
    try:
        with (
            replace(network, client_cert=None, client_key=None).open_session(url) as session,
            call_within(
                lambda: session.get(url, headers={"Range": "bytes=0-0"}, timeout=_PROBE_TIMEOUT, stream=True),
                2 * _PROBE_TIMEOUT,
            ) as response,
        ):
            status, content_range = response.status_code, response.headers.get("Content-Range", "")
    except WanValidationError:
        raise
    except (requests.RequestException, TimeoutError, ValueError) as error:
        reason = describe_connection_error(error)
        raise PresignError(f"The presigned URL of {display_url} can't be fetched ({reason})") from None
    if status not in (200, 206):
        raise PresignError(
            f"The presigned URL of {display_url} answers {status}: check region, clock and rights of the AWS connection"
        )
    if content_range and not content_range.endswith(f"/{size}"):
        raise PresignError(f"{display_url} has changed since it was checked. Clear this task to ingest it again.")


def _get_credentials_lifetime(client: Any, now: float) -> float | None:
    """Return the seconds until the client's credentials expire; None if they do not, or if that is unknown."""
    signer = getattr(client, "_request_signer", None)  # boto3 has no public way to the credentials in use
    credentials = getattr(signer, "_credentials", None)
    if credentials is None:
        return None
    credentials.get_frozen_credentials()  # renews credentials that are about to expire
    expiry = getattr(credentials, "_expiry_time", None)
    return expiry.timestamp() - now if isinstance(expiry, datetime) else None
