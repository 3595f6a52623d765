# SPDX-License-Identifier: Apache-2.0
"""The one place that removes secrets from text and URLs.

A presigned URL grants access to its object to whoever reads it, and the API may repeat one in an error message.
Therefore no query string, fragment, user name or password of a URL is stored, logged or raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_QUERY = re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*", re.IGNORECASE)
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#\"'<>@]*@", re.IGNORECASE)

# Parameters of a URL that grant access, or say until when: they change with each signing of the same object.
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "x-ms-", "q-sign-", "q-key-", "response-")
_SIGNING_WORD = re.compile(
    r"signature|(^|[_-])sign$|token|hmac|credential|auth(?!or)|expir|nonce|secret|password|access_?key|access_?id"
    r"|key-pair|api_?key|^sig$|^hdne?[at]s?$|^__gda__$|^q-ak$"
)
# Names that others use for other things; they count only beside one of the above.
_WEAK_NAMES = frozenset({"timestamp", "ts", "exp", "e", "policy", "session", "q-header-list", "q-url-param-list"})
_AZURE_NAMES = frozenset(
    {"sv", "sr", "se", "st", "sp", "spr", "sip", "ss", "srt", "si", "sdd", "ses", "skoid", "sktid", "skt", "ske"}
    | {"sks", "skv", "saoid", "suoid", "scid", "rscc", "rscd", "rsce", "rscl", "rsct"}
)


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


def identity_url(url: str) -> str:
    """Return what identifies the object at a URL: the URL without what only grants access to it.

    Two signed URLs of one object are equal; ``?id=1`` and ``?id=2`` are not. The result may hold parameters that are
    nobody else's business, so it is only hashed or compared, and never stored or shown.

    :param url: http(s) URL.
    """
    base, query = strip_query(url), urlsplit(url).query
    try:
        pairs = parse_qsl(query, keep_blank_values=True)
    except ValueError:
        pairs = [("", query)]
    signs = {name for name, _ in pairs if _is_signing(name.lower())}
    weak = _WEAK_NAMES | _AZURE_NAMES if signs else frozenset()
    kept = sorted((name, value) for name, value in pairs if name not in signs and name.lower() not in weak)
    return f"{base}?{urlencode(kept, errors='surrogatepass')}" if kept else base


def _is_signing(name: str) -> bool:
    return name.startswith(_SIGNING_PREFIXES) or _SIGNING_WORD.search(name) is not None


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
