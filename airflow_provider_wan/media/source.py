# SPDX-License-Identifier: Apache-2.0
"""Reads the user's image and audio files from S3, other object storage, a disk or the web, up to a maximum size."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.api.network import FROM_ENVIRONMENT, NetworkSettings
from airflow_provider_wan.api.redaction import public_url
from airflow_provider_wan.media.fetch import CHUNK_BYTES, CONNECT_TIMEOUT, READ_TIMEOUT, break_off
from airflow_provider_wan.media.object_storage import ObjectStorage, is_object_uri, require_storage
from airflow_provider_wan.media.spool import SpooledContent
from airflow_provider_wan.s3.uri import is_s3_uri, parse_s3_uri, split_s3_uri

_SCHEMES = "must be s3://bucket/key, gs:// or abfs:// likewise, a local path, file:///path, or an http(s) URL"
_REMEDY = "Check the address and the permission to read it"
_LATER = "Retry or clear this task; if that does not help, check the connection to it"
#: Seconds for a whole file on the web, however slowly its host sends.
MAX_READ_SECONDS = 300.0
#: HTTP statuses after which a later request may succeed.
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


#: Characters of an address: beyond every key of an object store and every presigned URL.
MAX_ADDRESS = 4096
_MAX_EMBEDDED_NAME = 1000
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


class Origin(StrEnum):
    """Kind of location."""

    S3 = "s3"
    STORAGE = "storage"
    """Other object storage."""
    FILE = "file"
    WEB = "web"
    EMBEDDED = "embedded"
    """In the manifest itself."""


class SourceMissingError(FileNotFoundError):
    """There is nothing at the source, or it cannot be read at the moment."""


class SourceUnavailableError(SourceMissingError):
    """The source's store or host does not respond, or is overloaded; a later attempt may succeed."""


