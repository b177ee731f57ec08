"""Celery: tasks, queues, workers, beat."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from drawing import frame
from drawing.consoles import APP, HOSTS, column, figure, named
from drawing.panels import COUNT, EVENTS, GOOD, HOT, SECONDS, SHARE, TASKS, WARM, Column, curves, rows
from drawing.panels import figure as shown

# When QueueStuck and BeatSilent alert: rules/tasks.yml.
SILENT_SECONDS = 900


def board() -> Dashboard:
    """Return the dashboard."""
    says = "Work in the background: tasks by how they end, queues, workers and beat."
    parts = {"Now": _now(), "Tasks": _tasks(), "Queues": _queues(), "Workers and beat": _workers()}
    return frame.board("tasks", "Flask app: tasks", says, 'up{job="app"}', parts)


def _beat():
    return figure("tasks", "Beat last looked at its schedule")


def _units():
    return figure("tasks", "Workers' units that run", "$app", HOSTS)


def _now() -> list:
    waiting = named("tasks", f"sum(app:queue_tasks:max{{{APP}}})")
    oldest = named("oldest", f"max(app:queue_oldest_age_seconds:max{{{APP}}})")
    late = ((SILENT_SECONDS / 2, WARM), (SILENT_SECONDS, HOT))
    return [
        shown(
            "Workers' units that run",
            COUNT,
            "As systemd sees them, of all releases.",
            _units(),
            limits=((1, GOOD),),
            below=HOT,
        ),
        shown("Tasks that ended", TASKS, "In whatever way.", figure("tasks", "Tasks that ended")),
        shown(
            "Of those, failed",
            SHARE,
            "One that is tried again counts when it ends.",
            figure("tasks", "Of those, failed"),
            limits=((0.01, WARM), (0.1, HOT)),
        ),
        shown("Tasks that wait", COUNT, "In all queues, as beat saw them.", waiting),
        shown("The next one waits for", SECONDS, "Red: QueueStuck. Not with RabbitMQ.", oldest, limits=late),
        shown("Beat last looked", SECONDS, "At its schedule. Red: BeatSilent.", _beat(), limits=late),
    ]


def _tasks() -> list:
    ended = f"sum by (state) (rate(flask_ops_tasks_total{{{HOSTS}}}[5m]))"
    failing = f'sum by (task) (rate(flask_ops_tasks_total{{state=~"failure|retry", {HOSTS}}}[5m]))'
    each = f"sum by (task) (rate(flask_ops_tasks_total{{{HOSTS}}}[5m]))"
    return [
        curves("Tasks by how they end", TASKS, "Success, failure, retry.", named("{{state}}", ended), wide=8),
        curves("Tasks that end", TASKS, "By what they do.", named("{{task}}", each), wide=8),
        curves("Failed or tried again", TASKS, "By what they do.", named("{{task}}", failing), wide=8),
        rows(
            "In the last hour",
            "A dash: that did not occur.",
            {"task": "task"},
            Column("ended", COUNT, column("tasks", "tasks", "{{task}}")),
            Column("failed", COUNT, column("tasks", "failed", "{{task}}"), ((1, HOT),)),
            Column("tried again", COUNT, column("tasks", "again", "{{task}}"), ((1, WARM),)),
            Column("p50", SECONDS, column("tasks", "p50", "{{task}}")),
            Column("p95", SECONDS, column("tasks", "p95", "{{task}}")),
            Column("share of all time spent", SHARE, column("tasks", "busy", "{{task}}")),
        ),
        curves(
            "Duration, p95",
            SECONDS,
            "Of all tasks; nineteen of twenty are faster.",
            figure("tasks", "Duration, p95"),
        ),
        curves(
            "Duration by task, p95 of an hour",
            SECONDS,
            "Nineteen of twenty are faster.",
            column("tasks", "p95", "{{task}}"),
        ),
    ]


def _queues() -> list:
    taken = f"sum by (queue) (rate(flask_ops_task_wait_seconds_count{{{HOSTS}}}[5m]))"
    stuck = ((SILENT_SECONDS, HOT),)
    age = column("tasks", "age", "{{queue}}", APP)
    return [
        curves(
            "Tasks that wait",
            COUNT,
            "As beat saw them, within a quarter of a minute.",
            column("tasks", "queues", "{{queue}}", APP),
            wide=6,
        ),
        curves("The next one waits for", SECONDS, "The line: QueueStuck.", age, wide=6, limits=stuck),
        curves(
            "Waited, p95 of an hour",
            SECONDS,
            "Until a worker took them, from when they were due.",
            column("tasks", "wait", "{{queue}}"),
            wide=6,
        ),
        curves("Tasks taken", EVENTS, "From each queue, by workers.", named("{{queue}}", taken), wide=6),
    ]


def _workers() -> list:
    running = (
        'sum by (instance) (node_systemd_unit_state{name=~"$app-worker@.+", state="active", ' + HOSTS + "})"
    )
    busy = f"sum by (instance) (rate(flask_ops_task_duration_seconds_sum{{{HOSTS}}}[5m]))"
    return [
        curves(
            "Workers' units", COUNT, "Active, as systemd sees them.", named("{{instance}}", running), wide=8
        ),
        curves("Tasks at once", COUNT, "On average over five minutes.", named("{{instance}}", busy), wide=8),
        curves(
            "Beat last looked at its schedule",
            SECONDS,
            "Of several hosts one does. The line: BeatSilent.",
            _beat(),
            wide=8,
            limits=((SILENT_SECONDS, HOT),),
        ),
    ]
