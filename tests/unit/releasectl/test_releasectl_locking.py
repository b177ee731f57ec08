"""A deploy holds its lock as long as it lives and no longer; a person until it is undone."""

import json
import os

import pytest


@pytest.fixture
def deploy(apphost, monkeypatch):
    """Return a function that runs a command as a certain deploy."""

    def run(token, *words):
        with monkeypatch.context() as patched:
            patched.setenv("RELEASECTL_LOCK", token)
            patched.setenv("RELEASECTL_BY", f"{token}@controller")
            return apphost.run(*words)

    return run


def age(apphost, seconds):
    """Let the lock's holder not have been heard of for so long."""
    lock = json.loads(apphost.layout.deploy_lock.read_text())
    apphost.layout.deploy_lock.write_text(json.dumps({**lock, "seen": lock["seen"] - seconds}))


def test_second_deploy_is_refused_and_told_who_holds_the_lock_since_when(apphost, deploy):
    first = apphost.put(1)
    told = deploy("one", "lock", "--lease", "60", "--reason", "deploying abc").json
    assert (told["result"], told["changed"], told["lock"]["by"]) == ("locked", False, "one@controller")
    for words in (
        ["lock", "--lease", "60"],
        ["activate", first],
        ["rollback"],
        ["prune"],
        ["migrate", first],
    ):
        run = deploy("two", *words)
        assert (run.code, run.json["result"]) == (4, "locked"), words
        assert f"one@controller since {told['lock']['since']} (deploying abc)" in run.error["cause"]
        assert run.error["next"].startswith("sudo releasectl --app inbox unlock")
    assert apphost.systemd.up() == []
    assert apphost.ledger() == []


def test_of_deploys_that_ask_at_once_one_gets_the_lock(apphost, monkeypatch):
    processes = []
    for token in "abcd":
        monkeypatch.setenv("RELEASECTL_LOCK", token)
        processes.append(apphost.fork("lock", "--lease", "60"))
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert sorted(codes) == [0, 4, 4, 4]


def test_holder_goes_on_and_unlocks(apphost, deploy):
    first = apphost.put(1)
    deploy("one", "lock", "--lease", "60")
    assert deploy("one", "activate", first).code == 0
    assert deploy("one", "lock", "--lease", "60").code == 0
    assert deploy("two", "unlock", "--own").json["result"] == "not locked"
    assert deploy("two", "lock").code == 4
    assert deploy("one", "unlock", "--own").json["result"] == "unlocked"
    assert deploy("two", "lock", "--lease", "60").code == 0


def test_lease_runs_out_when_nothing_is_heard_of_the_holder(apphost, deploy):
    deploy("one", "lock", "--lease", "60")
    age(apphost, 59)
    assert deploy("two", "lock").code == 4
    age(apphost, 2)
    assert apphost.ok("status")["deploy_lock"] is None
    assert deploy("two", "lock", "--lease", "60").json["over"] is None


def test_each_command_of_the_holder_renews_its_lease(apphost, deploy):
    first = apphost.put(1)
    deploy("one", "lock", "--lease", "60")
    age(apphost, 50)
    assert deploy("one", "activate", first).code == 0
    age(apphost, 50)
    assert deploy("two", "lock").code == 4


def test_holder_known_to_be_gone_is_taken_over(apphost, deploy):
    deploy("one", "lock", "--lease", "60", "--controller", "boot:1:2")
    assert apphost.ok("status")["deploy_lock"]["controller"] == "boot:1:2"
    assert deploy("two", "lock", "--lease", "60", "--over", "other").code == 4
    told = deploy("two", "lock", "--lease", "60", "--over", "one").json
    assert (told["result"], told["over"]["token"]) == ("locked", "one")
    assert deploy("one", "prune").code == 4


def test_persons_lock_stays_until_it_is_undone_and_is_in_the_ledger(apphost, deploy):
    assert apphost.ok("lock", "--reason", "end of the quarter")["changed"] is True
    age(apphost, 10_000_000)
    run = deploy("one", "lock", "--lease", "60")
    assert "alice since" in run.error["cause"]
    assert "(end of the quarter), until somebody unlocks it" in run.error["cause"]
    assert "reserved  alice since" in apphost.run("status", json_form=False).out
    apphost.ok("unlock")
    assert [line["command"] for line in apphost.ledger()] == ["lock", "unlock"]
    assert apphost.ok("unlock")["changed"] is False


def test_deploys_own_lock_is_not_in_the_ledger(apphost, deploy):
    deploy("one", "lock", "--lease", "60")
    deploy("one", "unlock", "--own")
    assert apphost.ledger() == []


def test_restart_changes_no_release_and_goes_on(edged, deploy):
    first = edged.put(1)
    edged.serve(first)
    deploy("one", "lock", "--lease", "60")
    assert edged.run("restart").code == 0


def test_lock_that_nobody_can_read_is_nobodys(apphost, deploy):
    apphost.layout.deploy_lock.write_text('{"token": "one"')
    assert deploy("two", "lock", "--lease", "60").code == 0


def test_lease_must_be_a_number_of_seconds(apphost):
    assert apphost.run("lock", "--lease", "soon").code == 5
    assert apphost.run("lock", "--lease", "nan").code == 5
