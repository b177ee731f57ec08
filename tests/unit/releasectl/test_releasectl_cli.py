"""The command line, the settings, the lock, and what a look says."""

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import platform
import re
import shutil
from pathlib import Path

import pytest
from releasectl import cli

DISPATCH = Path(cli.__file__).parents[1] / "releasectl-dispatch"


def test_status_works_with_nothing_there(apphost):
    shutil.rmtree(apphost.root)
    shutil.rmtree(apphost.run_dir)
    told = apphost.ok("status")
    assert told["active"] is None
    assert told["releases"] == told["deps"] == told["problems"] == []
    assert told["host"]["machine"] == platform.machine()
    assert told["host"]["free_bytes"] > 0
    assert told["host"]["python"].startswith("3.")
    for words in (["status"], ["list"], ["log"]):
        assert apphost.run(*words, json_form=False).code == 0


def test_status_lists_releases_with_their_marks(apphost):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first, second)
    told = apphost.ok("status")
    assert [(entry["id"], entry["active"], entry["previous"]) for entry in told["releases"]] == [
        (first, False, True),
        (second, True, False),
    ]
    assert all(entry["digest"] and entry["staged_at"].endswith("Z") for entry in told["releases"])
    words = apphost.run("status", json_form=False).out
    assert f"active    {second}" in words
    assert '"status": "ready"' in words


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (
            lambda apphost, one, two: apphost.layout.link_release(apphost.layout.current, one),
            "`current` names",
        ),
        (
            lambda apphost, one, two: apphost.layout.link_release(apphost.layout.previous, two),
            "`previous` names",
        ),
        (lambda apphost, one, two: apphost.systemd.boot.clear(), "is not started at boot"),
        (
            lambda apphost, one, two: apphost.systemd.boot.add(f"inbox-web@{one}.service"),
            "is started at boot",
        ),
        (lambda apphost, one, two: apphost.systemd.do_start([f"inbox-web@{one}.socket"]), "gets no traffic"),
    ],
)
def test_status_names_what_does_not_add_up_and_its_repair_works(apphost, spoil, word):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first, second)
    spoil(apphost, first, second)
    problems = apphost.ok("status")["problems"]
    assert any(word in problem["problem"] for problem in problems), problems
    assert {problem["repair"] for problem in problems} == {f"sudo releasectl --app inbox activate {second}"}
    assert apphost.ok("activate", second)["changed"] is True
    assert apphost.ok("status")["problems"] == []


def test_looking_changes_nothing(apphost):
    apphost.ok("activate", apphost.put(1))
    before = sorted(str(path) for path in apphost.root.rglob("*"))
    calls = len(apphost.systemd.calls)
    apphost.ok("status")
    assert sorted(str(path) for path in apphost.root.rglob("*")) == before
    assert {words[1] for words in apphost.systemd.calls[calls:]} <= {"show"}