@dataclass(frozen=True)
class MediaSource:
    """Location of an image or audio file.

    :param text: path or URI as the user wrote it; it may contain a signature.
    :param origin: kind of location.
    :param content: the content, if it is in the manifest itself.
    """

    text: str
    origin: Origin
    content: bytes | SpooledContent | None = field(default=None, repr=False, compare=False)

    @classmethod
    def embed(cls, content: bytes, path: str) -> MediaSource:
        """Return a source whose content is given; its text has a hash of it, and so identifies it.

        :param content: the content.
        :param path: name of the file.
        """
        digest = hashlib.sha256(content).hexdigest()[:16]
        name = _SURROGATES.sub("\ufffd", _CONTROLS.sub("_", path))[-_MAX_EMBEDDED_NAME:]
        return cls(f"{name}#sha256={digest}", Origin.EMBEDDED, content)

    def spool(self) -> MediaSource:
        """Return the source with its content on the local disk, and not in memory."""
        return replace(self, content=SpooledContent(self.content)) if isinstance(self.content, bytes) else self

    @classmethod
    def parse(cls, text: object) -> MediaSource:
        """Parse a path or URI. White space around it is ignored.

        :param text: path or URI.
        :raises WanValidationError: if it is empty, too long or not an address, or has an unknown scheme.
        """
        if not isinstance(text, str) or not text.strip():
            raise WanValidationError("source", text, _SCHEMES)
        text = text.strip()
        _check_characters(text)
        scheme = match[1].lower() if (match := _SCHEME.match(text)) else ""
        if is_s3_uri(text):
            parse_s3_uri(text, "source")
            return cls(text, Origin.S3)
        if is_object_uri(text):
            return cls(text, Origin.STORAGE)
        if scheme in ("http", "https"):
            _check_url(text)
            return cls(text, Origin.WEB)
        if scheme in ("", "file"):
            return cls(text, Origin.FILE)
        raise WanValidationError("source", f"{scheme}://…", _SCHEMES, "Copy the file to one of them")

    @property
    def public_uri(self) -> str:
        """The path or URI for logs and results; a URL without its query string."""
        return public_url(self.text) if self.origin is Origin.WEB else self.text

    def read(
        self,
        s3: Callable[[], Any],
        max_bytes: int,
        field: str,
        remedy: str,
        network: NetworkSettings = FROM_ENVIRONMENT,
        storage: ObjectStorage | None = None,
    ) -> bytes:
        """Read the whole file.

        :param s3: returns a boto3 S3 client; called only if one is needed.
        :param max_bytes: maximum size. If the size is known beforehand, a larger file is not read at all.
        :param field: name of the argument, for an error about the size.
        :param remedy: remedy in that error.
        :param network: TLS, proxy and bypass, for a URL.
        :param storage: reads other object storage than S3.
        :raises SourceMissingError: if nothing can be read there.
        :raises SourceUnavailableError: if its store or host does not answer now.
        :raises WanValidationError: if the file is too large.
        """

        def check(size: int) -> None:
            if size > max_bytes:
                raise WanValidationError(
                    field, f"{self.public_uri}: {size} bytes", f"at most {max_bytes} bytes", remedy
                )

        match self.origin:
            case Origin.S3:
                return self._read_s3(s3(), check)
            case Origin.STORAGE:
                return self._read_storage(require_storage(storage, field, self.text), check)
            case Origin.FILE:
                return self._read_file(check)
            case Origin.WEB:
                return self._read_web(check, network)
            case Origin.EMBEDDED:
                content = self.content.read() if isinstance(self.content, SpooledContent) else self.content or b""
                check(len(content))
                return content

    def _read_s3(self, client: Any, check: Callable[[int], None]) -> bytes:
        from airflow_provider_wan.s3.errors import S3_ERRORS, S3ResponseError, get_error_code, get_http_status
        from airflow_provider_wan.s3.objects import open_object

        bucket, key = split_s3_uri(self.text)
        try:
            with open_object(client, bucket, key) as (body, headers):
                check(int(headers["ContentLength"]))
                return _read_chunks(iter(lambda: body.read(CHUNK_BYTES), b""), check)
        except S3_ERRORS as error:
            code = get_error_code(error) or type(error).__name__
            if not isinstance(error, S3ResponseError) or get_http_status(error) in _TRANSIENT:
                raise SourceUnavailableError(f"{self.public_uri} can't be read now: {code}. {_LATER}") from error
            raise SourceMissingError(f"{self.public_uri} can't be read: {code}. {_REMEDY}") from error

    def _read_storage(self, storage: ObjectStorage, check: Callable[[int], None]) -> bytes:
        try:
            check(storage.get_size(self.text))
            with storage.open(self.text) as file:
                return _read_chunks(iter(lambda: file.read(CHUNK_BYTES), b""), check)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceMissingError(f"{self.public_uri} can't be read: {reason}. {_REMEDY}") from error

    def _read_file(self, check: Callable[[int], None]) -> bytes:
        path = parse_local_path(self.text)
        try:
            with path.open("rb") as file:
                check(path.stat().st_size)
                return _read_chunks(iter(lambda: file.read(CHUNK_BYTES), b""), check)
        except OSError as error:
            raise SourceMissingError(f"{path} can't be read: {error.strerror}. {_REMEDY}") from error

    def _read_web(self, check: Callable[[int], None], network: NetworkSettings) -> bytes:
        import requests

        from airflow_provider_wan.media.web import WebError, is_web_page, open_url, suggest_direct_url

        until = time.time() + MAX_READ_SECONDS
        try:
            with (
                open_url(self.text, network, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response,
                break_off(response, until),
            ):
                if response.status_code in _TRANSIENT:
                    reason = f"HTTP {response.status_code}"
                    raise SourceUnavailableError(f"{self.public_uri} can't be read now: {reason}. {_LATER}")
                if response.status_code != 200:
                    raise SourceMissingError(f"{self.public_uri} can't be read: HTTP {response.status_code}. {_REMEDY}")
                length = response.headers.get("Content-Length", "")
                check(int(length) if length.isdigit() else 0)
                data = _read_chunks(response.iter_content(CHUNK_BYTES), check)
                if time.time() >= until:
                    raise requests.Timeout
                if is_web_page(data, response.headers.get("Content-Type", "")):
                    rule, remedy = "is a web page, and not a file", suggest_direct_url(response.url)
                    raise WanValidationError("source", self.public_uri, rule, remedy)
                return data
        except WebError as error:
            raise SourceMissingError(str(error)) from None
        except requests.RequestException as error:
            # Its own text contains the URL with the query string.
            fault = f"broke off: {type(error).__name__}"
            if time.time() >= until:
                fault = f"takes longer than {MAX_READ_SECONDS:.0f} s"
            raise SourceUnavailableError(f"{self.public_uri} {fault}. {_LATER}") from None


def _check_characters(text: str) -> None:
    """Refuse text that can't be an address, before anything else is done with it."""
    shortened = text[:MAX_ADDRESS]
    if text[:5].lower() == "data:":
        remedy = "Store the image as a file, or as bytes in a column of a Parquet file"
        raise WanValidationError("source", shortened, "must be an address, and not the file itself", remedy)
    if len(text) > MAX_ADDRESS:
        rule = f"must have at most {MAX_ADDRESS} characters, and has {len(text)}"
        raise WanValidationError("source", shortened, rule, "Check that it is an address, or store the file elsewhere")
    if _CONTROLS.search(text):
        remedy = "Remove them, or rename the file"
        raise WanValidationError("source", text, "must not have line breaks or other control characters", remedy)
    if _SURROGATES.search(text):
        raise WanValidationError("source", text, "must be text in UTF-8", "Rename the file")


def _check_url(text: str) -> None:
    """Refuse a URL whose host or port no client can use."""
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # one that is not a number up to 65535 fails now
        (parts.hostname or "").encode("idna")
        reason = "" if parts.hostname else "it names no host"
    except ValueError as error:
        reason = str(error.__cause__ or error)
    if reason:
        raise WanValidationError("source", text, f"must be a URL that can be parsed: {reason}", "Correct host and port")


def parse_local_path(text: str) -> Path:
    """Return the path of a file. In a ``file://`` URI, ``%23`` is ``#``, unless there is a file of that very name.

    :param text: path or ``file://`` URI.
    """
    if not text.lower().startswith("file://"):
        return Path(text)
    path = f"/{text[7:].partition('/')[2]}"
    return Path(path if os.path.exists(path) else unquote(path))


def shorten_address(text: str, max_length: int = 200) -> str:
    """Return an address for labels and logs: one line, with an ellipsis in its middle if it is long.

    :param text: path or URI.
    :param max_length: number of characters to keep.
    """
    line = " ".join(_CONTROLS.sub(" ", text).split())
    if len(line) <= max_length:
        return line
    end = max_length // 2
    return f"{line[: max_length - end - 1]}…{line[-end:]}"


def _read_chunks(chunks: Iterable[bytes], check: Callable[[int], None]) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        check(len(data))
    return bytes(data)
