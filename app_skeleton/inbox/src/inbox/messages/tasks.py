"""What workers do, and how often beat asks for it."""

from __future__ import annotations

import socket

from celery import Celery, shared_task
from sqlalchemy.exc import OperationalError

from .. import tasks as celery_of_app
from . import imports, processing, pruning, reports

#: At most so many messages a look: the next look is a few seconds away.
DUE_MAX = 500
#: While so many tasks wait, none is added. They may well be for the same messages: one that nobody comes to
#: within a minute is due once more.
WAITING_MAX = 10_000
#: Above what hosts' clocks differ by: by another host's clock a task has expired when it comes.
EXPIRES_SECONDS = 300
_AGAIN = {
    "autoretry_for": (OperationalError,),
    "retry_backoff": 2,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "max_retries": 10,
}


@shared_task(name="messages.process", bind=True, **_AGAIN)
def process(self, message_id: int) -> str:
    """Make one attempt at a message."""
    return processing.process(message_id, f"{self.request.hostname or socket.gethostname()}")


@shared_task(name="messages.dispatch_due", ignore_result=True)
def dispatch_due() -> int:
    """Hand out what waits: retries whose time has come, and what a lost worker or broker held."""
    found = processing.due(min(DUE_MAX, max(0, WAITING_MAX - celery_of_app.waiting(process))))
    for message_id in found:
        if not celery_of_app.send(process, message_id):
            break
    for import_id in imports.due():
        celery_of_app.send(read_import, import_id)
    return len(found)


@shared_task(name="messages.read_import", **_AGAIN)
def read_import(import_id: int) -> str:
    """Read a piece of a CSV file, and have the next piece read."""
    status = imports.read(import_id)
    if status == "reading":
        celery_of_app.send(read_import, import_id)
    return status


@shared_task(name="messages.make_reports", **_AGAIN)
def make_reports() -> int:
    """Make the reports of the last days that there are none of yet."""
    return reports.make_missing()


@shared_task(name="messages.prune", **_AGAIN)
def prune() -> int:
    """Delete what is older than it has to be kept."""
    return pruning.prune()


def schedule(celery: Celery) -> None:
    """Tell beat how often to send what, and where it waits; each task sees for itself if there is work."""
    upkeep = {"queue": celery_of_app.upkeep_queue(celery.flask_app)}
    celery.conf.task_routes = {task.name: upkeep for task in (dispatch_due, read_import, make_reports, prune)}
    celery.conf.beat_schedule = {
        "dispatch-due": {
            "task": dispatch_due.name,
            "schedule": 5.0,
            "options": {"expires": EXPIRES_SECONDS},
        },
        "make-reports": {"task": make_reports.name, "schedule": 600.0, "options": {"expires": 600}},
        "prune": {"task": prune.name, "schedule": 3600.0, "options": {"expires": 3600}},
    }
