# SPDX-License-Identifier: Apache-2.0
"""The one place that removes secrets from text and URLs.

Text that comes from outside may repeat what was sent: the API key, the prompt, or a presigned URL, which grants access
to its object to whoever reads it. So text is redacted where it enters: no key, no registered prompt and no query
string, fragment, user name or password of a URL is stored, logged or raised. Escaped, URL-encoded and base64-encoded
repetitions are found as well.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus, urlencode, urlsplit, urlunsplit

# Each repetition has a limit: without one, a text of a peer's choice takes time that grows with its square.
_QUERY = re.compile(r"(https?://[^\s?#\"'<>]{1,2048}+)[?#][^\s\"'<>]*", re.IGNORECASE)
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#\"'<>@]{0,1024}+@", re.IGNORECASE)

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


MASK = "***"

# A repetition of a part of a secret is one if it has at least this many characters.
_MIN_KEY_RUN = 12
_MIN_PROMPT_RUN = 20
_MIN_PROMPT = 4
_QUOTATION_BEFORE, _QUOTATION_AFTER = r"(?<=[\"'`“‘«„])", r"(?=\\?[\"'`”’»“])"
_MAX_KEYS = 64
_MAX_PROMPTS = 4096
# What a text is cut to, beyond the characters that are kept, before secrets are searched for.
_MAX_EXCESS = 1024

_BEARER = re.compile(r"\b(bearer\s+)(?:(?=\S*\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{8,4096}+\.[\w-]+(?:\.[\w-]*)?")
# Without a scheme, only parameters that are known to sign are a query string.
_VALUE = r"[^\s&\"'<>(){},;|]{0,4096}+"
_PARAMETERS = re.compile(rf"[?&]?\b[\w.-]{{1,64}}={_VALUE}(?:&(?:amp;)?[\w.-]{{1,64}}={_VALUE})+")
_SIGNATURE = re.compile(
    r"(?P<name>[?&]?\b(?:x-(?:amz|goog|oss|cos|ms)-[\w-]{1,64}|signature|sig|(?:aws|oss|google)access(?:key)?id|key-pair-id"
    r"|access_token|auth_token|security-?token))(?P<is>[\"']?\s{0,8}[=:]\s{0,8}[\"']?)[^\s&\"'<>(){},;|]+",
    re.IGNORECASE,
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:0x)?(?<![0-9a-fA-F])(?:[0-9a-fA-F]{2}[:, -]?){11,}[0-9a-fA-F]{2}")
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([/\"'\\nrt]))"
)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}

_PROMPT_NAMES = frozenset({"prompt", "prompts", "negative_prompt", "text"})

_lock = threading.Lock()
_keys: OrderedDict[str, None] = OrderedDict()
_prompts: OrderedDict[str, None] = OrderedDict()


def register_secret(value: str) -> None:
    """Remember an API key of this process, to be removed from every text.

    :param value: the key.
    """
    _register(_keys, value, _MAX_KEYS)


def register_prompt(text: object) -> None:
    """Remember a prompt of this process, to be removed from every text; only the newest ones are retained.

    :param text: the prompt; texts of fewer than 4 characters reveal nothing and are ignored. One of a
        single word is removed only where it is quoted.
    """
    if isinstance(text, str) and len(text.strip()) >= _MIN_PROMPT:
        _register(_prompts, text.strip(), _MAX_PROMPTS)


def holds_key(text: str) -> bool:
    """Return whether a text has an API key of this process in it as it is; cheaper than :func:`redact`.

    :param text: any text.
    """
    with _lock:
        return any(key in text for key in _keys)


def redact(
    text: str, max_length: int | None = None, *, prompts: Iterable[object] = (), keep_prompts: bool = False
) -> str:
    """Remove keys, prompts and what grants access to a URL from a text.

    :param text: any text, such as an error message of the API.
    :param max_length: number of characters to keep after redaction; ``None`` keeps all.
    :param prompts: more prompts than the registered ones.
    :param keep_prompts: leave prompts in the text, for a record that is meant to hold them.
    :returns: the redacted text; without its escapes, if one of them has hidden a secret.
    """
    text = clean_text(text[: None if max_length is None else max_length + _MAX_EXCESS])
    with _lock:
        keys, known = tuple(_keys), list(_prompts)
    if keep_prompts:
        known, prompts = [], ()
    known += [each.strip() for each in prompts if isinstance(each, str) and len(each.strip()) >= _MIN_PROMPT]
    redacted = _redact_plain(text, keys, known)
    for unescaped in dict.fromkeys((_unescape(text, unquote), _unescape(text, unquote_plus))):
        if unescaped != text and (found := _redact_plain(unescaped, keys, known)) != unescaped:
            redacted = found
    return _redact_encoded(redacted, keys, known)[:max_length]


def _register(memory: OrderedDict[str, None], value: str, limit: int) -> None:
    with _lock:
        memory[value] = None
        memory.move_to_end(value)
        if len(memory) > limit:
            memory.popitem(last=False)


def _redact_plain(text: str, keys: Iterable[str], prompts: Iterable[str]) -> str:
    text = _USERINFO.sub(rf"\1{MASK}@", _QUERY.sub(r"\1", text))
    text = _PARAMETERS.sub(_redact_parameters, text)
    text = _SIGNATURE.sub(rf"\g<name>\g<is>{MASK}", text)
    for key in keys:
        text = _mask_shared(text, key, min(_MIN_KEY_RUN, len(key)))
    text = _JWT.sub(MASK, _BEARER.sub(rf"\1{MASK}", text))
    lowered = text.lower()
    for prompt in prompts:
        if len(prompt) < _MIN_PROMPT_RUN:
            if prompt.lower() not in lowered:
                continue
            # A reason may well have the word "fail" by itself. Only in quotes is it a repetition of the prompt.
            several_words = len(prompt.split()) > 1
            before, after = (r"(?<!\w)", r"(?!\w)") if several_words else (_QUOTATION_BEFORE, _QUOTATION_AFTER)
            text = re.sub(f"{before}{re.escape(prompt)}{after}", MASK, text, flags=re.IGNORECASE)
        else:
            text = _mask_shared(text, prompt, _MIN_PROMPT_RUN)
    return text


def _redact_parameters(match: re.Match[str]) -> str:
    names = re.findall(r"([\w.-]+)=", match[0])
    return MASK if any(_is_signing(name.lower()) for name in names) else match[0]


def _mask_shared(text: str, secret: str, min_run: int) -> str:
    """Replace every run of at least ``min_run`` characters that a text shares with a secret.

    Capitals and the width of white space do not matter.
    """
    folded, places = _fold(text)
    secret, _ = _fold(secret)
    min_run = min(min_run, len(secret))
    step = max(1, min_run // 2)
    if not any(folded[at : at + step] in secret for at in range(0, len(folded) - step + 1, step)):
        return text
    parts, at, copied = [], 0, 0
    while at <= len(folded) - min_run:
        if folded[at : at + min_run] not in secret:
            at += 1
            continue
        end = at + min_run
        while end < len(folded) and folded[at : end + 1] in secret:
            end += 1
        parts += [text[copied : places[at]], MASK]
        at, copied = end, places[end]
    return "".join(parts) + text[copied:]


def _fold(text: str) -> tuple[str, list[int]]:
    """Return a text in small letters with single spaces, and where each of its characters begins in the original."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isspace():
            if characters and characters[-1] == " ":
                continue
            character = " "
        small = character.lower()
        characters.append(small if len(small) == 1 else character)
        places.append(place)
    return "".join(characters), [*places, len(text)]


