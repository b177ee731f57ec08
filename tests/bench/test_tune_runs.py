"""The bench that tunes measures every setting and chooses by its rule. What is quickest it is not asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench import PROJECT_DIR, SERVED_DIR
from bench.test_bench_runs import needs_servers
from bench.tune import choice
from bench.tune.__main__ import options
from bench.tune.measure import AppProblem, Setting, Turn, environment_of, settings


def tune(*words, app="bench_app:create_app()"):
    command = [sys.executable, "-m", "bench.tune", "--app", app, "--folder", SERVED_DIR, "--connections", "8"]
    env = {**os.environ, "PYTHONPATH": str(PROJECT_DIR / "tests"), "BENCH_DATABASE_URL": "sqlite://"}
    command += ["--rounds", "2", "--seconds", "0.2", "--workers", "1,2", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)


@needs_servers
def test_every_setting_is_measured_as_often_and_one_is_named_for_the_inventory(tmp_path):
    stored = tmp_path / "turns.json"
    done = tune("--path", "/hello", "--path", "/kept", "--json", stored)
    assert done.returncode == 0, done.stderr[-4000:]
    turns = [Turn(**turn) for turn in json.loads(stored.read_text())["turns"]]
    wanted = settings(["flask_ops", "gthread"], [1, 2])
    assert sorted(turn.setting for turn in turns) == sorted(wanted * 2)
    for turn in turns:
        assert min(turn.per_second, turn.cpu_us, turn.pss_mib) > 0
        assert 0 < turn.p50_ms <= turn.p99_ms
    chosen = choice.best(choice.summaries(turns)).setting
    assert done.stdout.endswith(
        f"  app_web_worker_class: {chosen.worker_class}\n  app_web_workers: {chosen.workers}\n"
    )


@needs_servers
@pytest.mark.parametrize(
    ("words", "app", "said"),
    [
        (["--path", "/nowhere"], "bench_app:create_app()", "not 200: ['404'"),
        ([], "no_such_app:app", "No module named 'no_such_app'"),
        (
            ["--classes", "gevnt", "--path", "/hello"],
            "bench_app:create_app()",
            "GUNICORN_WORKER_CLASS='gevnt'",
        ),
    ],
    ids=["a page that is not there", "an app that is not there", "a class that is not there"],
)
def test_what_cannot_be_measured_is_said_with_the_setting(words, app, said):
    done = tune(*words, app=app)
    assert done.returncode == 1
    assert done.stderr.startswith("bench.tune: ")
    assert said in done.stderr


def turn(worker_class, workers, per_second, pss_mib, number=0):
    return Turn(number, worker_class, workers, 100, per_second, 1.0, 2.0, 100.0, pss_mib)


@pytest.mark.parametrize(("small_rate", "chosen"), [(96.0, 1), (94.0, 4)], ids=["as good", "slower"])
def test_least_memory_wins_among_those_that_serve_as_much(small_rate, chosen):
    found = choice.summaries([turn("flask_ops", 4, 100.0, 400.0), turn("flask_ops", 1, small_rate, 100.0)])
    assert choice.best(found).setting.workers == chosen
    assert f"app_web_workers: {chosen}" in choice.words(found)


def test_summary_is_of_medians_and_the_quickest_comes_first():
    rates = (10.0, 500.0, 20.0)
    slow = [turn("gthread", 1, rate, 50.0, number) for number, rate in enumerate(rates)]
    first, second = choice.summaries([*slow, turn("flask_ops", 1, 30.0, 50.0)])
    assert (first.setting, second.setting) == (Setting("flask_ops", 1), Setting("gthread", 1))
    assert (second.per_second, second.least, second.most) == (20.0, 10.0, 500.0)


def test_environment_is_read_as_systemd_reads_it(tmp_path):
    file = tmp_path / "env"
    file.write_text('# a comment\n; another\n\nPLAIN=a b\nQUOTED="a b"\nEMPTY=\nSIGN=a=b\n')
    assert environment_of(file) == {"PLAIN": "a b", "QUOTED": "a b", "EMPTY": "", "SIGN": "a=b"}
    file.write_text("GOOD=1\nnot one\n")
    with pytest.raises(AppProblem, match="line 2 is not NAME=value"):
        environment_of(file)


@pytest.mark.parametrize("words", [["--workers", "0"], ["--workers", "two"], ["--rounds", "0"]])
def test_numbers_that_are_none_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        options(["--app", "a:b", *words])
    assert "above 0" in capsys.readouterr().err
