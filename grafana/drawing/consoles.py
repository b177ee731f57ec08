"""Expressions out of prometheus/consoles: what both show is written down once, there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).resolve().parents[2] / "prometheus"
# What the dashboards' variables choose: the app, and of its hosts those one wants to see.
APP = 'app="$app"'
HOSTS = f'{APP}, instance=~"$instance"'
PLACE = re.compile(r"%(?:\[(\d)\])?[sq]")
FIGURE = re.compile(
    r'\{\{ template "figure" \(args "(?P<name>[^"]+)" \(printf `(?P<expr>[^`]+)`[^)]*\) "[^"]*"\s+'
    r'"(?P<why>[^"]+)"\) \}\}'
)
COLUMN = re.compile(r"\{\{ \$(?P<name>\w+) := (?:query \()?\(?printf `(?P<expr>[^`]+)`")


class Ask(NamedTuple):
    """What is asked of Prometheus."""

    expr: str
    """PromQL, with Grafana's variables."""
    legend: str = ""
    """What a series is called, with its labels in braces."""
    why: str = ""
    """Why there may be no data."""


def named(legend: str, expr: str) -> Ask:
    """Return an expression of our own, which no console has."""
    return Ask(expr, legend)


def figure(page: str, name: str, *words: str) -> Ask:
    """Return what a console asks for a figure.

    :param page: the console's name, without its ending.
    :param name: the figure, as the console calls it.
    :param words: what is filled in; the hosts' selector by default.
    :raises KeyError: where the console has no such figure.
    """
    expr, why = _found(f"consoles/{page}.html", FIGURE, name)
    return Ask(_filled(expr, words or (HOSTS,)), name, why)


def column(page: str, name: str, legend: str, *words: str) -> Ask:
    """Return what a console, or the library of all, asks for a column of a table.

    :param page: the console's name, without its ending, or `page.lib`.
    :param name: the variable it stands in, without its sign.
    :param legend: what a series is called.
    :param words: what is filled in; the hosts' selector by default.
    :raises KeyError: where the console has no such variable.
    """
    path = "console_libraries/page.lib" if page == "page.lib" else f"consoles/{page}.html"
    expr, _ = _found(path, COLUMN, name)
    return Ask(_filled(expr, words or (HOSTS,)), legend)


def _found(path: str, pattern: re.Pattern[str], name: str) -> tuple[str, str]:
    """Return what stands in a file by a name: PromQL, and why it may find nothing.

    :raises KeyError: where nothing has that name, or several do.
    """
    found = [told for told in _named(path, pattern) if told["name"] == name]
    if len(found) != 1:
        raise KeyError(f"prometheus/{path} has {len(found)} of {name!r}, and one was to be drawn")
    return found[0]["expr"], found[0].get("why", "")


@cache
def _named(path: str, pattern: re.Pattern[str]) -> list[dict[str, str]]:
    """Return all that stands in a file by a name."""
    return [match.groupdict() for match in pattern.finditer((TREE / path).read_text())]


def _filled(expr: str, words: tuple[str, ...]) -> str:
    """Return an expression with its places filled in, as Go's printf does."""
    following = iter(words)
    return PLACE.sub(lambda place: words[int(place[1]) - 1] if place[1] else next(following), expr)
