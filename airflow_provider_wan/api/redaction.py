# SPDX-License-Identifier: Apache-2.0
"""The one place that removes secrets from text and URLs.

A presigned URL grants access to its object to whoever reads it, and the API may repeat one in an error message.
Therefore no query string, fragment, user name or password of a URL is stored, logged or raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_QUERY = re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*", re.IGNORECASE)
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#\"'<>@]*@", re.IGNORECASE)


def redact(text: str, max_length: int | None = None) -> str:
    """Remove query strings, fragments, user names and passwords from all URLs in a text.

    :param text: any text, such as an error message of the API.
    :param max_length: number of characters to keep after redaction; ``None`` keeps all.
    :returns: the redacted text.
    """
    return _USERINFO.sub(r"\1***@", _QUERY.sub(r"\1", clean_text(text)))[:max_length]


def clean_text(text: str, max_length: int | None = None) -> str:
    """Replace what no database, log or UTF-8 file takes: lone surrogates (half an emoji) and NUL.

    :param text: any text from outside.
    :param max_length: number of characters to keep; ``None`` keeps all.
    """
    return _UNENCODABLE.sub("\ufffd", text)[:max_length]


def redact_value(value: Any) -> Any:
    """Apply :func:`redact` to every string inside a JSON-like value; other values are returned unchanged."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(each) for each in value]
    return value


def strip_query(url: str) -> str:
    """Return a URL without its query string and fragment."""
    return url.split("?", 1)[0].split("#", 1)[0]


def public_url(url: str) -> str:
    """Return a URL without user name, password, query string and fragment, fit for logs and records."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def url_query(url: object) -> str | None:
    """Return what follows the first ``?`` of a URL, which callers mask in logs; ``None`` if there is no query."""
    if isinstance(url, str) and "?" in url:
        return url.split("?", 1)[1] or None
    return None