def test_second_change_is_refused_and_the_holder_is_named(apphost):
    release_id = apphost.put(1)
    with apphost.layout.lock.open("w") as file:
        told = {
            "pid": 4242,
            "by": "bob",
            "host": "web1",
            "command": "releasectl rollback",
            "since": "2026-01-01T00:00:00Z",
        }
        json.dump(told, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        run = apphost.run("activate", release_id)
        assert (run.code, run.json["result"]) == (4, "locked")
        assert "bob on web1 since 2026-01-01T00:00:00Z" in run.error["cause"]
        assert "bob" in apphost.ok("status")["locked_by"]
    assert apphost.ok("activate", release_id)["changed"] is True
    assert apphost.ok("status")["locked_by"] is None


def test_change_needs_root(apphost, monkeypatch):
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    run = apphost.run("rollback")
    assert run.code == 5
    assert run.error["next"].startswith("sudo releasectl rollback")


@pytest.mark.parametrize(
    "words", [["activate"], ["deploy"], [], ["prune", "--keep", "0"], ["log", "-n", "x"]]
)
def test_wrong_command_line_is_refused_and_not_called_a_failed_release(apphost, words):
    run = apphost.run(*words)
    assert (run.code, run.json["result"]) == (5, "refused")


def test_app_is_named_before_or_after_the_command(apphost):
    for words in (["--app", "inbox", "status"], ["status", "--app", "inbox"]):
        assert apphost.ok(*words)["app"] == "inbox"
    run = apphost.run("--app", "outbox", "status")
    assert run.code == 5
    assert "inbox" in run.error["cause"]


def test_several_apps_need_a_name(apphost):
    (apphost.settings_dir / "outbox.json").write_text(json.dumps({**apphost.settings, "app": "outbox"}))
    run = apphost.run("status")
    assert run.code == 5
    assert "inbox, outbox" in run.error["cause"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"keep": 0}, "'keep'"),
        ({"keep": True}, "'keep'"),
        ({"root": "srv"}, "'root' is not an absolute path"),
        ({"drain_timeout_seconds": "30s"}, "'drain_timeout_seconds'"),
        ({"edge": {"url": "inbox"}}, "'edge'"),
        ({"edge": {"url": "https://x/", "connect": "localhost"}}, "'edge' 'connect'"),
        ({"app": "In Box"}, "app name"),
        ({"ops_prefix": "-"}, "'ops_prefix' is neither empty nor a path"),
        ({"ops_prefix": "/-/"}, "'ops_prefix'"),
        ({"companions": ["worker", "cron"]}, "'companions' is not a list of some of worker, beat, flower"),
        ({"companions": "worker"}, "'companions'"),
        ({"worker_stop_timeout_seconds": 0}, "'worker_stop_timeout_seconds'"),
    ],
)
def test_wrong_settings_are_named(apphost, changes, word):
    apphost.configure(**changes)
    run = apphost.run("status")
    assert run.code == 5
    assert word in run.error["cause"]


def test_missing_settings_are_all_named(apphost):
    del apphost.settings["uv"], apphost.settings["keep"]
    apphost.configure()
    cause = apphost.run("status").error["cause"]
    assert "missing key 'uv'" in cause
    assert "missing key 'keep'" in cause


def test_log_tells_people_who_did_what(apphost):
    first = apphost.put(1)
    apphost.ok("activate", first)
    apphost.run("activate", apphost.put(2, {"crash": "boom"}))
    lines = apphost.run("log", "-n", "5", json_form=False).out.splitlines()
    assert f"activate  {first}  done  by alice" in lines[0]
    assert "crashed before it was ready" in lines[2]


def test_words_carry_the_time_and_json_keeps_stdout_clean(apphost):
    run = apphost.run("activate", apphost.put(1), json_form=False)
    assert "Z  starting inbox-web@" in run.out
    assert re.search(r"is active, visitors had it after [0-9.]+ s\n$", run.out)
    assert json.loads(apphost.run("activate", apphost.put(2)).out)["result"] == "activated"


def test_reader_that_went_away_does_not_stop_the_work(apphost):
    release_id = apphost.put(1)
    reader, writer = os.pipe()
    os.close(reader)
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os._exit(cli.main(["activate", release_id], apphost.settings_dir))
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 0
    assert apphost.layout.active() == release_id


def test_ledger_that_cannot_be_written_does_not_undo_a_success(apphost):
    apphost.layout.ledger.mkdir()
    apphost.ok("activate", apphost.put(1))


@pytest.fixture
def dispatch(apphost, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("releasectl_dispatch", str(DISPATCH))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("releasectl_dispatch", loader))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    monkeypatch.setattr(module, "SETTINGS_DIR", apphost.settings_dir)
    monkeypatch.setattr(module, "LIB_DIR", apphost.base / "lib")
    return module


def test_dispatch_runs_the_only_app(apphost, dispatch, capsys):
    assert dispatch.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["app"] == "inbox"


def test_dispatch_asks_which_of_several(apphost, dispatch, capsys):
    (apphost.settings_dir / "outbox.json").write_text("{}")
    assert dispatch.main(["status", "--json"]) == 5
    assert "inbox, outbox" in json.loads(capsys.readouterr().out)["error"]["cause"]
    assert dispatch.main(["status", "--app=inbox", "--json"]) == 0
    assert dispatch.main(["--app", "nobody", "status"]) == 5


def test_program_is_executable_and_isolated():
    assert DISPATCH.stat().st_mode & 0o111
    assert DISPATCH.read_text().startswith("#!/usr/bin/python3 -IB\n")
