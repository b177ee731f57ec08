"""Put what was measured in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from .kinds import Classic, Ours
from .rounds import DEPLOY, ON_HOST, ROLL_BACK, VISITORS, WARM, Bench, Loss
from .runs import Run

#: What a code-only deploy must be faster by than the play in Ansistrano's steps.
TIMES = 3
LIMITS = {
    (DEPLOY, 1): 5.0,
    (DEPLOY, 3): 8.0,
    (WARM.format(ROLL_BACK), 1): 3.0,
    (VISITORS.format(WARM.format(ON_HOST)), 1): 0.3,
}
ABOUT = """\
{ours}: playbooks/deploy.yml and rollback.yml. They build, gate on /readyz, switch, see the
release at the edge, switch worker, beat and Flower, drain and stop the old release.
{classic}: tests/bench/deploy/classic, the least of them: rsync, a virtual environment a release
by pip from wheels that lie on the host, migrate, link, systemctl restart of gunicorn, worker and beat,
keep 5. There is no gate before the switch and no drain behind it: the last column shows what that loses.
Both: the same app and change, pipelining, ControlPersist, no connection open at the start. Seconds are
ansible-playbook's from its start to its end, CPU the controller's; between two runs the host is let come to
rest. A round trip is a call of ssh or sftp,
counted by programs of those names that come first on PATH. Figures are medians, with the least and most.
warm: the release before was kept running without traffic (app_warm_seconds). served: until visitors have it
again, seen through nginx; worker and beat follow."""


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median of some values, the least and the most: of a handful nothing else can be said."""
    values = list(values)
    return {"median": round(median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def results(bench: Bench) -> list[dict[str, Any]]:
    """Return a row for each kind and action."""
    rows = [row(kind, action, runs) for (kind, action), runs in sorted(bench.runs.items())]
    rows += [
        {"kind": Ours.title, "action": action, "seconds": spread(found)}
        for action, found in bench.on_host.items()
    ]
    for found in rows:
        if found["action"] == DEPLOY:
            found["loss"] = loss(bench.losses.get(found["kind"], ()))
    return rows


def row(kind: str, action: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the runs of one action by one kind came to."""
    figures = [run.figures() for run in runs]
    counted = {name: spread(one[name] for one in figures) for name in figures[0]}
    return {"kind": kind, "action": action, **counted, "runs": figures}


def loss(losses: Sequence[Loss]) -> dict[str, Any] | None:
    """Return what was lost under load, None where nothing was asked."""
    if not losses:
        return None
    sums = {name: sum(getattr(one, name) for one in losses) for name in ("asked", "lost", "missing")}
    return {**sums, "seconds": spread(one.seconds for one in losses), "runs": [asdict(one) for one in losses]}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'':56}{'seconds':>9}{'least-most':>14}{'CPU s':>8}{'tasks':>7}{'round':>7}{'under':>9}"
        f"{'lost':>14}",
        f"{'':56}{'median':>9}{'':>14}{'':>8}{'run':>7}{'trips':>7}{'load, s':>9}{'requests':>14}",
    ]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    text = f"{row['kind']:20}{row['action']:36}{seconds['median']:9.2f}"
    text += f"{seconds['least']:8.2f}-{seconds['most']:.2f}".rjust(14)
    if "tasks_run" in row:
        tasks, trips = row["tasks_run"]["median"], row["round_trips"]["median"]
        text += f"{row['cpu_seconds']['median']:8.2f}{tasks:7.0f}{trips:7.0f}"
    if lost := row.get("loss"):
        text += f"{lost['seconds']['median']:9.2f}" + f"{lost['lost']} of {lost['asked']}".rjust(14)
    return text


def verdict(rows: Sequence[dict[str, Any]], hosts: int, *, quiet: bool) -> str:
    """Return a line for each limit that this project sets itself on so many hosts.

    :param quiet: whether nobody else was at work on the machine.
    """
    found = {(row["kind"], row["action"]): row["seconds"] for row in rows}
    lines = []
    for (action, count), limit in LIMITS.items():
        if count == hosts and (Ours.title, action) in found:
            seconds = found[Ours.title, action]
            held = _held(seconds["median"] <= limit, quiet)
            lines.append(f"{action} on {hosts} at most {limit:g} s: {seconds['median']:.2f} s, {held}")
    if {(Ours.title, DEPLOY), (Classic.title, DEPLOY)} <= found.keys():
        times = found[Classic.title, DEPLOY]["median"] / found[Ours.title, DEPLOY]["median"]
        held = _held(times >= TIMES, quiet)
        lines.append(
            f"deploy at least {TIMES} times as fast as Ansistrano's steps: {times:.1f} times, {held}"
        )
    for row in rows:
        if row.get("loss") and row["loss"]["missing"]:
            lines.append(f"{row['kind']}: {row['loss']['missing']} acknowledged webhooks missing or doubled")
    return "\n".join(lines)


def _held(held: bool, quiet: bool) -> str:
    return ("held" if held else "NOT HELD") if quiet else "not decided, the machine was busy"


def profile(found: dict[str, Any]) -> str:
    """Return where the seconds of a deploy go."""
    lines = []
    for action in ("deploy", "deploy of what runs", "rollback"):
        total = sum(row["seconds"] for row in found[action])
        lines += ["", f"{action} by Ansible: {total:.2f} s"]
        for row in found[action]:
            parts = ", ".join(
                f"{name} {seconds:.2f}" for name, seconds in row["parts"].items() if seconds >= 0.005
            )
            lines.append(f"  {row['seconds']:6.2f}  {row['name']}" + (f"  ({parts})" if parts else ""))
    lines += ["", "by hand, over one ssh a command:"]
    for command, steps in found["steps"].items():
        if isinstance(steps, float):
            lines.append(f"  {steps:6.2f}  {command}")
            continue
        lines.append(f"  {sum(step['seconds'] for step in steps):6.2f}  releasectl {command}")
        lines += [f"    {step['seconds']:6.2f}  {step['name']}" for step in steps]
    units = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found["units"].items())
    return "\n".join([*lines, "", f"from a unit's start to systemd's word that it is up, s: {units}"])
