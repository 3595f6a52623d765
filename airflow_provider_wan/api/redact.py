# SPDX-License-Identifier: Apache-2.0
"""Takes what is secret out of texts that people read."""

from __future__ import annotations

import re

_QUERY = re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*", re.IGNORECASE)
_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#\"'<>@]*@", re.IGNORECASE)


def redact(text: str) -> str:
    """
    Take query strings, fragments, users and passwords out of the URLs in a text.

    A presigned URL opens its object for whoever reads it, and the API may repeat it in its reasons.
    """
    return _USER.sub(r"\1***@", _QUERY.sub(r"\1", text))
