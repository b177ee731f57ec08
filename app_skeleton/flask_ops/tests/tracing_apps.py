"""Apps that call out, run SQL and crash; none of them knows flask_ops."""

import logging
import os
import urllib.request

import sqlalchemy as sa
from flask import Flask, jsonify, request

log = logging.getLogger("shop")
database = sa.create_engine(os.environ.get("TEST_DATABASE_URL", "sqlite://"))
app = Flask("shop")


@app.get("/")
def index():
    return "shop"


@app.get("/sql")
def sql():
    """Return what the server says the statement was that asked for it."""
    with database.connect() as connection:
        return connection.scalar(sa.text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"))


@app.get("/call")
def call():
    with urllib.request.urlopen(request.args["url"]) as answer:
        return answer.read()


@app.get("/boom")
def boom():
    raise ValueError("it broke")


@app.post("/leak")
def leak():
    """Put a secret of the request everywhere a careless app puts it."""
    secret = request.get_json()["password"]
    exported = os.environ["TEST_EXPORTED"]
    log.warning("asked for %s", request.url, extra={"password": secret, "headers": dict(request.headers)})
    log.error("environment %s and body %s", {"TEST_TOKEN": exported}, request.get_data(as_text=True))
    with urllib.request.urlopen(f"{request.args['url']}?token={secret}") as answer:
        answer.read()
    try:
        with database.connect() as connection:
            statement = sa.text("SELECT * FROM absent WHERE password = :password")
            connection.execute(statement, {"password": secret})
    except sa.exc.SQLAlchemyError:
        log.exception("no such table")
    raise ValueError(f"cannot read {request.get_data(as_text=True)} with {exported}")


@app.get("/headers")
def headers():
    return jsonify(dict(request.headers))
