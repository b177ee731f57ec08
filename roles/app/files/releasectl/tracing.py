"""Put together what one request caused on this host: nginx's line, the app's, its workers', the database's.

All of it carries the request's id. nginx writes a file, PostgreSQL another, everything of the app's goes to
the journal as one JSON object a line.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from releasectl import clock, records, systemd
from releasectl.errors import Refused
from releasectl.host import Host
from releasectl.output import Result

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,128}")
KINDS = ("web", "worker", "beat", "flower", "migrate", "hook")
# Slow statements, which the app marks with the id in a comment.
DATABASE_LOGS = ("/var/log/postgresql", "postgresql-*.log*")
DATABASE_LINE = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC (?P<text>.*)")


@dataclasses.dataclass(frozen=True, order=True)
class Step:
    """One line of the timeline.

    :param at: when it was written, seconds since the epoch; for nginx, when the request came.
    :param source: the service that wrote it.
    :param text: what it says, for a person.
    :param line: what it says, for a program.
    """

    at: float
    source: str
    text: str
    line: dict = dataclasses.field(compare=False)


def trace(host: Host, request_id: str, hours: float) -> Result:
    """Tell what a request caused on this host.

    :param hours: how far to look back.
    :raises Refused: when that is no request id, or nothing is known of it.
    """
    if not REQUEST_ID.fullmatch(request_id):
        raise Refused(f"{request_id!r} is no request id: it stands in X-Request-ID of the answer")
    found = [
        *_nginx(host.settings.access_log, request_id),
        *_journal(host.settings.app, request_id, hours),
        *_database(request_id),
    ]
    if not found:
        # A task's id goes by the name of a request's where no request caused it.
        raise Refused(
            f"nothing of {request_id} in the last {hours:g} hours, or you may not read it",
            next_command=host.command(f"trace {request_id} --hours 168"),
        )
    steps = sorted(found)
    begin = steps[0].at
    lines = [f"{request_id}, from {clock.stamp(begin)} on"]
    lines += [f"  {step.at - begin:8.3f} s  {step.source:<14} {step.text}" for step in steps]
    told = [{"at": step.at, "source": step.source, **step.line} for step in steps]
    return Result("trace", False, "\n".join(lines), {"request_id": request_id, "steps": told})


def _nginx(path: Path, request_id: str) -> Iterator[Step]:
    for text in _lines(path.parent, f"{path.name}*", request_id):
        line = records.parse(text) or {}
        if line.get("request_id") != request_id:
            continue
        seconds = float(line.get("request_time") or 0)
        words = [str(line.get(name, "")) for name in ("method", "path", "status")]
        words += [f"in {seconds:g} s, {line.get('upstream_response_time') or 0} s of it the app's"]
        # It is written at the end.
        began = (clock.parse(str(line.get("timestamp"))) or 0) - seconds
        yield Step(began, "nginx", " ".join(words), line)


def _journal(app: str, request_id: str, hours: float) -> Iterator[Step]:
    for text in systemd.journal_with(request_id, [f"{app}-{kind}" for kind in KINDS], hours):
        line = records.parse(text) or {}
        at = clock.parse(str(line.get("timestamp")))
        if at is not None and request_id in (line.get("request_id"), line.get("task_id")):
            yield Step(at, str(line.get("service")), records.words(line), line)


def _database(request_id: str) -> Iterator[Step]:
    for text in _lines(Path(DATABASE_LOGS[0]), DATABASE_LOGS[1], request_id):
        if match := DATABASE_LINE.match(text):
            at = clock.parse(f"{match['at']}+00:00")
            yield Step(at or 0, "postgresql", match["text"], {"event": match["text"]})


def _lines(folder: Path, pattern: str, request_id: str) -> Iterator[str]:
    """Yield the lines with the id out of logs and what logrotate has made of them."""
    wanted = request_id.encode()
    for path in sorted(folder.glob(pattern)):
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from (line.decode(errors="replace").rstrip("\n") for line in file if wanted in line)
        except OSError:
            continue
