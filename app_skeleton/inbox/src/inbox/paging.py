"""Read a page's bounds from a query string."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import BadRequest

from .messages import ID_MAX


def cursor() -> int | None:
    """Return ``?cursor=``, None if it is not given.

    :raises BadRequest: if it is not a positive whole number.
    """
    return _number("cursor", None, ID_MAX)


def limit(default: int, maximum: int) -> int:
    """Return ``?limit=``.

    :param default: when it is not given.
    :param maximum: the most messages a page may have.
    :raises BadRequest: if it is not a whole number from 1 to the maximum.
    """
    return _number("limit", default, maximum) or default


def _number(name: str, default: int | None, maximum: int) -> int | None:
    text = request.args.get(name)
    if text is None:
        return default
    # Longer than any allowed number, and int() of a million digits is slow on purpose.
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= int(text) <= maximum):
        raise BadRequest(f"{name} must be a whole number from 1 to {maximum}.")
    return int(text)
