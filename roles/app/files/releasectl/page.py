"""Render the status page: what is known of an app on this host, for whoever opens a browser.

It is rendered by a timer and served by nginx as a file, so that looking at it asks nothing of the app, and it
is there while the app is down. All questions are asked side by side and given up after the same time: one
that hangs is told as unanswered, and the rest of the page is there all the same.
"""

from __future__ import annotations

import json
import math
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

from releasectl import (
    clock,
    inspection,
    ledger,
    lock,
    locking,
    maintenance,
    page_html,
    probe,
    scraped,
    systemd,
    units,
)
from releasectl.errors import Failed, Refused, ReleasectlError
from releasectl.host import Host
from releasectl.layout import replace
from releasectl.output import Result

# Above what any one of them takes on a host that is well, below TimeoutStartSec= of the unit.
ANSWER_SECONDS = 10
DEPLOYS = 10
# An app says what its checks are called, and how many there are.
MOST_CHECKS, LONGEST_WORD = 50, 100

UP, DOWN, CLOSED, UNKNOWN = "up", "down", "maintenance", "unknown"


def render(host: Host, folder: Path) -> Result:
    """Write the page for people of this host and for the public, each as HTML and as JSON, each by rename.

    :param folder: where; the names in it are `index.html`, `index.json`, `public.html` and `public.json`.
    :raises Refused: when it is no folder.
    :raises Failed: when a file cannot be written.
    """
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder")
    told = gather(host)
    shown = public(told)
    files = {
        "index.html": page_html.internal(told),
        "index.json": _json(told),
        "public.html": page_html.public(shown),
        "public.json": _json(shown),
    }
    try:
        for name, text in files.items():
            # Half a character, which JSON can name, is no reason to go without the page.
            replace(folder / name, text.encode(errors="replace"), 0o644)
    except OSError as error:
        raise Failed(f"{folder} cannot be written: {error}") from error
    paths = [str(folder / name) for name in files]
    return Result("rendered", True, f"{told['state']}: {', '.join(paths)}", {"files": paths, "page": told})


def gather(host: Host) -> dict:
    """Return what the page of this host shows.

    What there is no answer to is null, and `unknown` says why, by the same name.
    """
    begun = time.monotonic()
    answers, unknown = _answers(
        {
            "releases": lambda: _releases(host),
            "readiness": lambda: _readiness(host),
            "maintenance": lambda: maintenance.state(host),
            "units": lambda: _units(host),
            "workers": lambda: _workers(host),
            "problems": lambda: inspection.problems(host),
            "certificates": lambda: scraped.certificates(host.settings.page_certificates),
            "budgets": lambda: scraped.budgets(host.settings.page_prometheus, host.settings.app),
            "deploys": lambda: _deploys(host),
            "under_way": lambda: _under_way(host),
        }
    )
    return {
        "app": host.settings.app,
        "host": platform.node(),
        "state": _state(answers),
        "rendered_at": clock.now(),
        "rendered_every_seconds": host.settings.page_every_seconds,
        "rendering_seconds": round(time.monotonic() - begun, 3),
        **answers,
        "unknown": unknown,
    }


def public(told: dict) -> dict:
    """Return what anybody may know of what `gather` returned: no host, no unit, no release and no person.

    Named one by one, so that what the other page learns to show stays there.
    """
    readiness, deploys = told["readiness"] or {}, told["deploys"] or {}
    closed = told["maintenance"] or {"on": None}
    return {
        "state": told["state"],
        "rendered_at": told["rendered_at"],
        "rendered_every_seconds": told["rendered_every_seconds"],
        "checks": [{name: check[name] for name in ("id", "state")} for check in readiness.get("checks", [])],
        "maintenance": {name: closed[name] for name in ("on", "since", "reason") if name in closed},
        "last_deploy_at": deploys.get("last_at"),
    }


