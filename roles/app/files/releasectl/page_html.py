"""Lay the status page out as HTML: one file, no script, nothing asked of anybody else, every word escaped."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

WORDS = {
    "up": "Up",
    "down": "Down",
    "maintenance": "Closed for maintenance",
    "unknown": "Not known",
}
# As the consoles of Prometheus look.
STYLE = """
:root { --ink: #1d2733; --quiet: #5b6774; --paper: #fff; --line: #d8dee5; --shade: #f3f5f8;
  --good: #1b6e3c; --warm: #b45f06; --hot: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --quiet: #9aa7b4; --paper: #14191f; --line: #323b46; --shade: #1c232b;
    --good: #7fce9b; --warm: #f0a35a; --hot: #f28b82 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
main, header div { max-width: 64rem; margin: 0 auto; padding: 0 1rem }
header { background: var(--shade); border-bottom: 1px solid var(--line); padding: .8rem 0 }
h1 { margin: 0; font-size: 1.5rem }
h2 { margin: 1.6rem 0 .4rem; font-size: 1.15rem; border-bottom: 2px solid var(--line) }
p { margin: .3rem 0 .6rem; overflow-wrap: anywhere }
.state { font-size: 1.2rem; font-weight: 600 }
.quiet { color: var(--quiet) }
.good { color: var(--good) }
.warm { color: var(--warm) }
.hot { color: var(--hot) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
thead th { color: var(--quiet); font-size: .85rem }
tbody th { font-weight: normal }
@media (max-width: 40rem) {
  body { font-size: 14px }
  main, header div { padding: 0 .7rem }
  thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden }
  tr { display: block; padding: .35rem 0; border-bottom: 1px solid var(--line) }
  tbody th, td { display: flex; gap: .6rem; justify-content: space-between; padding: .05rem 0; border: 0 }
  tbody th { font-weight: 600 }
  td.none { display: none }
  td > span { text-align: right }
  td::before { content: attr(data-of); color: var(--quiet); white-space: nowrap }
}
"""
NONE = "\N{EN DASH}"
# A cell is its words, or its words and how they are meant: `good`, `warm`, `hot`.
Cell = str | tuple[str, str]


def internal(told: dict) -> str:
    """Return the page for people of the host.

    :param told: what `page.gather` returned.
    """
    readiness, releases = told["readiness"], told["releases"]
    head = [_line("state", WORDS[told["state"]], _mood(told["state"])), _rendered(told)]
    if readiness and not readiness["ready"]:
        head.append(_line("", f"/readyz: {readiness['status']}", "hot"))
    parts = [
        _part(told, "Maintenance", "maintenance", _maintenance),
        _part(told, "Problems", "problems", _problems),
        _part(told, "Under way", "under_way", lambda who: "".join(map(_line_of, who))),
        _part(told, "Health checks", "readiness", lambda found: _checks(found["checks"])),
        _part(told, "Releases", "releases", _releases),
        _part(told, "Units", "units", _units),
        _part(told, "Workers", "workers", _workers),
        _part(told, "Error budgets", "budgets", _budgets),
        _part(told, "Certificates", "certificates", _certificates),
        _part(told, "Last deploys", "deploys", lambda found: _deploys(found["entries"])),
    ]
    if releases and releases["active"] is None:
        head.append(_line("", "No release is active.", "hot"))
    return _document(f"{told['app']} on {told['host']}", told, head, parts)


def public(told: dict) -> str:
    """Return the page for everybody.

    :param told: what `page.public` returned.
    """
    head = [_line("state", WORDS[told["state"]], _mood(told["state"])), _rendered(told)]
    closed = told["maintenance"]
    parts = [_section("Maintenance", _maintenance(closed))] if closed.get("on") else []
    parts.append(_section("Health checks", _checks(told["checks"])))
    parts.append(_section("Last deploy", _line("", _time(told["last_deploy_at"]) or "none yet")))
    return _document("Status", told, head, parts)


def _document(title: str, told: dict, head: Iterable[str], parts: Iterable[str]) -> str:
    again = max(5, round(told["rendered_every_seconds"]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="{again}">
<title>{_e(WORDS[told["state"]])}: {_e(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><div>
<h1>{_e(title)}</h1>
{"".join(head)}</div></header>
<main>
{"".join(parts)}</main>
</body>
</html>
"""


def _rendered(told: dict) -> str:
    every = f"{told['rendered_every_seconds']:g} s"
    text = f'Rendered at <time datetime="{_e(told["rendered_at"])}">{_e(_time(told["rendered_at"]))}</time>'
    return (
        f"<p>{text}, and anew every {every}. "
        '<span class="quiet">If that is long ago by your clock, nothing below is news.</span></p>\n'
    )


def _part(told: dict, title: str, name: str, words: Callable[[Any], str]) -> str:
    """Return a part of the page, or why it is left out; nothing where there is nothing to say."""
    if told[name] is None:
        return _section(title, _line("quiet", f"Left out: {told['unknown'].get(name, 'not known')}."))
    body = words(told[name])
    return _section(title, body) if body else ""


def _maintenance(closed: dict) -> str:
    if not closed.get("on"):
        return ""
    return _line("", f"Since {_time(closed.get('since'))}: {closed.get('reason')}", "warm")


def _problems(found: list[dict]) -> str:
    rows = [[(each["problem"], "hot"), each["repair"]] for each in found]
    return _table(["what does not add up", "repaired by"], rows) if rows else ""


def _checks(found: list[dict]) -> str:
    if not found:
        return _line("quiet", "The app told of none.")
    # Which the public is not told.
    timed = "duration_ms" in found[0]
    rows = [[each["id"], (each["state"], _mood(each["state"]))] for each in found]
    if timed:
        rows = [[*row, _amount(each["duration_ms"], "ms")] for row, each in zip(rows, found, strict=True)]
    return _table(["check", "state", *(["took"] if timed else [])], rows)


def _releases(found: dict) -> str:
    rows = []
    for each in found["staged"]:
        mark = "active" if each["active"] else "previous" if each["previous"] else ""
        mark = mark or ("canary" if each["id"] == found["canary"] else "")
        since = _time(found["active_since"]) if each["active"] else ""
        rows.append([each["id"], (mark, "good" if each["active"] else ""), since, _time(each["staged_at"])])
    return (
        _table(["release", "is", "active since", "staged"], rows)
        if rows
        else _line("quiet", "None is staged.")
    )


def _units(found: list[dict]) -> str:
    rows = [
        [
            each["unit"],
            (each["state"], _mood(each["state"])),
            each["detail"],
            "active" if each["active"] else "left",
        ]
        for each in found
    ]
    return _table(["unit", "state", "in detail", "release"], rows) if rows else _line("hot", "None is up.")


def _workers(found: dict) -> str:
    busy = f"{_amount(found['in_flight'])} of {_amount(found['in_flight_limit'])} requests at once"
    rows = [[each["worker"], _time(each["at"])] for each in found["started"]]
    return _line("", f"{found['up']} up, {busy}.") + _table(["worker", "started"], rows)


def _budgets(found: list[dict]) -> str:
    rows = []
    for each in found:
        used = each["budget_used"]
        mood = "" if used is None else "hot" if used > 0.9 else "warm" if used > 0.7 else "good"
        left = NONE if used is None else f"{100 * (1 - used):.1f} %"
        rows.append([each["goal"], _share(each["promised"]), _share(each["bad_share"]), (left, mood)])
    note = (
        "Over thirty days, or as far back as Prometheus remembers. A dash: nothing happened that it is about."
    )
    return _table(["goal", "promised", "bad", "budget left"], rows) + _line("quiet", note)


def _certificates(found: list[dict]) -> str:
    rows = []
    for each in found:
        days, renewed = each["days_left"], each["last_renewal_ok"]
        late = each["renewal_overdue"]
        mood = "hot" if days < 0 or (late and days < 3) else "warm" if late else "good"
        last = ("", "") if renewed is None else ("ok", "good") if renewed else ("failed", "hot")
        rows.append(
            [each["where"], (str(days), mood), _time(each["not_after"]), _time(each["renewal_due"]), last]
        )
    return _table(["certificate", "days left", "ends", "to be renewed from", "last renewal"], rows)


def _deploys(entries: list[dict]) -> str:
    rows = [
        [
            _time(each["at"]),
            each["command"],
            each["release"],
            (each["result"], _mood(each["result"])),
            _amount(each["seconds"], "s"),
            each["by"],
        ]
        for each in entries
    ]
    heads = ["when", "what", "release", "result", "took", "by"]
    return _table(heads, rows) if rows else _line("quiet", "There was none.")


def _mood(word: str) -> str:
    if word in ("up", "ok", "active", "done", "recovered"):
        return "good"
    return "warm" if word in ("maintenance", "unknown", "activating", "deactivating", "inactive") else "hot"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table; on a narrow screen each row is a block, and each cell says what it is of."""
    top = "".join(f'<th scope="col">{_e(head)}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(map(_cell, range(len(heads)), heads, row))}</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody>\n</table></div>\n'
    )


def _cell(number: int, head: str, cell: Cell) -> str:
    words, mood = cell if isinstance(cell, tuple) else (cell, "")
    shown = f'<span class="{mood}">{_e(words)}</span>' if mood else f"<span>{_e(words)}</span>"
    if number == 0:
        return f'<th scope="row">{shown}</th>'
    # Which a narrow screen has no room for.
    none = "" if words else ' class="none"'
    return f'<td data-of="{_e(head)}"{none}>{shown}</td>'


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{_e(title)}</h2>\n{body}</section>\n"


def _line(kind: str, text: str, mood: str = "") -> str:
    return f'<p class="{" ".join(filter(None, (kind, mood)))}">{_e(text)}</p>\n'


def _line_of(text: str) -> str:
    return _line("", text)


def _time(stamp: str | None) -> str:
    """Return `2026-01-31T12:01:03Z` as people read it."""
    return (stamp or "").replace("T", " ", 1).replace("Z", " UTC", 1)


def _amount(value: float | None, unit: str = "") -> str:
    return NONE if value is None else f"{value:g} {unit}".rstrip()


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.4g} %"


def _e(text: object) -> str:
    return html.escape(str(text))
