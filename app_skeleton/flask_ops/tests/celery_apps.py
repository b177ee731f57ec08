"""A Celery app that knows nothing of flask_ops unless told to; files in a folder are its broker."""

import logging
import os
import time
import urllib.request
from pathlib import Path

import celery_queue  # noqa: F401
import click
import sqlalchemy as sa
from celery import Celery, signals
from prometheus_client import Counter

if os.environ.get("TEST_WITH_FLASK"):
    import flask_ops
    from flask import Flask

    flask_ops.init_app(Flask("shop"))

log = logging.getLogger("shop.tasks")
folder = Path(os.environ.get("TEST_BROKER_DIR", "."))
app = Celery("shop", broker=os.environ.get("TEST_BROKER_URL", "filesystem://"))
if "TEST_BROKER_URL" not in os.environ:
    app.conf.broker_transport_options = {
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.05,
    }
app.conf.update(
    broker_connection_retry_on_startup=True,
    beat_schedule={"often": {"task": "shop.note", "schedule": 0.2}},
    beat_max_loop_interval=0.2,
    beat_schedule_filename=str(folder / "schedule"),
    worker_enable_remote_control="TEST_REMOTE_CONTROL" in os.environ,
    task_ignore_result=True,
)
if "TEST_USER_OPTION" in os.environ:
    app.user_options["worker"].add(click.Option([os.environ["TEST_USER_OPTION"]]))
sold = Counter("shop_sold", "The app's own metric, made before any worker began")


@app.task(name="shop.note")
def note():
    log.info("noted")


@app.task(name="shop.sell")
def sell(article, *, password=None):
    """Do in a task all that carries the id on."""
    sold.inc()
    print("printed")
    if os.environ.get("TEST_DATABASE_URL"):
        with sa.create_engine(os.environ["TEST_DATABASE_URL"]).connect() as connection:
            log.info("statement", extra={"words": connection.scalar(sa.text("SELECT current_query()"))})
    if os.environ.get("TEST_ECHO_URL"):
        with urllib.request.urlopen(os.environ["TEST_ECHO_URL"]) as answer:
            log.info("call", extra={"headers_sent": answer.read().decode()})
    (note.si() | note.si()).delay()
    return article


@app.task(name="shop.fail")
def fail(password):
    secret = password
    raise LookupError(f"nothing sold of {len(secret)}")


@app.task(name="shop.hang", time_limit=1)
def hang():
    time.sleep(60)


@signals.worker_ready.connect
def ready(**_):
    log.warning("ready for work")
