"""What an app opens while it is imported is not shared by its workers."""

import gc
import json
from pathlib import Path

import pytest
import sqlalchemy
from flask_ops import forking
from flask_ops.testing import GunicornServer


@pytest.fixture(scope="module", params=["flask_ops", "sync"])
def server(request, tmp_path_factory):
    settings = {
        "PYTHONPATH": str(Path(__file__).parent),
        "GUNICORN_WORKER_CLASS": request.param,
        "DATABASE": str(tmp_path_factory.mktemp("early") / "early.sqlite"),
    }
    with GunicornServer("forking_apps:asking_early()", **settings) as server:
        yield server


def test_worker_inherits_no_connection_of_the_arbiters(server):
    assert json.loads(server.get("/inherited")[1]) == {"connections": 0}


def test_database_in_memory_outlives_the_fork(server):
    assert json.loads(server.get("/in-memory")[1]) == {"n": 7}


def test_worker_looks_for_garbage_as_usual_but_not_in_what_was_loaded(server):
    found = json.loads(server.get("/garbage")[1])
    assert found["frozen"] > 10_000
    assert found["threshold"] == gc.get_threshold()[0]
    assert found["looks"]


def test_engine_opens_a_connection_anew_after_its_pool_was_closed(tmp_path):
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/one.sqlite", poolclass=sqlalchemy.QueuePool)
    with engine.connect():
        pass
    assert engine.pool.checkedin() == 1
    assert forking.close_pools() >= 1
    assert engine.pool.checkedin() == 0
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("select 1")) == 1
