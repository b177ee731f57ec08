"""Hosts by utilisation, saturation and errors of each resource.

The method: https://www.brendangregg.com/usemethod.html
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from drawing import frame
from drawing.consoles import HOSTS, column, named
from drawing.panels import (
    BYTES,
    BYTES_A_SECOND,
    COUNT,
    EVENTS,
    FULL,
    GOOD,
    HOT,
    SECONDS,
    SHARE,
    TIMES,
    WARM,
    Column,
    curves,
    rows,
)

HOST, DEVICE = "{{instance}}", "{{instance}} {{device}}"


def board() -> Dashboard:
    """Return the dashboard."""
    says = "Each resource of a host: how much of it is used, what waits for it, what went wrong."
    parts = {
        "Hosts": [_hosts(), _failed()],
        "Processor and memory": _processor(),
        "Disks": _disks(),
        "Network": _network(),
    }
    return frame.board("hosts", "Flask app: hosts", says, 'up{job="node"}', parts)


def _cpu():
    return column("hosts", "cpu", HOST)


def _memory():
    return column("hosts", "memory", HOST)


def _hosts():
    answers = {"0": ("no", HOT), "1": ("yes", GOOD)}
    return rows(
        "Hosts",
        "As their node exporters tell.",
        {"instance": "host"},
        Column("CPU busy", SHARE, _cpu(), FULL),
        Column("load a CPU", TIMES, column("hosts", "load", HOST), ((1, WARM), (2, HOT))),
        Column("memory used", SHARE, _memory(), FULL),
        Column("pages swapped", EVENTS, column("hosts", "paging", HOST)),
        Column("units failed", COUNT, column("hosts", "failed", HOST), ((1, HOT),)),
        Column("up for", SECONDS, column("hosts", "booted", HOST)),
        Column("answers", COUNT, column("hosts", "hosts", HOST), meanings=answers),
        wide=16,
    )


def _failed():
    failed = f'node_systemd_unit_state{{state="failed", {HOSTS}}} == 1'
    labels = {"instance": "host", "name": "unit"}
    says = "What systemd has given up: docs/runbooks/UnitFailed.md."
    return rows("Failed units", says, labels, Column("failed", COUNT, named("", failed)), wide=8)


def _processor() -> list:
    modes = f'sum by (mode) (rate(node_cpu_seconds_total{{mode!="idle", {HOSTS}}}[5m]))'
    return [
        curves("CPU busy", SHARE, "Utilisation: of all CPUs together.", _cpu(), wide=8, limits=FULL),
        curves(
            "Load a CPU",
            TIMES,
            "Saturation: what runs or waits, for each CPU; past 1 something waits.",
            column("hosts", "load", HOST),
            wide=8,
            limits=((1, WARM),),
        ),
        curves(
            "CPU by what for", COUNT, "CPUs in use, of the chosen hosts.", named("{{mode}}", modes), wide=8
        ),
        curves(
            "Memory used",
            SHARE,
            "Utilisation: what programs could not have at once.",
            _memory(),
            limits=FULL,
        ),
        curves(
            "Pages swapped",
            EVENTS,
            "Saturation: in and out; for more than moments, memory is too small.",
            column("hosts", "paging", HOST),
        ),
    ]


def _disks() -> list:
    free = f'min by (instance, device) (node_filesystem_avail_bytes{{fstype!~"tmpfs|ramfs", {HOSTS}}})'
    row = "{{row}}"
    return [
        curves(
            "Full",
            SHARE,
            "Utilisation. DiskFilling alerts at 95 %, and at 75 % where it is full within a day.",
            column("hosts", "full", DEVICE),
            wide=8,
            limits=((0.75, WARM), (0.95, HOT)),
        ),
        curves("Free", BYTES, "Of each file system.", named(DEVICE, free), wide=8),
        curves(
            "Busy",
            SHARE,
            "Utilisation: time in which a disk had something to do.",
            column("hosts", "disks", DEVICE),
            wide=8,
            limits=FULL,
        ),
        curves(
            "Requests at once",
            TIMES,
            "Saturation: what a disk works on or has waiting, on average.",
            column("hosts", "queue", row),
            wide=8,
        ),
        curves("Read", BYTES_A_SECOND, "From each disk.", column("hosts", "read", row), wide=8),
        curves("Written", BYTES_A_SECOND, "To each disk.", column("hosts", "written", row), wide=8),
    ]


def _network() -> list:
    row = "{{row}}"
    return [
        curves("Received", BYTES_A_SECOND, "By each card.", column("hosts", "cards", DEVICE), wide=6),
        curves("Sent", BYTES_A_SECOND, "By each card.", column("hosts", "sent", row), wide=6),
        curves("Dropped", EVENTS, "Saturation: packets, both ways.", column("hosts", "lost", row), wide=6),
        curves("Errors", EVENTS, "Packets, both ways.", column("hosts", "errors", row), wide=6),
    ]
