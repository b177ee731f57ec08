"""What instances leave in /run: kept for those that may come back, removed for those that will not."""

import os
import signal

import pytest
from releasectl import clock, settling


@pytest.fixture
def served(apphost):
    """Activate two releases one after the other and return them with a third, still to come."""
    releases = [apphost.put(number) for number in (1, 2, 3)]
    for release_id in releases[:2]:
        apphost.ok("activate", release_id)
        # An instance that nobody waits for is still stopping when the next activation looks.
        assert clock.until(10, lambda: len(apphost.systemd.up()) == 2)
    return releases


def kept(apphost):
    return apphost.layout.kept_runtime()


def test_metrics_of_a_release_that_will_not_come_back_are_removed(apphost, served):
    oldest, before, active = served
    apphost.ok("activate", active)
    assert kept(apphost) == [before, active]
    assert not (apphost.run_dir / oldest).exists()


def test_metrics_of_what_serves_and_of_what_is_before_are_never_touched(apphost, served):
    oldest, before, active = served
    apphost.ok("activate", active)
    apphost.ok("prune", "--keep", 1)
    for release_id in (before, active):
        assert (apphost.run_dir / release_id / "metrics").is_dir()
    assert oldest not in apphost.layout.staged()


def test_metrics_of_a_release_that_runs_without_traffic_stay(apphost, served):
    oldest, _, active = served
    apphost.ok("activate", active)
    apphost.systemd.do_start([f"inbox-web@{oldest}.socket", f"inbox-web@{oldest}.service"])
    assert oldest in kept(apphost)
    apphost.ok("prune", "--keep", 3)
    assert oldest in kept(apphost)


def test_metrics_of_a_release_that_failed_are_removed(apphost, served):
    first, second, _ = served
    crashing = apphost.put(4, {"crash": "boom"})
    assert apphost.run("activate", crashing).code == 2
    assert crashing not in kept(apphost)
    assert {first, second} <= set(kept(apphost))


def test_nothing_else_in_the_run_folder_is_touched(apphost, served, tmp_path):
    _, _, active = served
    linked = apphost.run_dir / "20200101T000000Z-abcdef0"
    linked.symlink_to(tmp_path)
    others = ["worker", f"{active}-worker", ".hidden"]
    for name in others:
        (apphost.run_dir / name / "metrics").mkdir(parents=True)
    (tmp_path / "precious").touch()
    apphost.ok("activate", active)
    apphost.ok("prune")
    assert (tmp_path / "precious").exists()
    assert linked.is_symlink()
    assert all((apphost.run_dir / name / "metrics").is_dir() for name in others)


def test_links_that_an_app_made_are_not_followed(apphost, served, tmp_path):
    oldest, _, active = served
    (tmp_path / "precious").touch()
    (apphost.run_dir / oldest / "metrics/link").symlink_to(tmp_path)
    apphost.ok("activate", active)
    assert oldest not in kept(apphost)
    assert (tmp_path / "precious").exists()


def test_folder_that_cannot_be_removed_is_a_remark_and_no_failure(apphost, served, monkeypatch):
    def refuse(path):
        raise PermissionError(f"no: {path}")

    with monkeypatch.context() as patched:
        patched.setattr(settling.shutil, "rmtree", refuse)
        told = apphost.ok("activate", served[2])
    assert any("old metrics were not removed" in remark for remark in told["remarks"])
    assert apphost.layout.active() == served[2]


def test_run_killed_while_it_removes_is_finished_by_the_next(apphost, served, monkeypatch):
    oldest, before, active = served
    with monkeypatch.context() as patched:
        patched.setattr(settling.shutil, "rmtree", lambda path: os.kill(os.getpid(), signal.SIGKILL))
        _, status = os.waitpid(apphost.fork("activate", active), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert oldest in kept(apphost)
    apphost.ok("activate", active)
    assert kept(apphost) == [before, active]


def test_readiness_is_asked_for_under_the_apps_prefix(apphost):
    apphost.configure(ops_prefix="/-")
    release_id = apphost.put(1, {"prefix": "/-"})
    apphost.ok("activate", release_id)
    assert apphost.ok("status")["serving"]["ready"] is True


def test_app_that_answers_under_another_prefix_gets_no_traffic(apphost):
    apphost.configure(ops_prefix="/-", start_timeout_seconds=1)
    assert apphost.run("activate", apphost.put(1)).code == 2
    assert apphost.layout.active() is None
