# SPDX-License-Identifier: Apache-2.0
"""Presigned URLs: how long they live in truth, and whether they work."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.redaction import public_url

DEFAULT_LIFETIME = 6 * 3600
MAX_LIFETIME = 7 * 24 * 3600  # of a signature of version 4
_MIN_LIFETIME = 60
_PROBE_TIMEOUT = 10.0  # seconds, for the connection and for the response
_MIN_LEFT = 900  # below this, shortened credentials are of no use
_REMEDY = (
    'Lower expires_in, deliver by delivery="upload", or give the AWS connection credentials that live longer '
    "(a role's session may last up to 12 h)"
)


class PresignError(RuntimeError):
    """The URL that was signed does not lead to the object."""


@dataclass(frozen=True)
class PresignedUrl:
    """A URL that whoever holds it can read the object with.

    :param url: a secret of a kind; not in representations.
    :param expires_at: Unix seconds.
    :param shortened: whether the credentials die before the lifetime that was wished for.
    """

    url: str = field(repr=False)
    expires_at: int
    shortened: bool


def validate_lifetime(seconds: float | None) -> None:
    """
    :param seconds: the lifetime asked for; ``None`` for the default.
    :raises WanValidationError: when no signature may live that long, or that short.
    """
    if seconds is not None and not _MIN_LIFETIME <= seconds <= MAX_LIFETIME:
        raise WanValidationError("expires_in", seconds, f"must be {_MIN_LIFETIME} s to 7 days ({MAX_LIFETIME} s)")


def presign(client: Any, bucket: str, key: str, *, content_type: str, lifetime: int | None) -> PresignedUrl:
    """Sign a GET of an object.

    A signature dies with the credentials that made it. Where a lifetime is asked for, that is an error; the default one
    is shortened to theirs.

    :param client: a boto3 S3 client that signs with version 4.
    :param bucket: of the object; ``key`` likewise.
    :param content_type: what S3 shall answer with, whatever the object itself says.
    :param lifetime: seconds; ``None`` for six hours, or as long as the credentials live.
    :raises WanValidationError: when the credentials die too early.
    """
    now = datetime.now(UTC).timestamp()
    wanted = DEFAULT_LIFETIME if lifetime is None else lifetime
    left = _credentials_left(client, now)
    shortened = left is not None and left < wanted
    if left is not None and shortened and (lifetime is not None or left < _MIN_LEFT):
        rule = f"the AWS credentials die in {max(left, 0):.0f} s, and the presigned URL with them"
        raise WanValidationError("expires_in", wanted, rule, _REMEDY)
    seconds = int(left) if left is not None and shortened else wanted
    url = client.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": key, "ResponseContentType": content_type},
        ExpiresIn=seconds,
    )
    if not url:
        raise PresignError(f"No URL could be signed for s3://{bucket}/{key}: has the AWS connection credentials?")
    return PresignedUrl(url, int(now) + seconds, shortened)


def probe_url(url: str, size: int) -> None:
    """Fetch one byte through a presigned URL, as the API will: a wrong region or clock shows here, and costs nothing.

    :param url: the URL.
    :param size: bytes that the object has.
    :raises PresignError: when it does not lead to an object of that size.
    """
    import requests

    shown = public_url(url)
    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # else requests would look into ~/.netrc
            with session.get(url, headers={"Range": "bytes=0-0"}, timeout=_PROBE_TIMEOUT, stream=True) as answer:
                status, span = answer.status_code, answer.headers.get("Content-Range", "")
    except requests.RequestException as error:
        raise PresignError(f"The presigned URL of {shown} can't be fetched ({type(error).__name__})") from None
    if status not in (200, 206):
        raise PresignError(
            f"The presigned URL of {shown} answers {status}: check region, clock and rights of the AWS connection"
        )
    if span and not span.endswith(f"/{size}"):
        raise PresignError(f"{shown} has changed since it was checked")


def _credentials_left(client: Any, now: float) -> float | None:
    """Seconds for which the client's credentials live; ``None`` when they don't expire, or don't tell."""
    signer = getattr(client, "_request_signer", None)  # boto3 has no public way to the credentials in use
    credentials = getattr(signer, "_credentials", None)
    if credentials is None:
        return None
    credentials.get_frozen_credentials()  # renews those that are about to expire
    expiry = getattr(credentials, "_expiry_time", None)
    return expiry.timestamp() - now if isinstance(expiry, datetime) else None
