"""Read the lines of every log on this host that are wanted: nginx's, the app's, PostgreSQL's.

nginx writes a file, PostgreSQL another, everything of the app's goes to the journal, one JSON object a line.
`trace`, `logs` and the playbooks of those names all read by this.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

from releasectl import clock, records, systemd, tails
from releasectl.errors import Failed
from releasectl.wanted import LEVELS, Wanted

NGINX_LOGS = Path("/var/log/nginx")
KINDS = ("web", "worker", "beat", "flower", "migrate", "hook")
# Statements that were slow, or failed: the app ends each with the id in a comment.
DATABASE_LOGS = (Path("/var/log/postgresql"), "postgresql-*.log*")
DATABASE_LINE = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC (?:\[\d+\] )?(?:\S+@\S+ )?([A-Z]+\d?):\s+",
    re.MULTILINE,
)
# The values a statement was given stay where they are.
VALUES = re.compile(r"[Pp]arameters: ")
DURATION = re.compile(r"duration: (\d+(?:\.\d+)?) ms")
# PostgreSQL's words for what the app calls otherwise.
SEVERITIES = {"WARNING": "warning", "ERROR": "error", "FATAL": "critical", "PANIC": "critical"}
# By which journald says that it dropped what was more than base_journald_rate_limit_burst.
DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
DROPPED_FROM = re.compile(r"Suppressed \d+ messages from (\S+)")
RELEASE_OF_UNIT = re.compile(r".+@(.+)\.service")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a log.

    :param at: when what it tells of began, seconds since the epoch.
    :param written: when it was written; nginx writes at a request's end, PostgreSQL at a statement's.
    :param source: `nginx`, `app`, `sql`, or what else of the app wrote it: `worker`, `beat`, …
    :param level: one of LEVELS, empty where nobody can tell.
    :param message: what it says, for a person.
    :param release: the release that wrote it, or that answered.
    :param fields: what it says, for a program.
    """

    at: float
    written: float
    source: str
    level: str
    message: str
    release: str
    fields: dict

    def is_of(self, wanted: Wanted) -> bool:
        """Whether it is one of those that are wanted."""
        # nginx's times are cut to seconds.
        return (
            int(wanted.since) <= self.written <= wanted.until
            and wanted.release in ("", self.release)
            and self._has_request(wanted.request_id)
            and self._is_as_bad_as(wanted.level)
            and self._has_status(wanted.status)
            and self._says(wanted.grep.casefold())
        )

    def _has_request(self, request_id: str) -> bool:
        return not request_id or request_id in (self.fields.get("request_id"), self.fields.get("task_id"))

    def _is_as_bad_as(self, level: str) -> bool:
        # What escaped the app's JSON, such as an import that fails at boot, is never hidden.
        return not (level and self.level) or LEVELS.index(self.level) >= LEVELS.index(level)

    def _has_status(self, status: str) -> bool:
        return not status or str(self.fields.get("status", "")).startswith(status.rstrip("x"))

    def _says(self, text: str) -> bool:
        return not text or any(text in str(one).casefold() for one in (self.message, *self.fields.values()))


@dataclasses.dataclass
class Found:
    """What was read.

    :param lines: in the order in which things began.
    :param looked: where, for a person: also where nothing was.
    :param unread: what could not be read to its end, and why.
    :param more: whether there were older ones than the newest that were asked for.
    """

    lines: list[Line]
    looked: list[str]
    unread: list[str]
    more: bool

    def told(self) -> dict:
        """Return it for a program."""
        lines = [dataclasses.asdict(line) for line in self.lines]
        for line in lines:
            line["time"] = clock.stamp_ms(line["at"])
        return {"lines": lines, "looked": self.looked, "unread": self.unread, "more": self.more}


def read(app: str, access_log: Path, wanted: Wanted) -> Found:
    """Return the newest lines that are wanted.

    :param access_log: the site's, where this host has one.
    """
    found = Found([], [], [], False)
    requests = list(itertools.islice(_nginx(access_log, wanted, found), wanted.lines + 1))
    if wanted.request_id and requests:
        # Nothing that it caused is older, and a busy journal of a day takes seconds.
        begin = min(line.at for line in requests) - 1
        wanted = dataclasses.replace(wanted, since=max(wanted.since, begin))
    readers = [iter(requests), _journal(app, wanted, found)]
    if wanted.request_id:
        # Of anything else nobody could say that it is this app's.
        readers.append(_database(wanted, found))
    newest = list(itertools.islice(heapq.merge(*readers, key=_written, reverse=True), wanted.lines + 1))
    found.more = len(newest) > wanted.lines
    found.lines = sorted(newest[: wanted.lines], key=lambda line: (line.at, line.written))
    return found


def _written(line: Line) -> float:
    return line.written


def _nginx(path: Path, wanted: Wanted, found: Found) -> Iterator[Line]:
    # As logging.conf writes it.
    status = f'"status":{wanted.status[0]}' if wanted.status else ""
    needle = wanted.request_id or wanted.release or status
    return _files(path.parent, f"{path.name}*", needle, _request, wanted, found)


