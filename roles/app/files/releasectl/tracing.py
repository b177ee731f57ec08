"""Show a person the lines that are wanted: those of one request, or those of a while."""

from __future__ import annotations

import re

from releasectl import clock, reading, wanted
from releasectl.errors import Refused
from releasectl.host import Host
from releasectl.output import Result

# A traceback has thousands; with --json all of it is told.
LONGEST = 1000
# What would move a terminal's cursor, or make two lines of one.
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def trace(host: Host, asked: dict[str, str]) -> Result:
    """Tell what a request caused on this host.

    :raises Refused: when that is no request id, or nothing is known of it.
    """
    told = _read(host, asked)
    if not told["lines"]:
        words = host.command(f"trace {asked['request_id']} --since 7d")
        raise Refused("\n  ".join(nothing(asked, told)), next_command=words)
    first = told["lines"][0]
    words = [f"{asked['request_id']}, from {first['time']} on", *table(told["lines"], first["at"])]
    return Result(
        "trace", False, "\n".join([*words, *remarks(told)]), {**told, "request_id": asked["request_id"]}
    )


def logs(host: Host, asked: dict[str, str]) -> Result:
    """Tell the newest lines of nginx and the app that are wanted, oldest first.

    :raises Refused: when something is asked for that there cannot be.
    """
    told = _read(host, asked)
    words = [*table(told["lines"], with_ids=True), *remarks(told)] if told["lines"] else nothing(asked, told)
    return Result("logs", False, "\n".join(words), told)


def _read(host: Host, asked: dict[str, str]) -> dict:
    asked = {name: value for name, value in asked.items() if value is not None}
    if wrong := wanted.problems(asked):
        raise Refused("; ".join(f"{name} is {asked[name]!r}: give {right}" for name, right in wrong.items()))
    return reading.read(host.settings.app, host.settings.access_log, wanted.wanted(asked)).told()


def remarks(told: dict) -> list[str]:
    """Return what a reader must know beside the lines."""
    more = [f"There are older ones: these are the newest {len(told['lines'])}."] if told["more"] else []
    return [*(f"Not read: {one}" for one in told["unread"]), *more]


def nothing(asked: dict[str, str], told: dict) -> list[str]:
    """Return that nothing was found, where it was looked for and how far back."""
    what = f"nothing of {asked['request_id']}" if asked.get("request_id") else "no such line"
    since = clock.stamp(wanted.wanted(asked).since)
    return [f"{what} since {since}, or you may not read it; looked through", *told["looked"], *remarks(told)]


def table(lines: list[dict], begin: float | None = None, *, with_ids: bool = False) -> list[str]:
    """Return lines as a person reads them, one each.

    :param lines: as :meth:`reading.Found.told` has them; with `host`, where there are several.
    :param begin: what times are counted from, in seconds since the epoch; without it each has its own.
    :param with_ids: whether each ends with its request's id, to go on from.
    """
    widest = max((len(line.get("host", "")) for line in lines), default=0)
    shown = []
    for line in lines:
        when = line["time"] if begin is None else f"{line['at'] - begin:8.3f} s"
        host = f"  {line['host']:<{widest}}" if widest else ""
        request_id = line["fields"].get("request_id") if with_ids else None
        words = (
            f"{_seen(line['message'])}  {_seen(str(request_id))}" if request_id else _seen(line["message"])
        )
        shown.append(f"{when}{host}  {line['source']:<7}  {line['level']:<8}  {words}")
    return shown


def _seen(text: str) -> str:
    text = f"{text[:LONGEST]} …" if len(text) > LONGEST else text
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
