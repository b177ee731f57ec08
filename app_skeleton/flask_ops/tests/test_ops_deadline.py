"""A request that waits for ever or spins ends as a 503 and frees its worker."""

import http.client
import json
import os
import secrets
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask_ops.testing import GunicornServer, eventually

SECRET = secrets.token_hex()
ENDED = "request ended at its deadline"
BLOCKED = "the gevent hub is blocked"


@contextmanager
def served(worker_class, **env):
    settings = {
        "FLASK_OPS_REQUEST_DEADLINE_SECONDS": "1",
        "FLASK_OPS_BLOCKED_SECONDS": "0.5",
        "GUNICORN_WORKERS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
        "TEST_SECRET": SECRET,
    }
    server = GunicornServer("deadline_apps:app", GUNICORN_WORKER_CLASS=worker_class, **settings | env)
    # A strike in coverage's own Python code would leave its lock held: the code is measured elsewhere.
    for name in [name for name in server.env if name.startswith("COVERAGE_PROCESS")]:
        del server.env[name]
    with server:
        yield server


def ask(server, path):
    """Return what came back; the request's id is its path's first word."""
    begun = time.monotonic()
    got = SimpleNamespace(status=None, body=b"", id=None, error=None)
    try:
        response, got.body = server.get(path, {"X-Request-ID": path.strip("/").partition("?")[0]}, timeout=40)
        got.status, got.id = response.status, response.getheader("X-Request-ID")
    except (http.client.HTTPException, OSError) as error:
        got.error = error
    got.seconds = time.monotonic() - begun
    return got


def ask_at_once(server, *paths):
    with ThreadPoolExecutor(len(paths)) as threads:
        return dict(zip(paths, threads.map(lambda path: ask(server, path), paths), strict=True))


def pid(server):
    return int(ask(server, "/pid").body)


def next_pid(server, last):
    return eventually(lambda: (now := pid(server)) != last and now)


def lines(scene, event, request_id=None):
    return [
        line for line in scene.logs if line["event"] == event and request_id in (None, line["request_id"])
    ]


def assert_503(got, request_id):
    assert (got.status, got.id) == (503, request_id), got
    assert json.loads(got.body) == {"error": "This took longer than 1 s and was ended."}


WAITS = ("/wait", "/stubborn", "/silent", "/stream?chunks=5", "/stream?chunks=2&then=60", "/wait?seconds=0.5")


def waits():
    """All the ways of waiting, at once, on one gevent worker."""
    with served("flask_ops") as server:
        before = pid(server)
        answers = ask_at_once(server, *WAITS)
        metrics = server.get("/metrics")[1].decode()
        return SimpleNamespace(
            answers=answers, before=before, after=pid(server), metrics=metrics, logs=server.logs()
        )


def spins():
    """One gevent worker after the other, each lost to code that does not yield."""
    with served("flask_ops") as server:
        pids = [pid(server)]
        spin = ask(server, "/spin")
        pids.append(next_pid(server, pids[-1]))
        spawned = ask(server, "/greenlet")
        after_spawned = ask(server, "/pid")
        pids.append(next_pid(server, pids[-1]))
        with ThreadPoolExecutor(1) as threads:
            neighbour = threads.submit(ask, server, "/wait")
            time.sleep(0.3)
            digest = ask(server, "/digest")
        pids.append(next_pid(server, pids[-1]))
        return SimpleNamespace(
            pids=pids,
            spin=spin,
            spawned=spawned,
            after_spawned=after_spawned,
            digest=digest,
            neighbour=neighbour.result(),
            logs=server.logs(),
        )


def other_class(worker_class):
    """A worker of another class after the other, where nothing may be written and then executed."""
    with served(worker_class, TEST_DENY_WRITE_EXECUTE="1") as server:
        denied = ask(server, "/denied").body
        pids, answers = [pid(server)], {}
        for path in ("/spin", "/wait"):
            answers[path] = ask(server, path)
            pids.append(next_pid(server, pids[-1]))
        return SimpleNamespace(denied=denied, pids=pids, answers=answers, logs=server.logs())


def gthread():
    return other_class("gthread")


def sync():
    return other_class("sync")


def edges():
    """Requests of several threads that end just before, at and after their limit."""
    with served("gthread", GUNICORN_THREADS="4") as server:
        paths = [f"/spin?seconds={1 + n / 25}" for n in range(-2, 6)]
        answers = ask_at_once(server, *paths)
        return SimpleNamespace(answers=answers, logs=server.logs())


def deaf():
    """A request that swallows every attempt to end it."""
    with served("flask_ops", GUNICORN_GRACEFUL_TIMEOUT_SECONDS="2", GUNICORN_KEEPALIVE_SECONDS="1") as server:
        before = pid(server)
        answer = ask(server, "/stubborn?times=100000")
        next_pid(server, before)
        return SimpleNamespace(answer=answer, logs=server.logs())


def unlimited():
    """No deadline; the hub is blocked, then the whole process is stopped."""
    with served("flask_ops", FLASK_OPS_REQUEST_DEADLINE_SECONDS="0") as server:
        before = pid(server)
        answer = ask(server, "/block?seconds=1.5")
        blocked = [line for line in server.logs() if line["event"] == BLOCKED]
        os.kill(before, signal.SIGSTOP)
        time.sleep(2)
        os.kill(before, signal.SIGCONT)
        time.sleep(0.3)
        return SimpleNamespace(
            answer=answer, before=before, after=pid(server), blocked=blocked, logs=server.logs()
        )


