"""Make one line of JSON of a record's fields, whatever an app or a client has put into them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

from . import scrub

#: Several processes write to one unix socket, journald's, and Linux lets nobody between up to 32 KiB of one
#: write (unix_stream_sendmsg, UNIX_SKB_FRAGS_SZ). journald itself would split a line at 48 KiB
#: (journald.conf(5), LineMax). Either way the parts are no JSON. One byte is the end of the line, three
#: in front of it may say how bad it is.
LINE_LIMIT_BYTES = 32 * 1024 - 4
#: Every line has these, in this order, and nothing an app logs can stand in their place.
FIRST = ("timestamp", "level", "event", "logger", "request_id", "release", "service")
RESERVED = frozenset({*FIRST, "exception", "stack", "truncated", "format_error"})

#: A field of so many characters may be shortened, and not below that.
_LONG = 256
#: Text beyond this is not even looked at for secrets: 1 MB of it would take 50 ms of the request.
_LONGEST_TEXT = 256 * 1024
_MOST_VALUES, _DEEPEST, _LARGEST_BITS = 2000, 12, 1024
_LEFT_OUT = "[left out]"


def render(fields: Mapping[str, Any]) -> str:
    """Return the fields as JSON, without secrets, and cut to :data:`LINE_LIMIT_BYTES`.

    A record that was cut has ``"truncated": true``.

    :param fields: all of :data:`FIRST`, and others.
    """
    found = harmless(fields)
    line = _dump(found)
    return line if len(line) <= LINE_LIMIT_BYTES else _dump(_shortened(found))


def harmless(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as JSON can hold them, without secrets."""
    plain = _Plain()
    found = {
        name: plain.text(value, keep_end=name == "exception") if type(value) is str else plain.value(value)
        for name, value in fields.items()
    }
    found = {plain.name(name): scrub.value(value, name) for name, value in found.items()}
    return found | {"truncated": True} if plain.cut else found


class _Plain:
    """Turn values into what JSON knows, and say in ``cut`` whether something had to be left out."""

    def __init__(self) -> None:
        self.cut = False
        self._left = _MOST_VALUES

    def value(self, given: Any, depth: int = 0) -> Any:
        """Return any value as a tree of dicts, lists, texts, numbers, booleans and None."""
        self._left -= 1
        if given is None or given is True or given is False:
            return given
        if isinstance(given, str):
            return self.text(str.__str__(given))
        if isinstance(given, int) and given.bit_length() <= _LARGEST_BITS:
            return int.__index__(given)
        if isinstance(given, float) and math.isfinite(given):
            return float.__float__(given)
        if isinstance(given, dict | list | tuple | set | frozenset):
            return self._container(given, depth)
        return self.text(shown(given))

    def _container(self, given: Any, depth: int) -> Any:
        if depth == _DEEPEST or self._left <= 0:
            self.cut = True
            return _LEFT_OUT
        if isinstance(given, dict):
            return {
                self.name(name): self.value(one, depth + 1) for name, one in self._some(dict.items(given))
            }
        return [self.value(one, depth + 1) for one in self._some(given)]

    def _some(self, given: Any) -> Any:
        # A copy, made in one go: another thread may be at work on it.
        some = list(islice(given, max(self._left, 0)))
        self.cut |= len(given) > len(some)
        for one in some:
            if self._left <= 0:
                self.cut = True
                return
            yield one

    def name(self, name: object) -> str:
        """Return the name of a value as text."""
        return self.text(name if type(name) is str else shown(name))[:_LONG]

    def text(self, given: str, *, keep_end: bool = False) -> str:
        """Return text that every reader of JSON takes, so without half a surrogate pair."""
        if len(given) > _LONGEST_TEXT:
            self.cut = True
            # A cut before the name of a secret would leave its value: at a line's start there is none.
            start = given.find("\n", len(given) - _LONGEST_TEXT) + 1 if keep_end else 0
            given = given[start : start + _LONGEST_TEXT]
        if given.isascii():
            return given
        try:
            given.encode()
        except UnicodeEncodeError:
            return given.encode("utf-8", "backslashreplace").decode()
        return given


def shown(thing: object) -> str:
    """Return the words for anything, even for what refuses to be shown."""
    try:
        return thing if type(thing) is str else repr(thing)
    except Exception as error:
        return f"[{type(thing).__name__} that cannot be shown: {type(error).__name__}]"


def _shortened(found: dict[str, Any]) -> dict[str, Any]:
    short = {**found, "truncated": True}
    sizes = {key: len(_dump(value)) for key, value in short.items()}
    long = sorted((key for key in sizes if sizes[key] >= _LONG), key=lambda key: sizes[key])
    left = LINE_LIMIT_BYTES - len(_dump(short)) + sum(sizes[key] for key in long)
    if left < len(long) * _LONG:
        # Thousands of small fields: none is worth more than the ones every reader relies on.
        return {key: _cut(found.get(key), 4 * _LONG) for key in FIRST} | {"truncated": True}
    # Shortest first: what one does not need of its share, the longer ones get.
    for others, key in zip(range(len(long), 0, -1), long, strict=True):
        short[key] = _cut(short[key], left // others, keep_end=key == "exception")
        left -= len(_dump(short[key]))
    return short


def _cut(value: Any, budget: int, *, keep_end: bool = False) -> Any:
    """Shorten a value until its JSON fits ``budget`` characters, of which there are :data:`_LONG` or more.

    :param keep_end: for a traceback, whose end says more than its start.
    """
    if len(_dump(value)) <= budget:
        return value
    part = value if isinstance(value, str) else _dump(value)
    keep = budget
    while True:
        part = part[-keep:] if keep_end else part[:keep]
        size = len(_dump(part))
        if size <= budget:
            return part
        keep = max(1, keep * budget // size - 1)


def _dump(value: object) -> str:
    # ASCII only: a byte count is a character count, and no locale can turn a log line into an exception.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
