"""What flask_ops promises under a real gunicorn."""

import json
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
import sample_apps
from flask_ops import drain
from flask_ops.testing import GunicornServer, eventually

WORKER_CLASSES = ["flask_ops", "gevent", "gthread", "sync"]


@pytest.fixture(scope="module")
def running():
    """One server of each worker class for the tests that leave it as it was, started when it is asked for."""
    with ExitStack() as servers:

        @cache
        def server(worker_class):
            made = GunicornServer(
                "sample_apps:unchanged",
                GUNICORN_WORKER_CLASS=worker_class,
                PYTHONPATH=str(Path(__file__).parent),
            )
            made.env["FLASK_OPS_CONTROL_SOCKET"] = str(made.folder / "gunicorn.ctl")
            return servers.enter_context(made)

        yield server


@pytest.fixture
def to_drain(running):
    """The same servers, for tests that let them drain."""
    used = []

    def server(worker_class):
        used.append(running(worker_class))
        return used[-1]

    yield server
    for each in used:
        each.drain_file.unlink(missing_ok=True)
    time.sleep(drain.LOOK_SECONDS)


def begin_to_drain(server):
    """Have each request from here on find its server draining."""
    server.drain_file.touch()
    time.sleep(drain.LOOK_SECONDS)


def say_nonsense(server, *, after_a_request):
    """Make gunicorn log about a connection, after a request whose id that line must not carry."""
    connection = server.connect()
    connection.connect()
    if after_a_request:
        connection.request("GET", "/livez")
        connection.getresponse().read()
    connection.sock.sendall(b"no such thing as http\r\n\r\n")
    assert b"400 Bad Request" in connection.sock.recv(100)
    connection.close()


@pytest.mark.parametrize("worker_class", WORKER_CLASSES)
def test_drain_file_closes_connections_and_ends_readiness(to_drain, worker_class):
    server = to_drain(worker_class)
    connection = server.connect()
    for _ in range(3):
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert json.load(answer)["status"] == "ready"
        # sync closes every connection, drain or not
        assert answer.getheader("Connection") == ("close" if worker_class == "sync" else "keep-alive")
    begin_to_drain(server)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (503, "close")
    assert json.load(answer)["status"] == "draining"
    answer, _ = server.get("/livez")
    assert (answer.status, answer.getheader("Connection")) == (200, "close")


@pytest.mark.parametrize("worker_class", ["flask_ops", "gevent", "gthread"])
def test_connection_promised_keep_alive_outlives_the_start_of_a_drain(to_drain, worker_class):
    server = to_drain(worker_class)
    connection = server.connect()
    connection.request("GET", "/slow?seconds=0.4")
    time.sleep(0.2)
    begin_to_drain(server)
    server.get("/livez")
    answer = connection.getresponse()
    assert (answer.read(), answer.getheader("Connection")) == (b"done", "keep-alive")
    time.sleep(0.2)
    sock = connection.sock
    connection.request("POST", "/livez")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (405, "close")
    assert sock is not None


@pytest.mark.parametrize("worker_class", WORKER_CLASSES)
def test_line_about_a_connection_carries_no_request_id(running, worker_class):
    server = running(worker_class)
    say_nonsense(server, after_a_request=worker_class != "sync")
    about_connections = eventually(
        lambda: [line for line in server.logs() if "Invalid request" in line["event"]]
    )
    assert [(line["logger"], line["request_id"]) for line in about_connections] == [("gunicorn.error", None)]


def test_every_line_is_json_from_start_to_stop(serve):
    # For gevent and gthread: test_ops_stdio.py.
    with serve(
        "unchanged", GUNICORN_WORKER_CLASS="sync", FLASK_OPS_SERVICE="shop-web", RELEASE_ID="r1"
    ) as server:
        server.get("/boom", {"X-Request-ID": "req-1"})
        server.get("/log", {"X-Request-ID": "req-2"})
        server.get("/boom", {"X-Request-ID": "not; allowed"})
        assert server.stop() == 0
        logs = server.logs()
    for line in logs:
        assert list(line)[:7] == ["timestamp", "level", "event", "logger", "request_id", "release", "service"]
        assert (line["release"], line["service"]) == ("r1", "shop-web")
    boom = next(line for line in logs if line["request_id"] == "req-1")
    assert boom["level"] == "error"
    assert "ValueError: wrong length" in boom["exception"]
    assert sample_apps.SECRET not in server.text
    told = [line for line in logs if line["request_id"] == "req-2"]
    library = next(line for line in told if line["logger"] == "a.library")
    assert (library["event"], library["colour"]) == ("told one of 3", "green")
    long = next(line for line in told if line.get("truncated"))
    assert long["event"].startswith("xxx")
    assert max(map(len, server.text.splitlines())) < 48 * 1024
    assert any("old ways" in line["event"] for line in told)
    assert any("ZeroDivisionError" in line.get("exception", "") for line in logs)
    assert "not; allowed" not in server.text
    assert logs[-1]["event"] == "Shutting down: Master"


def test_greenlet_that_dies_is_logged(running):
    server = running("flask_ops")
    server.get("/greenlet")
    eventually(lambda: any("KeyError" in line.get("exception", "") for line in server.logs()))


