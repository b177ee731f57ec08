import threading
import time

import pytest
from flask_ops import health
from flask_ops.health import MAX_HANGING, Check, Readiness


def fails():
    raise ConnectionError("password=hunter2")


@pytest.mark.parametrize("seconds", [0, -1, health.MAX_TIMEOUT_SECONDS + 0.1])
def test_check_refuses_a_time_that_breaks_the_answers_own(seconds):
    with pytest.raises(ValueError, match="timeout_seconds"):
        Check("db", print, seconds)


@pytest.mark.parametrize("name", ["", "Data base", "-db", "x" * 64])
def test_check_refuses_a_name_nobody_can_search_for(name):
    with pytest.raises(ValueError, match="check name"):
        Check(name, print)


def test_two_checks_of_one_name_are_refused():
    with pytest.raises(ValueError, match="not unique: db, db"):
        Readiness([Check("db", print), Check("db", print)])


def test_no_checks_is_ready():
    assert Readiness().ready()


def test_checks_run_side_by_side():
    begin = time.monotonic()
    results = Readiness([Check(f"c{i}", lambda: time.sleep(0.3)) for i in range(5)]).results()
    assert time.monotonic() - begin < 0.8
    assert {result.state for result in results} == {"ok"}
    assert all(300 <= result.duration_ms < 600 for result in results)


def test_words_of_an_exception_stay_out_of_the_public_result():
    result = Readiness([Check("db", fails)]).results()[0]
    assert (result.state, result.error, result.cause) == ("failed", "ConnectionError", "password=hunter2")
    assert "hunter2" not in str(result.public())


def test_answer_is_remembered_for_a_moment_and_shared_by_probers(monkeypatch):
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.3)
    calls = []

    def count():
        calls.append(1)
        time.sleep(0.1)

    readiness = Readiness([Check("db", count)])
    probers = [threading.Thread(target=readiness.ready) for _ in range(5)]
    for prober in probers:
        prober.start()
    for prober in probers:
        prober.join()
    assert len(calls) == 1
    time.sleep(0.35)
    readiness.ready()
    assert len(calls) == 2


def test_hanging_runs_are_few_and_recovery_is_seen_meanwhile(monkeypatch):
    monkeypatch.setattr(health, "CACHE_SECONDS", 0.0)
    release = threading.Event()
    calls = []

    def hang():
        calls.append(1)
        if len(calls) != 2:
            release.wait(20)

    readiness = Readiness([Check("db", hang, timeout_seconds=0.05)])
    assert readiness.results()[0].state == "timeout"
    assert readiness.ready(), "a second run may succeed while the first still hangs"
    for _ in range(MAX_HANGING + 3):
        assert readiness.results()[0].state == "timeout"
    assert len(calls) == MAX_HANGING + 1
    release.set()
    time.sleep(0.1)
    assert readiness.ready()
