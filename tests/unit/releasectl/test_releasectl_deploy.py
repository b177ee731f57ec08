"""`deploy` is stage, migrate and activate in one command; what need not be waited for is left aside."""

import errno
import os
import signal
import time

import pytest
from releasectl import activation, migration, staging
from releasectl_archives import release_archive
from test_releasectl_activation import die_at

MIGRATE = "flask db upgrade"


@pytest.fixture
def build(apphost, deps):
    """Return a function that writes a release's archive where archives are sent to."""

    def write(number, **told):
        place = apphost.layout.incoming / f"sent{number}"
        place.mkdir()
        return release_archive(place, deps[1], number, migrate=MIGRATE, **told)

    return write


@pytest.fixture
def deploy(apphost, deps, build):
    """Return a function that deploys a release built just then, and returns its id."""

    def do(number, *words, **told):
        path, release_id = build(number, **told)
        apphost.ok("deploy", path, "--deps", deps[0], *words)
        return release_id

    return do


def commands(apphost):
    return [(entry["command"], entry["release"], entry["result"]) for entry in apphost.ledger()]


def test_deploy_stages_migrates_and_activates_and_enters_each(apphost, deploy):
    release_id = deploy(1)
    assert apphost.links()[:2] == (release_id, release_id)
    told = [(command, release_id, "done") for command in ("stage", "migrate", "activate")]
    assert commands(apphost) == told
    assert set(apphost.ledger()[-1]["phases"]) >= {"stage", "migrate", "start"}


def test_deploy_of_what_runs_changes_nothing(apphost, deploy, build):
    release_id = deploy(1)
    before = apphost.ledger()
    told = apphost.ok("deploy", release_id)
    assert (told["result"], told["changed"]) == ("already active", False)
    assert apphost.ledger() == before


def test_deploy_of_a_staged_release_needs_no_archive(apphost, deploy):
    first = deploy(1)
    second = deploy(2)
    assert apphost.ok("deploy", first)["previous"] is None
    assert apphost.layout.active() == first
    assert second in apphost.layout.staged()


def test_deploy_of_a_staged_release_takes_no_dependencies(apphost, deploy, deps):
    run = apphost.run("deploy", deploy(1), "--deps", deps[0])
    assert run.code == 5
    assert "not with a staged release" in run.error["cause"]


def test_deploy_stops_at_the_first_part_that_fails(apphost, deploy, build):
    first = deploy(1)
    path, second = build(2, behaviour={"migrate_fails": True})
    run = apphost.run("deploy", path)
    assert (run.code, run.json["command"]) == (2, "deploy")
    assert f"inbox-migrate@{second}.service failed" in run.error["cause"]
    assert apphost.layout.active() == first
    assert commands(apphost)[-2:] == [("stage", second, "done"), ("migrate", second, "failed")]


def test_deploy_while_somebody_holds_the_lock_touches_nothing(apphost, build, deps):
    apphost.ok("lock", "--reason", "quiet")
    path, _ = build(1)
    run = apphost.run("deploy", path, "--deps", deps[0])
    assert run.code == 4
    assert "(quiet)" in run.error["cause"]
    assert apphost.layout.staged() == []


@pytest.mark.parametrize(
    ("module", "name"), [(staging, "stage"), (migration, "migrate"), (activation, "activate")]
)
def test_killed_deploy_is_taken_up_by_the_next(apphost, deps, build, monkeypatch, module, name):
    path, release_id = build(1)
    with monkeypatch.context() as patched:
        die_at(patched, module, name, 1, True, signal.SIGKILL)
        os.waitpid(apphost.fork("deploy", path, "--deps", deps[0]), 0)
    again = release_id if release_id in apphost.layout.staged() else path
    apphost.ok("deploy", again, *([] if again == release_id else ["--deps", deps[0]]))
    assert apphost.layout.active() == release_id
    assert apphost.ok("status")["problems"] == []


def test_next_release_finds_its_dependencies_linked_already(apphost, deploy, build, deps, monkeypatch):
    deploy(1)
    laid_by = apphost.layout.laid_by(deps[1])
    assert laid_by.is_dir()
    monkeypatch.setattr(staging, "link_tree", lambda *_: pytest.fail("it was linked once more"))
    path, second = build(2)
    apphost.ok("deploy", path)
    shared = apphost.layout.release(second) / "venv/lib"
    files = [file for file in shared.rglob("data.txt")]
    assert [file.stat().st_nlink for file in files] == [4]  # two releases, the dependencies, the next release
    assert laid_by.is_dir()


def test_dependencies_laid_by_in_the_image_a_container_was_made_from_are_linked_anew(
    apphost, deploy, build, deps, monkeypatch
):
    deploy(1)
    laid_by = apphost.layout.laid_by(deps[1])
    real = staging.Path.rename

    def rename(self, target):
        if self == laid_by:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(staging.Path, "rename", rename)
    path, second = build(2)
    apphost.ok("deploy", path)
    assert list((apphost.layout.release(second) / "venv/lib").rglob("data.txt"))
    assert apphost.ok("status")["problems"] == []


def test_dependencies_that_were_found_damaged_are_not_laid_by(apphost, deploy, deps, build):
    deploy(1)
    for file in apphost.layout.deps.rglob("data.txt"):
        file.unlink()
    path, second = build(2)
    apphost.ok("deploy", path, "--deps", deps[0])
    assert list((apphost.layout.release(second) / "venv").rglob("data.txt"))


def test_what_a_deploy_prunes_is_gone_at_once_and_its_files_soon(apphost, deploy):
    first, second, third = deploy(1), deploy(2), deploy(3, "--prune")
    assert apphost.layout.staged() == [second, third]
    deadline = time.monotonic() + 5
    while apphost.layout.removed() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [path for path in apphost.layout.releases.iterdir() if first in path.name]


def test_next_stage_removes_what_nobody_removed(apphost, deps):
    left = apphost.layout.releases / ".20260101T000009Z-0000000.removed"
    left.mkdir(parents=True)
    assert apphost.ok("status")["problems"] == []
    apphost.ok("stage", release_archive(apphost.builds, deps[1])[0], "--deps", deps[0])
    assert not left.exists()


def test_archives_that_nobody_fetched_are_removed_after_a_day(apphost, deps):
    day = 86400
    for name, age in (("old", day + 60), ("new", 60)):
        (apphost.layout.incoming / name).mkdir()
        os.utime(apphost.layout.incoming / name, (time.time() - age,) * 2)
    apphost.ok("stage", release_archive(apphost.builds, deps[1])[0], "--deps", deps[0])
    assert [path.name for path in apphost.layout.incoming.iterdir()] == ["new"]
