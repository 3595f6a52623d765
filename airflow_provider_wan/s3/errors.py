# SPDX-License-Identifier: Apache-2.0
"""What the errors of boto3 mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

#: S3 has responded with an error.
S3ResponseError = ClientError
#: What a call of an S3 client can raise. Reading a body can raise :class:`OSError`, too.
S3_ERRORS = (BotoCoreError, ClientError)

ENDPOINT_REMEDY = (
    "check the endpoint_url of the AWS connection, and whether a proxy or a login page answers in its place"
)


class S3ProtocolError(BotoCoreError):
    """A response that S3 does not give: that of something before it, or of a server that lacks a part of S3.

    :param reason: what is wrong with the response, and what to do about it.
    """

    fmt = "{reason}"


_SESSION_ENDED = (
    "The session of the credentials has ended: renew them, or give the AWS connection a role, which boto3 renews"
)
_CREDENTIAL_REMEDIES = {
    "RequestTimeTooSkewed": "Correct the clock of this machine",
    "SignatureDoesNotMatch": "Correct the secret key of the AWS connection, or the proxy that changes requests",
    "InvalidAccessKeyId": "Correct the access key of the AWS connection, and its endpoint_url",
    "ExpiredToken": _SESSION_ENDED,
    "ExpiredTokenException": _SESSION_ENDED,
    "InvalidToken": _SESSION_ENDED,
    "TokenRefreshRequired": _SESSION_ENDED,
}
_NOT_FOUND = ("404", "NoSuchKey", "NotFound")  # the first is that of a HEAD, whose response has no body


def get_error_code(error: Exception) -> str:
    """Return the error code of S3; empty if S3 did not respond.

    :param error: what a call raised.
    """
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def get_http_status(error: Exception) -> int:
    """Return the HTTP status of the response; 0 if S3 did not respond.

    :param error: what a call raised.
    """
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def read_field(response: Mapping[str, Any], name: str) -> str:
    """Return a field that every response of S3 to a request of this kind has.

    :param response: response to a request, as boto3 describes it.
    :param name: name of the field.
    :raises S3ProtocolError: if it is not there.
    """
    if not (value := response.get(name)):
        raise S3ProtocolError(reason=f"a response without {name} is none of S3: {ENDPOINT_REMEDY}")
    return str(value)


def is_not_found(error: Exception) -> bool:
    """Return whether there is no such object.

    :param error: what a call raised.
    """
    return get_error_code(error) in _NOT_FOUND


def may_be_absent(error: Exception) -> bool:
    """Return whether there is no such object, or S3 does not say so because the credentials may not list the bucket.

    :param error: what a read raised.
    """
    return is_not_found(error) or get_error_code(error) in ("403", "AccessDenied")


def find_credential_remedy(error: Exception) -> str:
    """Return what to do if the credentials themselves are not accepted; empty if that is not the cause.

    :param error: what a call raised.
    """
    return _CREDENTIAL_REMEDIES.get(get_error_code(error), "")


def describe_s3_error(error: Exception, uri: str) -> str:
    """Return what happened at a location in S3, and what to do about it.

    :param error: what a call of an S3 client raised.
    :param uri: the location.
    """
    if isinstance(error, S3ProtocolError):
        return f"S3 at {uri}: {error}"
    code = get_error_code(error)
    operation = f"{error.operation_name} " if isinstance(error, ClientError) else ""
    text = f"S3 refuses {operation}at {uri}: {code}" if code else f"S3 at {uri}: {type(error).__name__}"
    if remedy := find_credential_remedy(error):
        return f"{text}. {remedy}"
    if get_http_status(error) == 403:
        reads = isinstance(error, ClientError) and error.operation_name in ("HeadObject", "GetObject")
        hint = (
            "s3:GetObject there, and s3:ListBucket on the bucket: without it, S3 does not tell an absent object from "
            "one that may not be read"
            if reads
            else "s3:GetObject and s3:PutObject there. If a policy of the bucket demands encryption, an ACL, tags or a "
            "storage class, set them as s3_options"
        )
        return f"{text}. Give the credentials {hint}"
    if code == "NoSuchBucket":
        return f"{text}. Create the bucket, or correct its name and the region of the AWS connection"
    if is_not_implemented(error):
        return f"{text}. The server does not know this feature: use one that does, or other s3_options"
    if code:
        return f"{text}. Check the AWS connection and s3_options"
    return f"{text}. Check the endpoint, the network and the credentials of the AWS connection"


def is_no_such_key(error: Exception) -> bool:
    """Return whether S3 itself says that there is no such object.

    Unlike :func:`is_not_found`, this is false for a 404 that may be that of a proxy.

    :param error: what a call other than a HEAD raised.
    """
    return get_error_code(error) == "NoSuchKey" and get_http_status(error) == 404


def is_precondition_failure(error: Exception) -> bool:
    """Return whether the condition of a write does not hold.

    :param error: what a call raised.
    """
    # 404: If-Match on an object that is gone. 409: AWS saw two conditional writes at the same moment.
    return get_http_status(error) in (409, 412) or is_no_such_key(error)


def is_not_implemented(error: Exception) -> bool:
    """Return whether the server does not know the feature that a request uses.

    :param error: what a call raised.
    """
    return get_http_status(error) == 501 or get_error_code(error) == "NotImplemented"
