"""Lay a message's body out for reading."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: More than anybody reads in a browser; the whole of it can be downloaded.
SHOWN_MAX_CHARACTERS = 40_000
#: Deeper than that, lines begin with more spaces than a screen is wide.
INDENT_MAX = 40
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, slots=True)
class Shown:
    """A body as a page shows it.

    :param text: not escaped.
    :param is_json: whether it was laid out, otherwise it stands as it came.
    :param is_cut: whether there is more of it.
    """

    text: str
    is_json: bool
    is_cut: bool


def shown(body: str) -> Shown:
    """Return the beginning of a body, JSON with a line for each value."""
    is_json = _is_json(body)
    text = ""
    if is_json:
        # Tokens are moved, not parsed and written again: numbers, escapes and doubled keys stay as sent.
        pieces: list[str] = []
        size = 0
        for piece in _laid_out(body):
            pieces.append(piece)
            size += len(piece)
            if size > SHOWN_MAX_CHARACTERS:
                break
        text = "".join(pieces)
    else:
        text = body[: SHOWN_MAX_CHARACTERS + 1]
    return Shown(text[:SHOWN_MAX_CHARACTERS], is_json, len(text) > SHOWN_MAX_CHARACTERS)


def _is_json(body: str) -> bool:
    try:
        # Numbers are not looked at: Python refuses to read those of thousands of digits.
        json.loads(body, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return True


def _laid_out(body: str) -> Iterator[str]:
    depth, before = 0, ""
    for token in (match[0] for match in _TOKEN.finditer(body)):
        opens, closes = token in ("{", "["), token in ("}", "]")
        depth -= closes
        if closes and before in ("{", "["):
            yield token  # an empty one stays on its line
        elif closes or before in ("{", "[", ","):
            yield f"\n{'  ' * min(depth, INDENT_MAX)}{token}"
        else:
            yield f" {token}" if before == ":" else token
        depth += opens
        before = token
