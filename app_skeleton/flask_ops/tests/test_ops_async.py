"""Async views, many at once."""

import asyncio
import importlib.util
import json
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask, request
from flask_ops import async_views
from flask_ops.settings import SettingError
from flask_ops.testing import GunicornServer

MANY = 20


def served(app="app", **env):
    return GunicornServer(
        f"deadline_apps:{app}",
        GUNICORN_WORKER_CLASS="flask_ops",
        GUNICORN_WORKERS="1",
        PYTHONPATH=str(Path(__file__).parent),
        **env,
    )


@pytest.fixture(scope="module")
def gevent_server():
    with served(FLASK_OPS_REQUEST_DEADLINE_SECONDS="4", FLASK_OPS_BLOCKED_SECONDS="0") as server:
        yield server


@pytest.fixture(scope="module")
def shouting():
    """Return the port of a server that answers each line in capitals."""

    class Shout(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(self.rfile.readline().upper())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 100

    with Server(("127.0.0.1", 0), Shout) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def many_at_once(server):
    def ask(number):
        response, body = server.get(
            f"/async?n={number}&seconds=1", {"X-Request-ID": f"id-{number}"}, timeout=60
        )
        return response.status, body and json.loads(body)

    begun = time.monotonic()
    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(ask, range(MANY)))
    return answers, time.monotonic() - begun


def assert_own_ids(server, answers):
    logs = {(line["event"], line["request_id"]) for line in server.logs()}
    assert answers == [(200, {"n": str(number), "id": f"id-{number}"}) for number in range(MANY)]
    for number in range(MANY):
        assert {(f"before {number}", f"id-{number}"), (f"after {number}", f"id-{number}")} <= logs


def test_many_async_views_at_once_answer_with_their_own_request_id_in_the_logs(gevent_server):
    answers, seconds = many_at_once(gevent_server)
    assert_own_ids(gevent_server, answers)
    # One after the other they would take twenty seconds.
    assert seconds < MANY / 2


def test_more_views_than_threads_wait_for_their_turn_in_an_app_that_calls_init_app_itself():
    with served("own()", FLASK_OPS_ASYNC_THREADS="10") as server:
        before = int(server.get("/threads")[1])
        answers, _ = many_at_once(server)
        assert_own_ids(server, answers)
        assert int(server.get("/threads")[1]) == before + 10


def test_async_view_without_gevent_needs_no_asgiref():
    if importlib.util.find_spec("asgiref"):
        pytest.skip("asgiref is installed")
    app = Flask("plain")

    @app.get("/")
    async def view():
        await asyncio.sleep(0)
        return request.path

    async_views.install(app)
    assert app.test_client().get("/").text == "/"


def test_async_view_talks_to_many_servers_at_once(gevent_server, shouting):
    response, body = gevent_server.get(f"/async-tcp?port={shouting}")
    assert (response.status, json.loads(body)) == (200, [f"WORD {n}" for n in range(10)])


@pytest.mark.parametrize(
    ("path", "body"), [("/async-executor", b"from a thread"), ("/async-future", b"woken")]
)
def test_async_view_is_woken_by_its_threads_and_greenlets(gevent_server, path, body):
    begun = time.monotonic()
    assert gevent_server.get(path)[1] == body
    assert time.monotonic() - begun < 3


def test_exception_of_a_coroutine_keeps_its_traceback(gevent_server):
    response, _ = gevent_server.get("/async-boom", {"X-Request-ID": "boom"})
    assert response.status == 500
    told = [
        line["exception"]
        for line in gevent_server.logs()
        if line["request_id"] == "boom" and "exception" in line
    ]
    assert len(told) == 1
    assert "in boom\n" in told[0]
    assert told[0].endswith("LookupError: inside the coroutine")


def test_context_variable_set_by_the_view_reaches_what_comes_after(gevent_server):
    gevent_server.get("/async-bind", {"X-Request-ID": "bind"})
    after = [line for line in gevent_server.logs() if line["event"] == "after the view"]
    assert [(line["request_id"], line["user"]) for line in after] == [("bind", "from-the-view")]


def test_coroutine_past_the_deadline_is_cancelled_and_one_that_spins_is_ended(gevent_server):
    with ThreadPoolExecutor(2) as threads:
        paths = ("/async-wait", "/async-spin")
        answers = threads.map(
            lambda path: gevent_server.get(path, {"X-Request-ID": path[1:]}, timeout=60)[0], paths
        )
        assert [answer.status for answer in answers] == [503, 503]
    deadline = time.monotonic() + 60
    wanted = {("coroutine cancelled", "async-wait"), ("worker is recycled: its code was interrupted", None)}
    while not wanted <= {(line["event"], line["request_id"]) for line in gevent_server.logs()}:
        assert time.monotonic() < deadline, gevent_server.lines()
        time.sleep(0.1)


def test_an_apps_own_way_to_run_coroutines_is_kept():
    class Own(Flask):
        def async_to_sync(self, func):
            return func

    by_class, by_instance = Own("own"), Flask("own")
    by_instance.async_to_sync = kept = object()
    for app in (by_class, by_instance):
        async_views.install(app)
    assert "async_to_sync" not in vars(by_class)
    assert by_instance.async_to_sync is kept


def test_number_of_threads_is_bounded(monkeypatch):
    monkeypatch.setenv("FLASK_OPS_ASYNC_THREADS", "100000")
    with pytest.raises(SettingError, match="from 1 to 1000"):
        async_views.threads_at_most()
