"""Close the site for a while, and open it again: nginx answers by itself while one link is there.

The link `maintenance` leads to a folder named by seconds and reason, `maintenance.d/300-1a2b3c4d5e6f`: nginx
reads the first from the name, and puts the second, kept in that folder as HTML and as JSON, into its answers.
The folder is whole before the link moves, by rename, so that no request finds half a state. Releases know
nothing of it: deploys, rollbacks and boots leave it as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from releasectl import clock, layout, probe
from releasectl.errors import Refused
from releasectl.host import Host
from releasectl.output import Result

USUAL_REASON = "The site is being worked on."
USUAL_SECONDS = 300
LONGEST_REASON = 500
# A week: whoever is told to stay away longer has been told to go.
MOST_SECONDS = 604_800

FOLDER = re.compile(r"([1-9]\d*)-[0-9a-f]{12}")
# What nginx looks for: without it there is no maintenance, whatever the link says.
AS_JSON, AS_HTML = "reason.json", "reason.html"


@dataclasses.dataclass(frozen=True)
class Closure:
    """What visitors are told while the site is closed.

    :param reason: one line for people.
    :param retry_after_seconds: when a client may ask again.
    """

    reason: str
    retry_after_seconds: int

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.retry_after_seconds}-{hashlib.sha256(self.reason.encode()).hexdigest()[:12]}"

    @property
    def files(self) -> dict[str, str]:
        """Its files' contents by name, each safe where nginx puts it: in an element, in a JSON string."""
        as_json = json.dumps(self.reason)[1:-1]
        for character in "<>&'":
            as_json = as_json.replace(character, f"\\u{ord(character):04x}")
        return {AS_HTML: html.escape(self.reason), AS_JSON: as_json}


def turn_on(host: Host, reason: str, seconds: int) -> Result:
    """Close the site, or change what a closed one says.

    :param reason: what visitors are told, one line.
    :param seconds: when they are to come again.
    :raises Refused: when the reason is no line of text, the time no time, or the link's place is taken.
    """
    closure = Closure(_checked_reason(reason), _checked_seconds(seconds))
    paths = host.layout
    if paths.maintenance.exists() and not paths.maintenance.is_symlink():
        raise Refused(f"{paths.maintenance} is not releasectl's: it makes a link there; move it away first")
    target = Path(paths.closures.name) / closure.folder
    if _is_told(host, closure):
        return _result(host, "already in maintenance", False, _unheard(host, closure))
    _write(paths.closures / closure.folder, closure.files)
    layout.point(paths.maintenance, target)
    _forget_others(host, closure.folder)
    return _result(host, "in maintenance", True, _unheard(host, closure))


def turn_off(host: Host) -> Result:
    """Open the site again.

    :raises Refused: when what stands in the link's place is not releasectl's.
    """
    paths = host.layout
    if not paths.maintenance.is_symlink():
        if paths.maintenance.exists():
            raise Refused(f"{paths.maintenance} is not releasectl's: it closes nothing; move it away")
        _forget_others(host, "")
        return _result(host, "not in maintenance", False)
    paths.maintenance.unlink()
    layout.sync_folder(paths.root)
    _forget_others(host, "")
    return _result(host, "out of maintenance", True)


def announced(host: Host) -> Closure | None:
    """Return what visitors are told, or nothing where the site is open."""
    try:
        found = FOLDER.fullmatch(host.layout.maintenance.readlink().name)
        text = (host.layout.maintenance / AS_JSON).read_text(encoding="utf-8")
        return Closure(str(json.loads(f'"{text}"')), int(found[1])) if found else None
    except (OSError, ValueError):
        return None


def state(host: Host) -> dict:
    """Return whether the site is closed, since when, and what visitors are told."""
    told = announced(host)
    if told is None:
        return {"on": False}
    since = clock.stamp(host.layout.maintenance.lstat().st_mtime)
    return {"on": True, "since": since, **dataclasses.asdict(told)}


def words(told: dict) -> str:
    """Return what `state` returned as a person reads it."""
    if not told["on"]:
        return "open to visitors"
    seconds = told["retry_after_seconds"]
    return f"closed for maintenance since {told['since']}, retry after {seconds} s: {told['reason']}"


def problem(host: Host) -> tuple[str, str] | None:
    """Return what does not add up and its repair: a link that is there and closes nothing."""
    link = host.layout.maintenance
    if not link.is_symlink() or (link / AS_JSON).is_file():
        return None
    return f"{link} leads nowhere: the site is open", host.command("maintenance off")


def _result(host: Host, result: str, changed: bool, remarks: list[str] | None = None) -> Result:
    told = state(host)
    lines = [f"{host.settings.app} is {words(told)}", *(f"  note: {remark}" for remark in remarks or ())]
    return Result(result, changed, "\n".join(lines), {"maintenance": told, "remarks": remarks or []})


def _unheard(host: Host, closure: Closure) -> list[str]:
    """Return a remark where nginx, asked from this host, says something else than that the site is closed."""
    edge = host.settings.edge
    if edge is None:
        return []
    home = urlsplit(edge.url)._replace(path="/", query="").geturl()
    answer = probe.edge(dataclasses.replace(edge, url=home))
    if answer.status == 503 and answer.body.get("detail") == closure.reason:
        return []
    seen = answer.status or answer.text
    return [
        f"this host asked {home} and got {seen}: its address is in nginx_maintenance_allowed_addresses, or "
        "nginx has not learnt of maintenance yet, which playbooks/site.yml teaches it"
    ]


def _checked_reason(reason: str) -> str:
    text = reason.strip()
    if not text or not text.isprintable() or len(text) > LONGEST_REASON:
        raise Refused(f"--reason takes one line of text, {LONGEST_REASON} characters at most")
    return text


def _checked_seconds(seconds: int) -> int:
    if not 1 <= seconds <= MOST_SECONDS:
        raise Refused(f"--retry-after takes whole seconds from 1 to {MOST_SECONDS}, not {seconds}")
    return seconds


def _is_told(host: Host, wanted: Closure) -> bool:
    """Whether every visitor is told just that already."""
    if announced(host) != wanted or host.layout.maintenance.readlink().name != wanted.folder:
        return False
    return all(_read(host.layout.maintenance / name) == text for name, text in wanted.files.items())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _write(folder: Path, files: dict[str, str]) -> None:
    """Make a closure's folder whole and durable, each file by rename: visitors may be told it already."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        fresh = folder / f".{name}.new"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(folder / name)
    layout.sync_folder(folder)
    layout.sync_folder(folder.parent)


def _forget_others(host: Host, kept: str) -> None:
    """Remove the folders nothing leads to, those of a killed run too."""
    folders = host.layout.closures
    if not kept:
        shutil.rmtree(folders, ignore_errors=True)
    for folder in folders.iterdir() if kept else ():
        if folder.name != kept:
            shutil.rmtree(folder, ignore_errors=True)
