"""Apps that gunicorn serves in the tests."""

import logging
import os
import threading
import time
import warnings
from pathlib import Path

from flask import Flask, jsonify, request
from flask_ops import Check, init_app

SECRET = "hunter2-in-a-local-variable"


def _routes(app: Flask) -> Flask:
    @app.get("/")
    def index():
        return {"scheme": request.scheme, "id": request.headers["X-Request-ID"]}

    @app.get("/items/<int:item>")
    def item(item):
        return str(item)

    @app.get("/slow")
    def slow():
        time.sleep(float(request.args["seconds"]))
        return "done"

    @app.get("/pid")
    def pid():
        return str(os.getpid())

    @app.get("/boom")
    def boom():
        password = SECRET
        raise ValueError(f"wrong length {len(password)}")

    @app.get("/log")
    def log():
        logging.getLogger("a.library").info("told %s of %d", "one", 3, extra={"colour": "green"})
        app.logger.warning("x" * 100_000)
        warnings.warn("old ways", stacklevel=1)
        threading.Thread(target=lambda: 1 / 0, name="dying").start()
        return "ok"

    @app.get("/greenlet")
    def greenlet():
        import gevent

        gevent.spawn(lambda: {}["absent"])
        return "ok"

    @app.get("/headers")
    def headers():
        return jsonify(dict(request.headers))

    return app


# Knows nothing of flask_ops.
unchanged = _routes(Flask("unchanged"))


def checked() -> Flask:
    app = _routes(Flask("checked"))
    healthy = Path(os.environ["TEST_HEALTHY_FILE"])

    def depends_on_file():
        healthy.read_bytes()

    def hangs():
        if os.environ.get("TEST_HANG"):
            time.sleep(60)

    init_app(app, checks=[Check("file", depends_on_file), Check("hanging", hangs, timeout_seconds=1.0)])
    return app


def raw(environ, start_response):
    start_response("200 OK", [("Content-Length", "3"), ("X-Request-ID", "the app's own")])
    return [b"raw"]


def broken() -> Flask:
    raise RuntimeError("no such thing as a broken app")