def _request(text: str) -> Line | None:
    line = records.parse(text) or {}
    written, seconds = clock.parse(str(line.get("timestamp"))), float(line.get("request_time") or 0)
    if written is None:
        return None
    words = [str(line.get(name, "")) for name in ("method", "path", "status")]
    words += [f"in {seconds:g} s, {line.get('upstream_response_time') or 0} s of it the app's"]
    status = int(line.get("status") or 0)
    level = "error" if status >= 500 else "warning" if status >= 400 else "info"
    return Line(
        written - seconds, written, "nginx", level, " ".join(words), str(line.get("release", "")), line
    )


def _database(wanted: Wanted, found: Found) -> Iterator[Line]:
    folder, pattern = DATABASE_LOGS

    def statement(text: str) -> Line | None:
        # Of each line the time, the word in front, and the text.
        _, *parts = DATABASE_LINE.split(text)
        if not parts:
            return None
        written = clock.parse(f"{parts[0]}+00:00") or 0
        message = " ".join(" ".join(one for one in parts[2::3] if not VALUES.match(one)).split())
        took = DURATION.match(message)
        at = written - float(took[1]) / 1000 if took else written
        level = SEVERITIES.get(parts[1], "info")
        return Line(at, written, "sql", level, message, "", {"request_id": wanted.request_id})

    return _files(folder, pattern, f"request_id='{wanted.request_id}'", statement, wanted, found)


def _files(
    folder: Path,
    pattern: str,
    needle: str,
    line_of: Callable[[str], Line | None],
    wanted: Wanted,
    found: Found,
) -> Iterator[Line]:
    """Yield a log's lines, the newest first."""
    paths = tails.files(folder, pattern, int(wanted.since))
    found.looked.append(f"{folder}/{pattern}: {len(paths)} file{'s' if len(paths) != 1 else ''} of that time")
    for path in paths:
        reads = tails.forward if path.suffix == ".gz" else tails.backward
        lines = (line for text in reads(path, needle.encode()) if (line := line_of(text)))
        try:
            if path.suffix == ".gz":
                kept = deque((line for line in lines if line.is_of(wanted)), maxlen=wanted.lines + 1)
                yield from reversed(kept)
                continue
            for line in lines:
                if line.written < int(wanted.since):
                    return
                if line.is_of(wanted):
                    yield line
        except (OSError, EOFError) as error:
            found.unread.append(f"{path}: {error}")


def _journal(app: str, wanted: Wanted, found: Found) -> Iterator[Line]:
    identifiers = [f"{app}-{kind}" for kind in KINDS]
    if wanted.status:
        # Which nginx's lines alone have.
        return
    found.looked.append(f"the journal of {', '.join(identifiers)}")
    of_the_app = [f"--identifier={name}" for name in identifiers]
    try:
        found.unread += _dropped(app, wanted)
        for entry in systemd.journal_entries(of_the_app, wanted.since, wanted.until, _pattern(wanted)):
            line = _entry(app, entry)
            if line.is_of(wanted):
                yield line
    except (Failed, OSError) as failed:
        found.unread.append(f"the journal: {failed}")


def _pattern(wanted: Wanted) -> str:
    """Return what journalctl can leave out by: it reads six times as fast as it hands over."""
    if wanted.request_id:
        return re.escape(wanted.request_id)
    levels = "|".join(LEVELS[LEVELS.index(wanted.level) :]) if wanted.level else ""
    # As flask_ops writes it, and whatever is no JSON.
    return f'^[^{{]|"level": ?"({levels})"' if levels else ""


def _dropped(app: str, wanted: Wanted) -> Iterator[str]:
    """Yield what journald dropped of the app's, unit by unit."""
    counted: Counter[str] = Counter()
    for entry in systemd.journal_entries([f"MESSAGE_ID={DROPPED}"], wanted.since, wanted.until):
        unit = DROPPED_FROM.match(str(entry.get("MESSAGE")))
        if unit and unit[1].startswith(f"{app}-"):
            counted[unit[1]] += int(entry.get("N_DROPPED", 0))
    yield from (f"{count} messages of {unit}: the journal dropped them" for unit, count in counted.items())


def _entry(app: str, entry: dict) -> Line:
    message = entry.get("MESSAGE")
    # What is no text the journal gives as numbers.
    text = bytes(message).decode(errors="replace") if isinstance(message, list) else str(message or "")
    written = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
    kind = str(entry.get("SYSLOG_IDENTIFIER", "")).removeprefix(f"{app}-")
    unit = RELEASE_OF_UNIT.fullmatch(str(entry.get("_SYSTEMD_UNIT", "")))
    line = records.parse(text) or {}
    level = str(line.get("level", ""))
    return Line(
        clock.parse(str(line.get("timestamp"))) or written,
        written,
        "app" if kind == "web" else kind,
        level if level in LEVELS else "",
        records.said(line) if line else text,
        str(line.get("release") or (unit[1] if unit else "")),
        line or {"event": text},
    )
