"""An app that asks its database while it is imported, as those that migrate themselves do."""

import gc
import os
from pathlib import Path

import sqlalchemy
from flask import Flask

DATABASE = Path(os.environ.get("DATABASE", "unset"))


def asking_early() -> Flask:
    app = Flask("asking_early")
    engine = sqlalchemy.create_engine(f"sqlite:///{DATABASE}", poolclass=sqlalchemy.QueuePool)
    memory = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    app.extensions["early"] = engine
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table if not exists t (n int)"))
    with memory.begin() as connection:
        connection.execute(sqlalchemy.text("create table t as select 7 as n"))

    @app.get("/inherited")
    def inherited():
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return {"connections": links.count(DATABASE)}

    @app.get("/in-memory")
    def in_memory():
        with memory.connect() as connection:
            return {"n": connection.scalar(sqlalchemy.text("select n from t"))}

    @app.get("/garbage")
    def garbage():
        return {"frozen": gc.get_freeze_count(), "threshold": gc.get_threshold()[0], "looks": gc.isenabled()}

    return app
