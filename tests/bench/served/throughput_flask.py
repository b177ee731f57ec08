"""The app of bench.throughput in Flask, as its and Flask-SQLAlchemy's manuals write one."""

from __future__ import annotations

import os

import urllib3
from flask import Flask, render_template, request
from flask_sqlalchemy import SQLAlchemy
from items import LISTED, PEER_CONNECTIONS, PEER_URL, POOL, Columns, any_key, keys
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of the model."""


db = SQLAlchemy(model_class=Base)
peers = urllib3.PoolManager(maxsize=PEER_CONNECTIONS)


class Item(Columns, db.Model):
    """A row."""


def create_app() -> Flask:
    """Make the app."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCH_DATABASE_URL"]
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = POOL
    db.init_app(app)
    add_views(app, db, Item)
    return app


def add_views(app: Flask, db: SQLAlchemy, item_class: type[Columns]) -> None:
    """Add the views that are measured.

    :param app: the app.
    :param db: where it reads and writes.
    :param item_class: the model of a row.
    """

    @app.get("/hello")
    def hello():
        return {"hello": "world"}

    @app.get("/one/<int:key>")
    def one(key):
        return _shown(db.get_or_404(item_class, key))

    @app.get("/twenty/<int:start>")
    def twenty(start):
        return [_shown(db.get_or_404(item_class, key)) for key in keys(start)]

    @app.post("/update")
    def update():
        item = db.get_or_404(item_class, any_key())
        item.value += request.get_json()["by"]
        answer = _shown(item)
        db.session.commit()
        return answer

    @app.get("/page/<int:start>")
    def page(start):
        found = select(item_class).where(item_class.id >= start).order_by(item_class.id).limit(LISTED)
        return render_template("items.html", items=db.session.scalars(found).all())

    @app.post("/upload")
    def upload():
        size = 0
        while chunk := request.stream.read(64 * 1024):
            size += len(chunk)
        return {"size": size}

    @app.get("/slow")
    def slow():
        return {"peer": peers.request("GET", PEER_URL).json()}


def _shown(item: Columns) -> dict:
    return {"id": item.id, "name": item.name, "value": item.value}
