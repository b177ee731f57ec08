"""The same app in Flask, with what docs/performance.md says an app can do for its speed."""

from __future__ import annotations

import os

from flask import Flask
from flask_ops import reads
from flask_ops.json_provider import OrjsonProvider
from flask_sqlalchemy import SQLAlchemy
from items import POOL, Columns
from sqlalchemy.orm import DeclarativeBase
from throughput_flask import add_views


class Base(DeclarativeBase):
    """Base of the model."""


db = SQLAlchemy(model_class=Base, session_options={"class_": reads.Session})


class Item(Columns, db.Model):
    """A row."""


def create_app() -> Flask:
    """Make the app; its two pools hold as many connections as the one of the others."""
    app = Flask(__name__)
    app.json = OrjsonProvider(app)
    url = os.environ["BENCH_DATABASE_URL"]
    reading = POOL["pool_size"] // 2
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = POOL | {"pool_size": POOL["pool_size"] - reading}
    app.config["SQLALCHEMY_BINDS"] = {
        reads.BIND_KEY: reads.engine_options(url, **POOL | {"pool_size": reading})
    }
    db.init_app(app)
    add_views(app, db, Item)
    return app
