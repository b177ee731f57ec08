"""A release that does not get ready: the old one serves on, the play fails, and says why."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from changes import FACTORY, IMPORT
from load import Load
from observing import failed_units, status_of, units_left, units_of
from testbed import durations

CHECKS = "checks=[checks.sqlalchemy(db)]"
BROKEN = {
    # Its migrate command would have found it: it is not started, since its revisions are there.
    "cannot import": (
        (FACTORY, IMPORT, f"{IMPORT}import planted_and_missing\n"),
        ["ModuleNotFoundError: No module named 'planted_and_missing'"],
    ),
    "cannot import under gunicorn": (
        (
            FACTORY,
            IMPORT,
            f"{IMPORT}import os\nif os.environ.get('FLASK_OPS_SERVICE', '').endswith('-web'):\n"
            "    raise ImportError('planted in the web unit alone')\n",
        ),
        ["ImportError: planted in the web unit alone", "crashed before it was ready"],
    ),
    "never ready": (
        (
            FACTORY,
            CHECKS,
            "checks=[checks.sqlalchemy(db), flask_ops.health.Check('planted', lambda: 1 / 0)]",
        ),
        ["was not ready within 40 s", "last health answer: 503", '"id": "planted", "state": "failed"'],
    ),
}


@pytest.fixture(scope="module", params=BROKEN)
def broken(request, site, copied_app, tmp_path_factory):
    """Deploy a broken release under load and return what was seen."""
    change, causes = BROKEN[request.param]
    before, pids = status_of(site), site.pids()
    report = tmp_path_factory.mktemp("report") / "deploy.json"
    extra = {"app_source": str(copied_app(*change)), "release_report": str(report)}
    with Load(site) as load:
        play = site.play("deploy", extra=extra, label=request.param)
    durations.record(f"{site.name} deploy of a release that {request.param}", play.seconds)
    after = status_of(site)
    (staged,) = {entry["id"] for entry in after["releases"]} - {entry["id"] for entry in before["releases"]}
    yield SimpleNamespace(
        play=play,
        report=json.loads(report.read_text()),
        causes=causes,
        load=load,
        before=before,
        after=after,
        staged=staged,
        pids=(pids, site.pids()),
        # A worker that got as far finishes its tasks, which nobody waits for.
        units=units_left(site),
        failed=failed_units(site),
    )
    # What one of them leaves must not be held against the next.
    site.sudo("systemctl reset-failed")


def test_broken_release_fails_the_play(broken):
    assert broken.play.returncode == 2, broken.play.tail()


def test_broken_release_is_explained_by_its_cause(broken):
    for cause in broken.causes:
        assert cause in broken.play.words, broken.play.tail()


def test_broken_release_is_reported_with_releasectls_exit_code_and_the_next_command(broken):
    assert "failed; the old release serves (releasectl exit 2)" in broken.play.words, broken.play.tail()
    assert re.search(r"next: sudo \S+", broken.play.words), broken.play.tail()


def test_broken_release_is_told_to_a_program_by_its_result(site, broken):
    told = broken.report
    assert (told["result"], told["exit"], told["failed"]) == ("failed", 2, [site.name])
    assert told["release"] == broken.staged
    assert told["hosts"][site.name]["error"]["cause"]
    assert broken.play.words.rstrip().count("result: failed") >= 1


def test_broken_release_keeps_old_version_serving(broken):
    assert broken.load.failures == [], broken.load.words
    assert set(broken.load.releases) == {broken.before["active"]}, broken.load.words
    assert broken.after["active"] == broken.before["active"]
    assert broken.pids[1] == broken.pids[0]


def test_broken_release_loses_and_doubles_no_message(broken):
    assert broken.load.stored() == (len(broken.load.posted), len(broken.load.posted)), broken.load.words


def test_broken_release_leaves_nothing_running_or_failed(site, broken):
    active = broken.before["active"]
    assert broken.units == units_of(site.app, active)
    assert broken.failed == ""
    assert site.sudo(f"pgrep --full --list-full '^/srv/{site.app}/releases/{broken.staged}/' || true") == ""
    assert broken.after["problems"] == []


def test_broken_release_is_in_the_ledger(site, broken):
    last = site.sudo(f"releasectl --app {site.app} log -n 1")
    assert broken.staged in last, last
    assert "failed" in last, last
