"""gunicorn as its manual sets it up for gevent, nothing of flask_ops: what the bench compares with."""

# Before psycopg is imported, or each query blocks the worker.
from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402
import os  # noqa: E402

worker_class = "gevent"
workers = int(os.environ["GUNICORN_WORKERS"])
bind = os.environ["GUNICORN_BIND"]
preload_app = True
keepalive = 5
control_socket_disable = True
wsgi_app = "bench_app:create_app()"
# The app's own lines as plain text. Not by logconfig_dict: with one, gunicorn writes access lines too.
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