def test_app_that_fails_to_load_says_why_in_json(serve):
    # Without preload, and for other errors: test_ops_stdio.py.
    with pytest.raises(AssertionError, match="did not start") as failure, serve("broken()"):
        pass
    lines = [line for line in str(failure.value).splitlines() if line.startswith("{")]
    assert any("no such thing as a broken app" in json.loads(line).get("exception", "") for line in lines)


def test_request_in_flight_is_finished_after_sigterm(serve):
    with serve("unchanged", GUNICORN_KEEPALIVE_SECONDS="1") as server:
        connection = server.connect(timeout=60)
        connection.request("GET", "/slow?seconds=1")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        assert answer.read() == b"done"
        assert server.stop() == 0
        assert server.path.exists(), "systemd's socket outlives the server"


def test_only_the_scheme_header_nginx_sets_is_believed(running):
    server, schemes = running("flask_ops"), {}
    for value in ("https", "http"):
        headers = {"X-Forwarded-Proto": value, "X-Forwarded-Ssl": "on", "X-Forwarded-Protocol": "ssl"}
        answer, body = server.get("/", headers)
        assert answer.status == 200
        schemes[value] = json.loads(body)["scheme"]
    assert schemes == {"https": "https", "http": "http"}
    _, body = server.get("/headers", {"SCRIPT_NAME": "/elsewhere"})
    assert b"elsewhere" not in body


def test_request_id_goes_through(running):
    server = running("flask_ops")
    answer, body = server.get("/", {"X-Request-ID": "a.b-c_9"})
    assert json.loads(body)["id"] == answer.getheader("X-Request-ID") == "a.b-c_9"
    answer, body = server.get("/", {"X-Request-ID": "x" * 129})
    assert json.loads(body)["id"] == answer.getheader("X-Request-ID")
    assert len(answer.getheader("X-Request-ID")) == 32


def test_wsgi_app_that_is_not_flask_gets_the_pages_too(serve):
    with serve("raw", RELEASE_ID="r7") as server:
        answer, body = server.get("/anything", {"X-Request-ID": "mine"})
        assert (body, answer.headers.get_all("X-Request-ID")) == (b"raw", ["mine"])
        assert json.loads(server.get("/readyz")[1])["status"] == "ready"
        assert json.loads(server.get("/version")[1])["release"] == "r7"
        assert server.get("/metrics")[0].status == 200
        assert sorted(path.name for path in server.folder.iterdir()) == ["output", "web.sock"]


@pytest.mark.parametrize("worker_class", ["flask_ops", "gevent", "gthread"])
def test_hanging_check_neither_delays_the_answer_nor_blocks_the_worker(serve, tmp_path, worker_class):
    healthy = tmp_path / "healthy"
    healthy.touch()
    env = {"TEST_HEALTHY_FILE": str(healthy), "TEST_HANG": "1", "GUNICORN_WORKER_CLASS": worker_class}
    with serve("checked()", **env) as server:
        answers = []
        prober = threading.Thread(target=lambda: answers.append(server.get("/readyz")))
        begin = time.monotonic()
        prober.start()
        time.sleep(0.2)
        assert server.get("/items/1")[0].status == 200
        assert time.monotonic() - begin < 0.9
        prober.join()
        assert time.monotonic() - begin < 2
        answer, body = answers[0]
        assert answer.status == 503
        assert {check["id"]: check["state"] for check in json.loads(body)["checks"]} == {
            "file": "ok",
            "hanging": "timeout",
        }


def test_readiness_follows_its_checks_and_start_does_not(serve, tmp_path):
    healthy = tmp_path / "healthy"
    with serve("checked()", TEST_HEALTHY_FILE=str(healthy)) as server:
        assert [server.get(path)[0].status for path in ("/livez", "/readyz", "/startupz")] == [200, 503, 503]
        _, body = server.get("/readyz", {"X-Forwarded-For": "203.0.113.9"})
        assert json.loads(body) == {"status": "not_ready", "release": "dev"}
        healthy.touch()
        eventually(lambda: server.get("/readyz")[0].status == 200)
        healthy.unlink()
        eventually(lambda: server.get("/readyz")[0].status == 503)
        assert server.get("/startupz")[0].status == 200
        story = [line for line in server.logs() if line["logger"] == "flask_ops.health"]
    assert [line["event"] for line in story] == ["not ready", "ready", "not ready"]
    assert "No such file" in story[0]["failed"]["file"]


def test_metrics_are_for_internal_callers_and_bounded(running):
    server = running("flask_ops")
    for path in ("/items/1", "/items/2", "/no/1", "/no/2"):
        server.get(path)
    server.request("FROB", "/items/1")
    for outside in ({}, {"X-Ops-Internal": "0"}):
        assert server.get("/metrics", {"X-Forwarded-For": "203.0.113.9", **outside})[0].status == 404
    text = server.get("/metrics")[1].decode()
    assert 'url_rule="/items/<int:item>"} 2.0' in text
    assert 'url_rule="None"} 2.0' in text
    assert "/no/" not in text
    assert "livez" not in text
    assert "FROB" not in text
    assert 'flask_http_request_total{method="_OTHER",' in text


def test_control_socket_is_for_its_owner(running):
    path = running("flask_ops").folder / "gunicorn.ctl"
    eventually(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    gunicornc = [sys.executable, "-c", "from gunicorn.ctl.cli import main; main()", "-s", str(path), "-j"]
    shown = subprocess.run([*gunicornc, "-c", "show workers"], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["count"] == 1
