#!/usr/bin/python3 -IB
"""Count what stands in logs and no exporter tells: what journald dropped, and what nginx answered by itself.

Tell as well for how long lines have waited to be shipped to another host, where that is asked for.

A timer runs it. The sums, and up to where the logs were read, are kept in one file that is replaced as a
whole: nothing is counted twice, and no sum goes back when the journal lets its oldest lines go or logrotate
moves a log. Node exporter reads the other file.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

STATE = Path("/var/lib/log-counts/state.json")
# Where Debian's node exporter looks.
METRICS = Path("/var/lib/prometheus/node-exporter/log-counts.prom")
NGINX_LOGS = Path("/var/log/nginx")
# The role that ships the journal writes the one, and what ships it the other, when it was answered for lines.
SHIPPING = Path("/etc/systemd/system/systemd-journal-upload.service.d/50-journal.conf")
SHIPPED = Path("/var/lib/systemd/journal-upload/state")

HELP = {
    "journal_dropped_messages_total": ("counter", "Messages that journald dropped, by who wrote too many."),
    "journal_last_drop_timestamp_seconds": ("gauge", "When it last said so."),
    "journal_unshipped_age_seconds": ("gauge", "Age of the oldest line no other host has answered for."),
    "nginx_http_responses_total": ("counter", "Answers in a site's access log, and who gave them."),
}
# By which journald says that it dropped what was more than base_journald_rate_limit_burst.
DROPPED = "a596d6fe7bfa4994828e72309e95d61e"
DROPPED_FROM = re.compile(r"Suppressed \d+ messages from (\S+)")
# A unit of a release: its id would make new series with every deploy.
INSTANCE = re.compile(r"@.+(?=\.\w+$)")
# Units that are made and gone again have names without end.
MOST_UNITS = 200
ANSWER_SECONDS = 60
# 499 is nginx's own: the client left.
STATUSES = {*map(int, HTTPStatus), 499}
# Told from the first on, so that the first one ever is seen as one more.
EDGE_ERRORS = (500, 502, 503, 504)
LONGEST_LINE = 1 << 16


class Trouble(Exception):
    """What could not be counted, and why."""


def count_dropped(kept: dict, *where: str) -> None:
    """Add what journald dropped since the last time.

    :param kept: `cursor`, and the sums by unit in `units`.
    :param where: the journal, in journalctl's words; none for this host's own.
    :raises Trouble: when the journal cannot be read.
    """
    units = kept.setdefault("units", {})
    for entry in _drops(kept.get("cursor", ""), where):
        kept["cursor"] = entry["__CURSOR"]
        told = DROPPED_FROM.match(str(entry.get("MESSAGE")))
        if not told:
            continue
        unit = INSTANCE.sub("@", told[1])
        if unit not in units and len(units) >= MOST_UNITS:
            unit = "other"
        one = units.setdefault(unit, {"dropped": 0, "last": 0})
        one["dropped"] += int(entry.get("N_DROPPED", 0))
        one["last"] = max(one["last"], int(entry["__REALTIME_TIMESTAMP"]) / 1e6)


def _drops(cursor: str, where: tuple[str, ...]) -> Iterator[dict]:
    """Yield what journald said after a cursor, or since the journal's beginning."""
    words = [*where, "--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,N_DROPPED"]
    # With its line: --after-cursor would have to trust that the line is still there to be passed over.
    words += [f"--cursor={cursor}"] if cursor else []
    try:
        done = subprocess.run(
            ["journalctl", *words, f"MESSAGE_ID={DROPPED}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble(f"the journal: {error}") from error
    # 1 without a word: nothing was found.
    if done.returncode and done.stderr:
        raise Trouble(f"the journal: {done.stderr.decode(errors='replace').strip()}")
    entries = map(json.loads, done.stdout.splitlines())
    yield from (entry for entry in entries if entry["__CURSOR"] != cursor)


def unshipped_age(shipping: Path, shipped: Path, now: float, *where: str) -> float | None:
    """Return for how many seconds the journal's oldest unshipped line has waited, 0 where none does.

    :param shipping: is there where the journal is to be shipped; nothing is returned without it.
    :param shipped: changes whenever the other host has answered.
    :param now: seconds since the epoch.
    :param where: the journal, in journalctl's words; none for this host's own.
    :raises Trouble: when the journal cannot be read.
    """
    # Not by the cursor inside: its owner alone may read that.
    asked = _changed(shipping)
    if asked is None:
        return None
    answered = _changed(shipped) or asked
    words = [*where, "--quiet", "--no-pager", "--output=json", "--output-fields=PRIORITY"]
    oldest = _first([*words, f"--since=@{answered + 1:.0f}"])
    return max(0.0, now - int(oldest["__REALTIME_TIMESTAMP"]) / 1e6) if oldest else 0.0


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _first(words: list[str]) -> dict:
    """Return the first entry journalctl tells, empty where there is none; what follows is left unread."""
    try:
        with subprocess.Popen(
            ["journalctl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reading:
            line = reading.stdout.readline()
            reading.kill()
            said = b"" if line else reading.stderr.read().strip()
    except OSError as error:
        raise Trouble(f"the journal: {error}") from error
    if said:
        raise Trouble(f"the journal: {said.decode(errors='replace')}")
    return json.loads(line) if line else {}


def count_responses(kept: dict, folder: Path) -> None:
    """Add what nginx wrote since the last time, site by site.

    :param kept: of each site `places`, up to where its files were read, and the sums in `responses`.
    :param folder: where the sites' logs are.
    :raises OSError: when one cannot be read.
    """
    for path in folder.glob("*.access.log"):
        site = kept.setdefault(path.name.removesuffix(".access.log"), {"places": {}, "responses": {}})
        sums = site["responses"]
        for status in EDGE_ERRORS:
            sums.setdefault(f"edge {status}", 0)
        # The log itself first: what logrotate moves away meanwhile is met again under its next name, where
        # nginx goes on writing to it for a moment.
        for each in (path, path.with_name(f"{path.name}.1")):
            for line in _read_on(each, site["places"]):
                kind = _kind(line)
                if kind:
                    sums[kind] = sums.get(kind, 0) + 1
        site["places"] = dict([*site["places"].items()][-4:])
    # An app that was taken off the host.
    for name in [*kept]:
        if not any(folder.glob(f"{name}.access.log*")):
            del kept[name]


def _read_on(path: Path, places: dict[str, int]) -> Iterator[bytes]:
    """Yield a log's whole lines behind the place it was read up to."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        first = file.readline(LONGEST_LINE)
        if not first.endswith(b"\n"):
            return
        # Known by its first line, which has a request's id: the inode of a file that was compressed and
        # removed may be the next one's.
        name = hashlib.sha256(first).hexdigest()[:16]
        place = places.pop(name, 0)
        file.seek(place)
        try:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                place += len(line)
                yield line
        finally:
            places[name] = place


def _kind(text: bytes) -> str:
    """Return who answered a request, and how; nothing for what is no line of ours."""
    try:
        line = json.loads(text)
        status = int(line["status"])
        # Of each server that was asked one: a time when it sent a header, a dash when it did not.
        asked = re.split("[,:]", line["upstream_header_time"])
    except (ValueError, KeyError, TypeError):
        return ""
    origin = "app" if re.fullmatch(r"\d+\.\d+", asked[-1].strip()) else "edge"
    return f"{origin} {status if status in STATUSES else f'{status // 100}xx'}"


def text(kept: dict) -> str:
    """Return the sums in Prometheus' text format.

    :param kept: what :func:`load` returns, and `unshipped`, seconds, where the journal is shipped.
    """
    samples: dict[str, list[str]] = {name: [] for name in HELP}

    def add(name: str, value: float, **labels: str) -> None:
        told = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels.items())
        samples[name].append(f"{name}{{{told}}} {value:.15g}")

    for unit, one in sorted(kept["journal"]["units"].items()):
        add("journal_dropped_messages_total", one["dropped"], unit=unit)
        add("journal_last_drop_timestamp_seconds", one["last"], unit=unit)
    if kept.get("unshipped") is not None:
        samples["journal_unshipped_age_seconds"] = [f"journal_unshipped_age_seconds {kept['unshipped']:.0f}"]
    for site, one in sorted(kept["nginx"].items()):
        for kind, count in sorted(one["responses"].items()):
            origin, status = kind.split()
            add("nginx_http_responses_total", count, site=site, origin=origin, status=status)
    lines = []
    for name, (kind, help_text) in HELP.items():
        if samples[name]:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *samples[name]]
    return "".join(f"{line}\n" for line in lines)


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def load(path: Path) -> dict:
    """Return what is kept; nothing of a file that was spoilt: Prometheus sees counters that begin anew."""
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        kept = {}
    return {"journal": kept.get("journal", {}), "nginx": kept.get("nginx", {})}


def replace(path: Path, words: str) -> None:
    """Write a file that somebody may read at any moment, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(words)
    new.chmod(0o644)
    new.rename(path)


def main(words: list[str]) -> int:
    """Count, and write both files; say what could not be counted."""
    parser = argparse.ArgumentParser(prog="log-counts", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--metrics", type=Path, default=METRICS)
    parser.add_argument("--nginx-logs", type=Path, default=NGINX_LOGS)
    parser.add_argument("--journal", help="a folder of journals instead of this host's own")
    parser.add_argument("--shipping", type=Path, default=SHIPPING)
    parser.add_argument("--shipped", type=Path, default=SHIPPED)
    told = parser.parse_args(words)
    where = [f"--directory={told.journal}"] if told.journal else []
    # Held until the end: somebody may count by hand just as the timer does.
    folder = os.open(told.state.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    kept, troubles, now = load(told.state), [], {}
    for count in (
        lambda: count_dropped(kept["journal"], *where),
        lambda: count_responses(kept["nginx"], told.nginx_logs),
        lambda: now.update(unshipped=unshipped_age(told.shipping, told.shipped, time.time(), *where)),
    ):
        try:
            count()
        except (Trouble, OSError) as trouble:
            troubles.append(f"log-counts: {trouble}")
    replace(told.state, json.dumps(kept) + "\n")
    replace(told.metrics, text(kept | now))
    print(*troubles, sep="\n", end="\n" if troubles else "", file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
