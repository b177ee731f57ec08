"""flask_ops' own settings, the collector's part in the fork chosen by ``BENCH_FREEZE``."""

import gc
import os

FREEZE = os.environ["BENCH_FREEZE"]
if FREEZE == "disable":
    # Nothing is freed while the app loads, so that no hole in a shared page is filled after the fork.
    gc.disable()

from flask_ops.gunicorn_conf import *  # noqa: E402, F403


def when_ready(server):
    """Freeze what is loaded, or leave it; flask_ops' own hook of this name, if any, is replaced."""
    if FREEZE == "collect":
        gc.collect()
    if FREEZE != "off":
        gc.freeze()


_post_fork = globals().get("post_fork")


def post_fork(server, worker):
    """Collect again in the worker."""
    gc.enable()
    if _post_fork:
        _post_fork(server, worker)
