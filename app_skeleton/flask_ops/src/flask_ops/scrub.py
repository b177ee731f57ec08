"""Take secrets out of what leaves the process: log lines and error reports.

A secret is known by the name beside it (``password=…``, ``"api_key": "…"``, ``Cookie: …``), by its place (the
query of an address, the user part of one, the parameters of an SQL statement), or because the process read it
from a credential. A traceback's own source lines stay as they are: they hold names, not values.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

SCRUBBED = "[scrubbed]"

#: A name that ends in one of these belongs to a secret. ``_`` in it may be ``-``, a space or nothing in the
#: name; one of fewer than five letters must be a whole word of it.
NAMES = (
    *("authorization", "cookie", "cookies", "password", "passwords", "passwd", "passphrase", "pwd"),
    *("secret", "secrets", "token", "jwt", "session", "session_id", "csrf", "credential", "credentials"),
    *("api_key", "access_key", "secret_key", "private_key", "signing_key", "encryption_key", "dsn"),
    "query_string",
)
#: Their values go on to the end of the line.
_HEADERS = ("authorization", "cookie", "cookies")
#: Deeper than any event of Sentry's; a structure that holds itself ends here.
_DEEPEST = 30
#: A shorter secret would be found in words that are none.
_SHORTEST = 8

_ADDRESS = re.compile(r"""://[^\s"'<>]+""")
_USER = re.compile(r"[^/?#]*@|[^/:@?#]*:(?!\d+(?:/|$))[^@]*@")
_QUERY = re.compile(r"""(?:(/[^\s?/"'<>]*)\?|\?(?=[\w.%~+\[\]-]{1,100}=))(?:[^\s"'<>]|'(?![\s,)\]}:;]|$))+""")
_SQL_VALUES = re.compile(r"(\[parameters: |Failing row contains |Key \([^()\n]{0,500}\)=)[^\n]*")
_SCHEME = re.compile(
    r"""\b((?i:bearer)[ \t]{1,8}|(?i:basic)[ \t]{1,8}(?=[a-z]{0,500}[A-Z0-9+/=]))(?!\[)[^\s"',;]+"""
)
# What follows a secret's name, from `password = "x"` over `\"password\": \"x\"` to `('password', 'x')`.
_SEPARATOR = r"""(?P<quoted>\\{0,4}["'])?\]?[ \t]{0,8}(?:=>?|:|%3d|(?(quoted),|(?!)))[ \t]{0,8}"""
_PLAIN = r"\[scrubbed\]|(?:None|null|True|False|true|false)(?![\w-])"
_QUOTED = (
    r"""[bBuUrRfF]{0,2}(?:"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?"""
    r"""|(?P<mark>\\{1,8}["'])(?:(?!(?<!\\)(?P=mark))[^\n])*+(?:(?P=mark))?)"""
)
_VALUE = re.compile(rf"(?P<keep>{_PLAIN})|{_QUOTED}|[\[({{][^\r\n]*|-?\d[\d.]*(?=[,}}\])\s]|$)|[^\s&]+|")
_REST_OF_LINE = re.compile(rf"(?P<keep>{_PLAIN})|{_QUOTED}|[^\r\n]*")
_SOURCE = re.compile(
    r'(?m)^[ |+-]{0,80}File "[^"\n]*", line \d+(?:, in [^\n]*)?\n(?:[ |]{0,80}    [^\n]*\n?)*'
)

_names: re.Pattern[str]
_remembered: tuple[str, ...] = ()


def configure(more: Iterable[str] = ()) -> None:
    """Set which names belong to secrets.

    :param more: names beside :data:`NAMES`; read from ``FLASK_OPS_SCRUB_KEYS`` when this module is imported.
    """
    global _names, _words
    names = sorted({*NAMES, *filter(None, map(_plain_name, more))}, key=len, reverse=True)
    # No letter or digit before a short one. Said behind it: a pattern that begins with letters is quick.
    patterns = [
        name.replace("_", "[-_ ]?") + ("" if len(name) > 4 else f"(?<![a-z0-9]{name})") for name in names
    ]
    _names = re.compile(f"(?:{'|'.join(patterns)}){_SEPARATOR}")
    _is_secret_name.cache_clear()


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def remember(secret: str) -> None:
    """Scrub this very text wherever it stands from now on, with or without a telling name.

    :param secret: one that is known to be in this process; shorter than eight characters it is left alone.
    """
    global _remembered
    found = [secret]
    with suppress(ValueError):  # no address, then
        found.append(urlsplit(secret).password or "")
    forms = [
        form
        for one in found
        if len(one) >= _SHORTEST
        for form in (one, json.dumps(one)[1:-1], repr(one)[1:-1], quote(one, safe=""))
    ]
    # A new tuple, as another thread may be reading the old one; the longest first, as one may hold another.
    _remembered = tuple(sorted({*_remembered, *forms}, key=len, reverse=True))