def _answers(questions: dict[str, Callable[[], object]]) -> tuple[dict, dict[str, str]]:
    """Ask everything at once; return the answers by name, and why there is none to some."""
    found: dict[str, object] = {}
    missing: dict[str, str] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            found[name] = question()
        except ReleasectlError as error:
            missing[name] = error.cause
        except Exception as error:
            # One part of the page that nobody thought of must not cost the others.
            missing[name] = f"{type(error).__name__}: {error}"

    # Not of a pool, whose threads are waited for at the end: one that hangs is left behind.
    threads = [threading.Thread(target=ask, args=each, daemon=True) for each in questions.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    # What comes in from here on is too late for this page.
    answers, why = dict(found), dict(missing)
    late = f"no answer within {ANSWER_SECONDS} s"
    unknown = {name: why.get(name, late) for name in questions if name not in answers}
    return {name: answers.get(name) for name in questions}, unknown


def _state(answers: dict) -> str:
    """Return in a word whether visitors are served."""
    closed, readiness, releases = (answers[name] for name in ("maintenance", "readiness", "releases"))
    if closed and closed["on"]:
        return CLOSED
    if releases and releases["active"] is None:
        return DOWN
    if readiness is None:
        return UNKNOWN
    return UP if readiness["ready"] else DOWN


def _releases(host: Host) -> dict:
    layout = host.layout
    active, entries = layout.active(), ledger.read(layout.ledger)
    served = [entry for entry in entries if ledger.serves(entry) and str(entry.get("release")) == active]
    previous, canary = layout.linked(layout.previous), layout.canary()
    return {
        "active": active,
        "active_since": _word(served[-1].get("at")) if served else None,
        "previous": previous,
        "canary": canary if canary != active else None,
        "staged": [
            {
                "id": one,
                "staged_at": clock.stamp(layout.release(one).stat().st_mtime),
                "active": one == active,
                "previous": one == previous,
            }
            for one in reversed(layout.staged())
        ],
    }


def _readiness(host: Host) -> dict:
    """Ask the active release what it asks its dependencies."""
    active = _running(host)
    if active is None:
        return {"ready": False, "status": "not running", "checks": []}
    answer = probe.instance(host.layout.socket(active), host.settings.ops_prefix)
    told = answer.body.get("checks")
    checks = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    return {
        "ready": answer.ready(active),
        "status": _word(answer.body.get("status") or answer.status or "no answer"),
        "checks": [
            {
                "id": _word(each.get("id")),
                "state": _word(each.get("state")),
                "duration_ms": _number(each.get("duration_ms")),
            }
            for each in checks[:MOST_CHECKS]
        ],
    }


def _running(host: Host) -> str | None:
    """Return the active release if its instance runs: to ask a socket whose service is down would start it.

    :raises Refused: when there is none, or only root may ask it.
    """
    active = host.layout.active()
    if active is None:
        raise Refused("no release is active")
    if not systemd.show(host.service(active)).running:
        return None
    if not os.access(host.layout.socket(active), os.W_OK):
        raise Refused("only root may ask it")
    return active


def _units(host: Host) -> list[dict]:
    """Return every unit of a release that is up, on its way or failed, the active release's first."""
    app, active = host.settings.app, host.layout.active()
    states = systemd.matching(*_patterns(app))
    owned = [(name, one) for name in states if (one := _release_of(app, name))]
    owned.sort(key=lambda each: (each[1] != active, each))
    return [
        {
            "unit": name,
            "release": release,
            "active": release == active,
            "state": states[name].active,
            "detail": _detail(states[name]),
        }
        for name, release in owned
    ]


def _detail(state: systemd.UnitState) -> str:
    return state.sub if state.result == "success" else f"{state.sub}, {state.result}"


def _patterns(app: str) -> list[str]:
    return [units.pattern(app), *units.companion_patterns(app)]


def _release_of(app: str, unit: str) -> str | None:
    companion = units.companion_of(app, unit)
    return companion[1] if companion else units.release_of(app, unit)


def _workers(host: Host) -> dict:
    """Return what gunicorn's workers of the active release write down of themselves."""
    active = _running(host)
    if active is None:
        raise Refused("the active release does not run")
    answer = probe.metrics(host.layout.socket(active), host.settings.ops_prefix)
    if answer.status != 200:
        raise Failed(f"/metrics: {answer.status or answer.text}")
    return scraped.workers(answer.text, active, f"{host.settings.app}-{units.WEB}")


def _deploys(host: Host) -> dict:
    """Return the last changes of what serves, and whatever failed, the newest first."""
    entries = ledger.read(host.layout.ledger)
    wanted = [entry for entry in entries if entry.get("command") in ledger.SERVED_COMMANDS or _failed(entry)]
    served = [entry for entry in entries if ledger.serves(entry)]
    # Not the cause of a failure, which may quote what the app wrote: `releasectl log` has it.
    names = ("at", "command", "release", "by", "result")
    return {
        "last_at": _word(served[-1].get("at")) if served else None,
        "entries": [
            {
                **{name: _word(entry.get(name)) for name in names},
                "seconds": _number(entry.get("duration_seconds")),
            }
            for entry in wanted[: -DEPLOYS - 1 : -1]
        ],
    }


def _failed(entry: dict) -> bool:
    return entry.get("exit", 0) != 0


def _under_way(host: Host) -> list[str]:
    """Return who changes something now, or has reserved the app."""
    return [str(one) for one in (lock.holder(host.layout.lock), locking.held(host)) if one]


def _word(value: object) -> str:
    """Return what an app or an old line of the ledger says, at a length a page can hold."""
    return "" if value is None else str(value)[:LONGEST_WORD]


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if good else None


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
