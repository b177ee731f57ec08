"""Celery as it is started: ``celery --app inbox.worker worker``, and ``beat``, and ``flower``."""

from . import create_app, tasks

app = tasks.for_worker(create_app().extensions["celery"])