def _redact_encoded(text: str, keys: Iterable[str], prompts: Iterable[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        return MASK if _hides_secret(match[0], keys, prompts, 2) else match[0]

    return _HEX.sub(replace, _BASE64.sub(replace, text))


def _hides_secret(token: str, keys: Iterable[str], prompts: Iterable[str], depth: int) -> bool:
    """Return whether a run of characters is an encoding of a secret, also a repeated one."""
    for decoded in _decode(token):
        if _redact_plain(decoded, keys, prompts) != decoded:
            return True
        if depth > 1 and any(_hides_secret(each[0], keys, prompts, depth - 1) for each in _BASE64.finditer(decoded)):
            return True
    return False


def _decode(token: str) -> Iterable[str]:
    letters = token.rstrip("=").translate(str.maketrans("-_", "+/"))
    # What precedes the encoded part may be a part of the run.
    for offset in range(4):
        padded = letters[offset:]
        with contextlib.suppress(binascii.Error, ValueError):
            yield base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("utf-8", errors="replace")
    with contextlib.suppress(ValueError):
        yield bytes.fromhex(re.sub(r"[:, -]", "", token.removeprefix("0x"))).decode("utf-8", errors="replace")


def _unescape(text: str, unquote_text: Any) -> str:
    """Resolve the escapes of JSON, URLs and HTML, also inside each other."""
    for _ in range(3):
        before = text
        text = html.unescape(unquote_text(_ESCAPE.sub(_resolve, text)))
        if text == before:
            break
    return clean_text(text)


def _resolve(match: re.Match[str]) -> str:
    if digits := match[1] or match[2] or match[3] or match[4]:
        number = int(digits, 16)
        return chr(number) if number <= sys.maxunicode else match[0]
    if match[5]:
        return chr(int(match[5], 8))
    return _CONTROLS.get(match[6], match[6])


def clean_text(text: str, max_length: int | None = None) -> str:
    """Replace what no database, log or UTF-8 file takes: lone surrogates (half an emoji) and NUL.

    :param text: any text from outside.
    :param max_length: number of characters to keep; ``None`` keeps all.
    """
    return _UNENCODABLE.sub("\ufffd", text)[:max_length]


def is_clean(value: Any) -> bool:
    """Return whether a JSON-like value has no text that :func:`clean_text` would change.

    :param value: any value; only text is judged, in lists and mappings as well.
    """
    if isinstance(value, str):
        return _UNENCODABLE.search(value) is None
    if isinstance(value, Mapping):
        return all(is_clean(name) and is_clean(each) for name, each in value.items())
    return not isinstance(value, list | tuple) or all(map(is_clean, value))


def find_prompts(payload: object, depth: int = 5) -> tuple[str, ...]:
    """Return the texts of a payload under the names that prompts have, however deep they are.

    :param payload: a payload, or its echo.
    :param depth: levels to search.
    """
    if depth == 0:
        return ()
    if isinstance(payload, list | tuple):
        return tuple(text for each in payload for text in find_prompts(each, depth - 1))
    if not isinstance(payload, Mapping):
        return ()
    found: list[str] = []
    for name, value in payload.items():
        if str(name).lower() in _PROMPT_NAMES:
            values = value if isinstance(value, list | tuple) else [value]
            found += [each for each in values if isinstance(each, str)]
        found += find_prompts(value, depth - 1)
    return tuple(found)


def redact_value(value: Any) -> Any:
    """Apply :func:`redact` to every string inside a JSON-like value, except for prompts; other values stay as they are.

    It is for the record of a clip, which is meant to hold the prompt.
    """
    if isinstance(value, str):
        return redact(value, keep_prompts=True)
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
    retained = sorted((name, value) for name, value in pairs if name not in signs and name.lower() not in weak)
    return f"{base}?{urlencode(retained, errors='surrogatepass')}" if retained else base


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
