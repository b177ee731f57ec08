"""flask_ops' own settings, the collector's part in the fork chosen by ``BENCH_FREEZE``."""

import gc
import os

FREEZE = os.environ["BENCH_FREEZE"]
if FREEZE == "disable":
    # Nothing is freed while the app loads, so that no hole in a shared page is filled after the fork.
    gc.disable()

from flask_ops import gunicorn_conf  # noqa: E402 - it may not load before that
from flask_ops.gunicorn_conf import *  # noqa: E402, F403

if FREEZE == "off":
    # Its hook calls this one. Freezing and taking it back is not the same: the collector's counts stay.
    gc.freeze = lambda: None


def when_ready(server):
    """Do as flask_ops does, which freezes with preload."""
    if FREEZE == "collect":
        gc.collect()
    gunicorn_conf.when_ready(server)


def post_fork(server, worker):
    """Collect in the worker, whatever the arbiter did."""
    gc.enable()
    gunicorn_conf.post_fork(server, worker)