SCENES = (waits, spins, gthread, sync, edges, deaf, unlimited)


@pytest.fixture(scope="module")
def scenes():
    """Three scenes at a time: they consist of waiting, but each start of a server is a second of work."""
    with ThreadPoolExecutor(3) as threads:
        running = {play.__name__: threads.submit(play) for play in SCENES}
        yield SimpleNamespace(**{name: future.result for name, future in running.items()})


def test_greenlet_that_waits_for_ever_ends_as_503_with_its_request_id(scenes):
    scene = scenes.waits()
    assert_503(scene.answers["/wait"], "wait")
    ended = lines(scene, ENDED, "wait")
    assert [(line["level"], line["method"], line["path"], line["cut"]) for line in ended] == [
        ("error", "GET", "/wait", False)
    ]
    assert "in wait\n" in ended[0]["exception"]
    assert lines(scene, "torn down by DeadlineExceeded", "wait")


def test_bare_except_swallows_the_deadline_only_for_a_while(scenes):
    assert len(lines(scenes.waits(), "swallowed", "stubborn")) == 2
    assert_503(scenes.waits().answers["/stubborn"], "stubborn")


def test_request_within_its_limit_is_left_alone(scenes):
    got = scenes.waits().answers["/wait?seconds=0.5"]
    assert (got.status, got.body) == (200, b"done")


def test_stream_may_last_longer_than_the_limit(scenes):
    stream = scenes.waits().answers["/stream?chunks=5"]
    assert (stream.status, stream.body) == (200, b"0\n1\n2\n3\n4\nend\n")
    assert stream.seconds > 1


def test_stream_that_falls_silent_is_cut_and_never_ends_as_if_whole(scenes):
    stream = scenes.waits().answers["/stream?chunks=2&then=60"]
    assert isinstance(stream.error, http.client.IncompleteRead)
    assert stream.error.partial == b"0\n1\n"
    assert [line["cut"] for line in lines(scenes.waits(), ENDED, "stream")] == [True]


def test_stream_that_sends_nothing_is_a_503(scenes):
    assert_503(scenes.waits().answers["/silent"], "silent")


def test_waiting_requests_leave_the_worker_running(scenes):
    assert scenes.waits().before == scenes.waits().after


def test_requests_ended_are_counted(scenes):
    name = "flask_ops_requests_timed_out_total"
    counted = [line for line in scenes.waits().metrics.splitlines() if line.startswith(name)]
    assert [line.rpartition(" ")[2] for line in counted] == ["4.0"]


def test_spinning_greenlet_ends_as_503_and_its_worker_is_recycled(scenes):
    # A pid of its own at each step: the scene waits for another one than the last.
    assert_503(scenes.spins().spin, "spin")
    assert lines(scenes.spins(), ENDED, "spin")


def test_blocked_hub_is_logged_once_with_its_stack_and_no_local(scenes):
    scene = scenes.spins()
    blocked = lines(scene, BLOCKED, "spin")
    assert [(line["path"], line["pid"]) for line in blocked] == [("/spin", scene.pids[0])]
    assert "in spin\n" in blocked[0]["stack"]
    assert SECRET not in json.dumps(scene.logs)


def test_greenlet_of_nobody_that_spins_is_ended_and_no_request_with_it(scenes):
    scene = scenes.spins()
    assert scene.spawned.status == scene.after_spawned.status == 200
    dead = lines(scene, "uncaught exception in a greenlet")
    assert any("spin_for_ever" in line["exception"] for line in dead)


def test_worker_that_heeds_no_signal_is_ended_and_its_requests_answered(scenes):
    scene = scenes.spins()
    assert_503(scene.digest, "digest")
    assert_503(scene.neighbour, "wait")
    ended = lines(scene, "worker ended: it cannot be interrupted", "digest")
    assert [(line["pid"], line["lost"]) for line in ended] == [(scene.pids[2], 2)]
    assert "in digest\n" in ended[0]["stack"]


@pytest.mark.parametrize("worker_class", ["gthread", "sync"])
def test_other_classes_answer_503_and_recycle_the_worker(scenes, worker_class):
    scene = getattr(scenes, worker_class)()
    assert scene.denied == b"True"
    assert_503(scene.answers["/spin"], "spin")
    assert_503(scene.answers["/wait"], "wait")
    assert lines(scene, ENDED, "spin")
    # A thread that waits in C cannot be freed.
    late = ENDED if worker_class == "sync" else "request given up: it does not end"
    assert lines(scene, late, "wait")


def test_thread_is_struck_nowhere_but_in_the_app(scenes):
    scene = scenes.edges()
    assert {answer.status for answer in scene.answers.values()} <= {200, 503}, scene
    struck = [line for line in scene.logs if line["logger"].startswith(("concurrent", "gunicorn"))]
    assert not [line for line in struck if line["level"] in ("error", "critical")]


def test_request_that_never_heeds_is_answered_and_its_worker_recycled(scenes):
    assert_503(scenes.deaf().answer, "stubborn")
    assert lines(scenes.deaf(), "request given up: it does not end", "stubborn")


def test_block_is_logged_although_there_is_no_deadline(scenes):
    assert scenes.unlimited().answer.status == 200
    assert len(scenes.unlimited().blocked) == 1
    assert "in original_sleep\n" in scenes.unlimited().blocked[0]["stack"]


def test_stopped_process_is_not_a_blocked_hub(scenes):
    assert lines(scenes.unlimited(), BLOCKED) == scenes.unlimited().blocked
    assert scenes.unlimited().before == scenes.unlimited().after