def text(given: str) -> str:
    """Return a text without the secrets that can be told in it.

    Its time grows with its length and no faster, whatever a client has put there.
    """
    for secret in _remembered:
        if secret in given:
            given = given.replace(secret, SCRUBBED)
    if 'File "' not in given:
        return _words_of(given)
    parts, end = [], 0
    for source in _SOURCE.finditer(given):
        parts += [_words_of(given[end : source.start()]), source[0]]
        end = source.end()
    return "".join([*parts, _words_of(given[end:])])


def value(given: Any, key: object = None) -> Any:
    """Return a value without secrets: what stands under a secret's name, and in texts as :func:`text`.

    :param given: texts, numbers and the like, or a tree of dicts, lists and tuples of them. What is anything
        else comes back as it is.
    :param key: the name it stands under.
    """
    return _value(given, key, 0)


def is_secret_name(name: object) -> bool:
    """Return whether a value of this name is a secret."""
    return _is_secret_name(name) if isinstance(name, str) and len(name) < 200 else False


@lru_cache(1024)
def _is_secret_name(name: str) -> bool:
    # As words: a hump of camel case begins one.
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return bool(_names.search(f"{words.strip()}="))


def _value(given: Any, key: object, depth: int) -> Any:
    if key is not None and is_secret_name(key):
        return given if given is None or isinstance(given, bool) else SCRUBBED
    if isinstance(given, str):
        return text(given)
    if not isinstance(given, dict | list | tuple | set | frozenset):
        return given
    if depth == _DEEPEST:
        return SCRUBBED
    if isinstance(given, dict):
        return {
            text(name) if isinstance(name, str) else name: _value(one, name, depth + 1)
            for name, one in given.items()
        }
    if isinstance(given, list | tuple) and len(given) == 2 and is_secret_name(given[0]):
        pair = [given[0], _value(given[1], given[0], depth + 1)]
        return tuple(pair) if isinstance(given, tuple) else pair
    return [_value(one, None, depth + 1) for one in given]


def _words_of(given: str) -> str:
    if "@" in given and "://" in given:
        given = _ADDRESS.sub(_without_user, given)
    if "?" in given:
        given = _QUERY.sub(_without_query, given)
    if "[parameters: " in given or "Failing row" in given or "Key (" in given:
        given = _SQL_VALUES.sub(rf"\1{SCRUBBED}", given)
    low = given.lower()
    if "bearer" in low or "basic" in low:
        given = _SCHEME.sub(rf"\1{SCRUBBED}", given)
        low = given.lower()
    return _without_values(given, low) if _names.search(low) else given


def _without_values(given: str, low: str) -> str:
    if len(low) != len(given):
        # Only this letter grows when it is made small, and then no position fits.
        given = given.replace("\u0130", "I")
        low = given.lower()
    parts, end = [], 0
    while name := _names.search(low, end):
        ends_late = name[0].startswith(_HEADERS)
        found: Any = (_REST_OF_LINE if ends_late else _VALUE).match(given, name.end())  # it may be empty
        parts += [given[end : name.end()], SCRUBBED if found[0] and not found["keep"] else found[0]]
        end = found.end()
    return "".join([*parts, given[end:]])


def _without_user(address: re.Match[str]) -> str:
    parts = address[0][3:].split("://")
    found = [_USER.match(part) for part in parts]
    rests = [part[user.end() :] if user else part for part, user in zip(parts, found, strict=True)]
    return "://" + "://".join(
        f"{SCRUBBED}@{rest}" if user else rest for user, rest in zip(found, rests, strict=True)
    )


def _without_query(query: re.Match[str]) -> str:
    return f"{query[1] or ''}?{SCRUBBED}"


configure(os.environ.get("FLASK_OPS_SCRUB_KEYS", "").split(","))
