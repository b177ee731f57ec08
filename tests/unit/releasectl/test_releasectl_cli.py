"""The command line, the settings, the lock, and what a look says."""

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path

import pytest
from releasectl import cli

DISPATCH = Path(cli.__file__).parents[1] / "releasectl-dispatch"


def test_status_works_with_nothing_there(site):
    shutil.rmtree(site.root)
    shutil.rmtree(site.run_dir)
    told = site.ok("status")
    assert told["active"] is None
    assert told["releases"] == told["deps"] == told["problems"] == []
    assert told["host"]["machine"] == platform.machine()
    assert told["host"]["free_bytes"] > 0
    assert told["host"]["python"].startswith("3.")
    for words in (["status"], ["list"], ["log"]):
        assert site.run(*words, json_form=False).code == 0


def test_status_lists_releases_with_their_marks(site):
    first, second = site.put(1), site.put(2)
    site.serve(first, second)
    told = site.ok("status")
    assert [(entry["id"], entry["active"], entry["previous"]) for entry in told["releases"]] == [
        (first, False, True),
        (second, True, False),
    ]
    assert all(entry["digest"] and entry["staged_at"].endswith("Z") for entry in told["releases"])
    words = site.run("status", json_form=False).out
    assert f"active    {second}" in words
    assert '"status": "ready"' in words


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda site, one, two: site.layout.link_release(site.layout.current, one), "`current` names"),
        (lambda site, one, two: site.layout.link_release(site.layout.previous, two), "`previous` names"),
        (lambda site, one, two: site.systemd.boot.clear(), "is not started at boot"),
        (lambda site, one, two: site.systemd.boot.add(f"inbox-web@{one}.service"), "is started at boot"),
        (lambda site, one, two: site.systemd.do_start([f"inbox-web@{one}.socket"]), "gets no traffic"),
    ],
)
def test_status_names_what_does_not_add_up_and_its_repair_works(site, spoil, word):
    first, second = site.put(1), site.put(2)
    site.serve(first, second)
    spoil(site, first, second)
    problems = site.ok("status")["problems"]
    assert any(word in problem["problem"] for problem in problems), problems
    assert {problem["repair"] for problem in problems} == {f"sudo releasectl --app inbox activate {second}"}
    assert site.ok("activate", second)["changed"] is True
    assert site.ok("status")["problems"] == []


def test_looking_changes_nothing(site):
    site.ok("activate", site.put(1))
    before = sorted(str(path) for path in site.root.rglob("*"))
    calls = len(site.systemd.calls)
    site.ok("status")
    assert sorted(str(path) for path in site.root.rglob("*")) == before
    assert {words[1] for words in site.systemd.calls[calls:]} <= {"show", "is-enabled", "list-units"}


def test_second_change_is_refused_and_the_holder_is_named(site):
    release_id = site.put(1)
    with site.layout.lock.open("w") as file:
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
        run = site.run("activate", release_id)
        assert (run.code, run.json["result"]) == (4, "locked")
        assert "bob on web1 since 2026-01-01T00:00:00Z" in run.error["cause"]
        assert "bob" in site.ok("status")["locked_by"]
    assert site.ok("activate", release_id)["changed"] is True
    assert site.ok("status")["locked_by"] is None


def test_change_needs_root(site, monkeypatch):
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    run = site.run("rollback")
    assert run.code == 5
    assert run.error["next"].startswith("sudo releasectl rollback")


@pytest.mark.parametrize(
    "words", [["activate"], ["deploy"], [], ["prune", "--keep", "0"], ["log", "-n", "x"]]
)
def test_wrong_command_line_is_refused_and_not_called_a_failed_release(site, words):
    run = site.run(*words)
    assert (run.code, run.json["result"]) == (5, "refused")


def test_app_is_named_before_or_after_the_command(site):
    for words in (["--app", "inbox", "status"], ["status", "--app", "inbox"]):
        assert site.ok(*words)["app"] == "inbox"
    run = site.run("--app", "outbox", "status")
    assert run.code == 5
    assert "inbox" in run.error["cause"]


def test_several_apps_need_a_name(site):
    (site.settings_dir / "outbox.json").write_text(json.dumps({**site.settings, "app": "outbox"}))
    run = site.run("status")
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
    ],
)
def test_wrong_settings_are_named(site, changes, word):
    site.configure(**changes)
    run = site.run("status")
    assert run.code == 5
    assert word in run.error["cause"]


def test_missing_settings_are_all_named(site):
    del site.settings["uv"], site.settings["keep"]
    site.configure()
    cause = site.run("status").error["cause"]
    assert "missing key 'uv'" in cause
    assert "missing key 'keep'" in cause


def test_log_tells_people_who_did_what(site):
    first = site.put(1)
    site.ok("activate", first)
    site.run("activate", site.put(2, {"crash": "boom"}))
    lines = site.run("log", "-n", "5", json_form=False).out.splitlines()
    assert f"activate  {first}  done  by alice" in lines[0]
    assert "crashed before it was ready" in lines[2]


def test_words_carry_the_time_and_json_keeps_stdout_clean(site):
    run = site.run("activate", site.put(1), json_form=False)
    assert "Z  starting inbox-web@" in run.out
    assert run.out.endswith("is active\n")
    assert json.loads(site.run("activate", site.put(2)).out)["result"] == "activated"


def test_reader_that_went_away_does_not_stop_the_work(site):
    release_id = site.put(1)
    reader, writer = os.pipe()
    os.close(reader)
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os._exit(cli.main(["activate", release_id], site.settings_dir))
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 0
    assert site.layout.active() == release_id


def test_ledger_that_cannot_be_written_does_not_undo_a_success(site):
    site.layout.ledger.mkdir()
    site.ok("activate", site.put(1))


@pytest.fixture
def dispatch(site, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("releasectl_dispatch", str(DISPATCH))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("releasectl_dispatch", loader))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    monkeypatch.setattr(module, "SETTINGS_DIR", site.settings_dir)
    monkeypatch.setattr(module, "LIB_DIR", site.base / "lib")
    return module


def test_dispatch_runs_the_only_app(site, dispatch, capsys):
    assert dispatch.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["app"] == "inbox"


def test_dispatch_asks_which_of_several(site, dispatch, capsys):
    (site.settings_dir / "outbox.json").write_text("{}")
    assert dispatch.main(["status", "--json"]) == 5
    assert "inbox, outbox" in json.loads(capsys.readouterr().out)["error"]["cause"]
    assert dispatch.main(["status", "--app=inbox", "--json"]) == 0
    assert dispatch.main(["--app", "nobody", "status"]) == 5


def test_program_is_executable_and_isolated():
    assert DISPATCH.stat().st_mode & 0o111
    assert DISPATCH.read_text().startswith("#!/usr/bin/python3 -IB\n")
