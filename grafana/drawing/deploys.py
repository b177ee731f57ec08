"""What was deployed, how it went, and how releases follow one another."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from drawing import frame, service
from drawing.consoles import HOSTS, column, named
from drawing.panels import AT, COUNT, GOOD, HOT, REQUESTS, SECONDS, SHARE, WARM, Column, curves, rows
from drawing.panels import figure as shown

TOUCHING = 'command=~"deploy|stage|migrate|contract|activate|canary|rollback"'
# releasectl's exit codes.
RESULTS = {
    "0": ("done", GOOD),
    "2": ("failed, the old release serves", HOT),
    "3": ("failed, switched back", HOT),
    "4": ("locked by somebody", WARM),
    "5": ("refused, nothing touched", WARM),
}


def board() -> Dashboard:
    """Return the dashboard."""
    says = "What was deployed and how it went, and the releases side by side."
    parts = {
        "Now": _now(),
        "Releases side by side": [_releases()],
        "Releases over time": [*service.releases(), *_handover()],
        "What was done last": _commands(),
    }
    return frame.board("deploys", "Flask app: deploys", says, 'up{job="releasectl"}', parts)


def _now() -> list:
    last = f"time() - max(releasectl_last_command_timestamp_seconds{{{TOUCHING}, {HOSTS}}})"
    many = f"count(count by (release) (releasectl_active_release_info{{{HOSTS}}}))"
    failed = f"count(releasectl_last_command_exit_code{{{TOUCHING}, {HOSTS}}} >= 2 < 4) or vector(0)"
    closed = f"sum(releasectl_maintenance{{{HOSTS}}})"
    commands = f'sum(increase(releasectl_commands_total{{command="activate", {HOSTS}}}[1d]))'
    return [
        shown(
            "Since the last deploy", SECONDS, "Or any other command about a release.", named("since", last)
        ),
        shown(
            "Releases active",
            COUNT,
            "More than one: hosts do not agree, as while a deploy goes through them.",
            named("releases", many),
            limits=((2, WARM),),
        ),
        shown(
            "Commands that failed",
            COUNT,
            "Of each command on each host the last time; which, below.",
            named("commands", failed),
            limits=((1, HOT),),
        ),
        shown(
            "Hosts in maintenance", COUNT, "Closed to visitors.", named("hosts", closed), limits=((1, WARM),)
        ),
        shown("Activations, 1 d", COUNT, "On all chosen hosts.", named("activations", commands)),
        shown(
            "Workers",
            COUNT,
            "Of all releases that run.",
            named("workers", f'sum(flask_ops_workers{{service=~".*-web", {HOSTS}}})'),
        ),
    ]


def _releases():
    return rows(
        "Releases",
        "One that is active on no host is a canary, drains, or was not stopped.",
        {"release": "release"},
        Column("hosts it is active on", COUNT, column("releases", "active", "{{release}}")),
        Column("workers", COUNT, column("releases", "workers", "{{release}}")),
        Column("oldest worker", SECONDS, column("releases", "started", "{{release}}")),
        Column("requests", REQUESTS, column("releases", "requests", "{{release}}")),
        Column("5xx", SHARE, column("releases", "errors", "{{release}}"), ((0.001, WARM), (0.01, HOT))),
        Column("p95", SECONDS, column("releases", "p95", "{{release}}")),
        Column("in flight", COUNT, column("releases", "flight", "{{release}}")),
    )


def _handover() -> list:
    active = column("releases", "active", "{{release}}")
    return [
        curves("Hosts by active release", COUNT, "Where traffic goes to.", active),
        curves(
            "Workers by release",
            COUNT,
            "A new release's come up before the old one's go.",
            column("releases", "workers", "{{release}}"),
        ),
    ]


def _commands() -> list:
    last = "releasectl_last_command"
    each = {"command": "command", "instance": "host"}
    phases = f"max by (command, phase) ({last}_phase_seconds{{{HOSTS}}})"
    done = f"sum by (command, result) (increase(releasectl_commands_total{{{HOSTS}}}[1h]))"
    return [
        rows(
            "Commands",
            "Of each command the last time on each host. All of them: sudo releasectl log.",
            each,
            Column("ended", AT, named("", f"{last}_timestamp_seconds{{{HOSTS}}} * 1000")),
            Column("result", COUNT, named("", f"{last}_exit_code{{{HOSTS}}}"), meanings=RESULTS),
            Column("took", SECONDS, named("", f"{last}_duration_seconds{{{HOSTS}}}")),
        ),
        curves("Commands in an hour", COUNT, "By what came of them.", named("{{command}}: {{result}}", done)),
        curves(
            "Phases of the last command",
            SECONDS,
            "How long each took, on the slowest host.",
            named("{{command}}: {{phase}}", phases),
        ),
    ]
