"""Apps that gunicorn serves in the tests of metrics."""

import os
import time

from flask import Flask, request


def _shop() -> Flask:
    app = Flask("shop")

    @app.route("/items/<int:item>", methods=["GET", "POST"])
    def item(item):
        return str(item)

    @app.get("/pid")
    def pid():
        return str(os.getpid())

    @app.get("/slow")
    def slow():
        time.sleep(float(request.args["seconds"]))
        return "done"

    @app.get("/block")
    def block():
        end = time.perf_counter() + float(request.args["seconds"])
        while time.perf_counter() < end:
            pass
        return "done"

    return app


shop = _shop()


def with_database() -> Flask:
    from flask_sqlalchemy import SQLAlchemy

    app, db = _shop(), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{os.environ['TEST_DATABASE']}"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 3, "max_overflow": 2}
    db.init_app(app)

    @app.get("/hold")
    def hold():
        with db.engine.connect():
            time.sleep(float(request.args["seconds"]))
        return "done"

    return app


def late(environ, start_response):
    """Say the status only when the body is asked for."""
    start_response("202 Accepted", [("Content-Length", "4")])
    yield b"late"
