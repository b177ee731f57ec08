"""The stock settings, and the hooks of the parts of flask_ops that ``BENCH_PARTS`` names.

Each is what ``flask_ops.gunicorn_conf`` does for that part, and no more.
"""

from stock_conf import *  # noqa: F403 - first: it patches

# isort: split
import gc
import logging
import os

import parts
from flask_ops import drain, in_flight, logs, multiproc, request_id

wsgi_app = "parts:create_app()"
# Without the metrics' part nothing makes this directory.
_directory = os.environ.pop("PROMETHEUS_MULTIPROC_DIR")

if "logs" in parts.NAMES:
    logging.getLogger().handlers.clear()
    logger_class = "flask_ops.gunicorn_logger.OpsLogger"
    logs.take_over()

if "ids" in parts.NAMES:

    def pre_request(worker, req):
        """Close the connection while draining."""
        if drain.draining_lately():
            req.force_close()

    def post_request(worker, req, environ, resp):
        """Forget the request id."""
        request_id.end_request()


if "metrics" in parts.NAMES:

    def nworkers_changed(server, new, old):
        """Prepare the metrics directory."""
        if old is None:
            multiproc.prepare(_directory)

    def pre_fork(server, worker):
        """Give the worker its slot."""
        worker.slot = multiproc.lowest_free_slot(w.slot for w in server.WORKERS.values())

    def post_fork(server, worker):
        """Write metrics to the slot."""
        multiproc.use_slot(worker.slot)

    def pre_request(worker, req):
        """Count the requests in flight."""
        in_flight.begins(id(req))

    def post_request(worker, req, environ, resp):
        """Count the requests in flight."""
        in_flight.ends(id(req))


if "freeze" in parts.NAMES:

    def when_ready(server):
        """Hide what is loaded from the collector."""
        gc.freeze()


def post_worker_init(worker):
    """Start what a part has running in each worker."""
    if "logs" in parts.NAMES:
        logs.settle()
    if "metrics" in parts.NAMES:
        from flask_ops import process_metrics

        process_metrics.start_sampler(worker, gevent=True)
    if "deadline" in parts.NAMES:
        from flask_ops import watchdog

        watchdog.start(worker)
