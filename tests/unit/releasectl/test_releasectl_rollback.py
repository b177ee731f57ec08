"""Where a rollback goes, and what `restart`, `migrate` and `prune` do."""

import errno
import time

import pytest
from releasectl import ledger, pruning


def activated(apphost, *numbers):
    found = [apphost.put(number) for number in numbers]
    apphost.serve(*found)
    return found


def test_rollback_goes_to_the_release_before(apphost):
    first, second = activated(apphost, 1, 2)
    told = apphost.ok("rollback")
    assert (told["result"], told["release"]) == ("rolled back", first)
    assert apphost.links() == (first, first, None)
    line = apphost.ledger()[-1]
    assert (line["command"], line["release"], line["previous"], line["by"]) == (
        "rollback",
        first,
        second,
        "alice",
    )


def test_second_rollback_goes_further_back_and_never_forward(apphost):
    first, second, _ = activated(apphost, 1, 2, 3)
    assert apphost.ok("rollback")["release"] == second
    assert apphost.ok("rollback")["release"] == first
    run = apphost.run("rollback")
    assert run.code == 5
    assert apphost.layout.active() == first


def test_release_deployed_after_a_rollback_goes_back_to_what_served_well(apphost):
    first, _ = activated(apphost, 1, 2)
    apphost.ok("rollback")
    apphost.ok("activate", apphost.put(3))
    assert apphost.ok("rollback")["release"] == first


def test_older_build_deployed_for_the_first_time_goes_back_to_what_it_replaced(apphost):
    early, late = apphost.put(1), apphost.put(2)
    apphost.serve(late)
    apphost.ok("activate", early)
    assert apphost.ok("rollback")["release"] == late


def test_rollback_to_a_named_release(apphost):
    first, _, _ = activated(apphost, 1, 2, 3)
    assert apphost.ok("rollback", first)["release"] == first
    assert apphost.links() == (first, first, None)


def test_release_left_by_a_rollback_comes_back_when_it_is_named(apphost):
    first, second = activated(apphost, 1, 2)
    apphost.ok("rollback")
    apphost.ok("activate", second)
    assert apphost.links() == (second, second, first)


def test_rollback_without_a_ledger_uses_the_links(apphost):
    first, second = activated(apphost, 1, 2)
    apphost.layout.ledger.unlink()
    assert apphost.links() == (second, second, first)
    assert apphost.ok("rollback")["release"] == first


def test_rollback_after_a_run_killed_behind_its_switch_goes_to_what_it_left(apphost):
    first, second, third = activated(apphost, 1, 2), None, None
    second = first[1]
    third = apphost.put(3)
    apphost.systemd.do_start([f"inbox-web@{third}.socket", f"inbox-web@{third}.service"])
    apphost.layout.switch_to(third)
    assert apphost.ok("rollback")["release"] == second
    assert [entry["result"] for entry in apphost.ledger()][-2:] == ["recovered", "done"]


def test_rollback_to_a_release_that_does_not_start_keeps_the_active_one(apphost):
    first, second = activated(apphost, 1, 2)
    (apphost.layout.release(first) / "src/behaviour.json").write_text('{"crash": "no such column"}')
    run = apphost.run("rollback")
    assert run.code == 2
    assert apphost.links() == (second, second, first)


def test_nothing_to_roll_back_to_is_refused(apphost):
    assert apphost.run("rollback").code == 5


def test_torn_ledger_line_loses_neither_itself_nor_the_next(apphost):
    activated(apphost, 1)
    with apphost.layout.ledger.open("a") as file:
        file.write('{"at": "2026')
    apphost.ok("activate", apphost.put(2))
    assert [entry["command"] for entry in ledger.read(apphost.layout.ledger)] == ["activate", "activate"]


def test_restart_applies_changed_settings(apphost):
    (first,) = activated(apphost, 1)
    (apphost.root / "app.env").write_text("new")
    process = apphost.systemd.unit(f"inbox-web@{first}.service").process.pid
    assert apphost.ok("restart")["changed"] is True
    assert apphost.systemd.unit(f"inbox-web@{first}.service").process.pid != process
    assert '"setting": "new"' in apphost.ok("status")["serving"]["readyz"]
    assert apphost.layout.draining() == []


def test_restart_into_broken_settings_says_why(apphost):
    activated(apphost, 1)
    (apphost.root / "app.env").write_text("broken")
    run = apphost.run("restart")
    assert run.code == 2
    assert any("DATABASE_URL" in line for line in run.error["journal"])
    (apphost.root / "app.env").write_text("mended")
    apphost.ok("restart")
    assert apphost.ok("status")["serving"]["ready"] is True


def test_restart_of_nothing_is_refused(apphost):
    assert apphost.run("restart").code == 5


def test_release_without_a_migrate_command_migrates_nothing(apphost):
    told = apphost.ok("migrate", apphost.put(1))
    assert (told["result"], told["changed"]) == ("nothing to migrate", False)
    assert apphost.systemd.calls == []


def test_migrate_runs_the_release_s_own_unit(apphost):
    release_id = apphost.put(1, migrate="flask db upgrade")
    assert apphost.ok("migrate", release_id)["result"] == "migrated"
    assert ["systemctl", "start", f"inbox-migrate@{release_id}.service"] in apphost.systemd.calls


def test_failed_migration_shows_its_last_lines(apphost):
    release_id = apphost.put(
        1, {"migrate_fails": True, "migrate_output": "LockNotAvailable"}, migrate="flask db upgrade"
    )
    run = apphost.run("migrate", release_id)
    assert run.code == 2
    assert run.error["journal"] == ["LockNotAvailable"]


def test_migration_that_takes_too_long_is_stopped(apphost):
    release_id = apphost.put(1, {"migrate_seconds": 3, "migrate_fails": True}, migrate="flask db upgrade")
    apphost.systemd.unit(f"inbox-migrate@{release_id}.service").set("activating", "start")
    apphost.configure(migrate_timeout_seconds=0.3)
    start = time.monotonic()
    run = apphost.run("migrate", release_id)
    assert run.code == 2
    assert "was not done within" in run.error["cause"]
    assert time.monotonic() - start < 2
    assert ["systemctl", "stop", f"inbox-migrate@{release_id}.service"] in apphost.systemd.calls


@pytest.fixture
def deps_of(apphost):
    """Write dependencies that releases use, and some that none does."""
    for deps_id in ("0" * 12, "f" * 12):
        (apphost.layout.deps / deps_id).mkdir(parents=True)
        (apphost.layout.deps / deps_id / "big").write_bytes(b"x" * 100_000)


@pytest.mark.usefixtures("deps_of")
def test_prune_keeps_what_serves_what_is_before_and_what_comes(apphost):
    oldest, first, second = activated(apphost, 1, 2, 3)
    coming = apphost.put(4)
    told = apphost.ok("prune", "--keep", 1)
    assert told["removed"] == [oldest]
    assert apphost.layout.staged() == [first, second, coming]
    assert told["removed_deps"] == ["f" * 12]
    assert told["freed_bytes"] > 100_000
    assert apphost.ok("prune", "--keep", 1)["changed"] is False


def test_prune_keeps_as_many_as_the_settings_say(apphost):
    releases = activated(apphost, 1, 2, 3, 4)
    apphost.configure(keep=3)
    assert apphost.ok("prune")["removed"] == releases[:1]


def test_prune_removes_newer_releases_that_failed(apphost):
    activated(apphost, 1, 2)
    failed, untried = apphost.put(3, {"crash": "boom"}), apphost.put(4)
    assert apphost.run("activate", failed).code == 2
    assert apphost.ok("prune", "--keep", 2)["removed"] == [failed]
    assert untried in apphost.layout.staged()


def test_prune_removes_what_failed_before_what_one_can_go_back_to(apphost):
    oldest, before = activated(apphost, 1, 2)
    failed = [apphost.put(number, {"crash": "boom"}) for number in (3, 4)]
    for release in failed:
        assert apphost.run("activate", release).code == 2
    active = apphost.put(5)
    apphost.ok("activate", active)
    assert apphost.ok("prune", "--keep", 4)["removed"] == failed[:1]
    assert apphost.ok("prune", "--keep", 3)["removed"] == failed[1:]
    assert apphost.layout.staged() == [oldest, before, active]


def test_prune_stops_what_still_runs_of_a_removed_release(apphost):
    oldest, _, _ = activated(apphost, 1, 2, 3)
    apphost.systemd.do_start([f"inbox-web@{oldest}.socket", f"inbox-web@{oldest}.service"])
    apphost.systemd.boot.add(f"inbox-web@{oldest}.service")
    apphost.ok("prune", "--keep", 2)
    assert not any(oldest in name for name in [*apphost.systemd.up(), *apphost.systemd.boot])


def test_prune_with_nothing_active_removes_nothing(apphost):
    apphost.put(1)
    apphost.put(2)
    apphost.put(3)
    assert apphost.ok("prune", "--keep", 1)["removed"] == []


@pytest.mark.parametrize(("free_mb", "gone"), [(99, 2), (101, 0)])
def test_prune_keeps_no_spare_release_where_the_disk_is_nearly_full(apphost, monkeypatch, free_mb, gone):
    releases = activated(apphost, 1, 2, 3, 4)
    apphost.configure(keep=9, keep_free_mb=100)
    monkeypatch.setattr(pruning.facts, "room", lambda _folder: (free_mb * 1024 * 1024, None))
    assert apphost.ok("prune")["removed"] == releases[:gone]


def test_prune_goes_on_where_one_release_cannot_be_removed(apphost, monkeypatch):
    releases = activated(apphost, 1, 2, 3, 4)
    real = pruning._remove

    def remove(folder, *, now):
        if folder.name == releases[0]:
            raise PermissionError("it is mounted")
        return real(folder, now=now)

    monkeypatch.setattr(pruning, "_remove", remove)
    run = apphost.run("prune", "--keep", 2)
    assert run.code == 2
    assert run.error["cause"] == f"{releases[0]} is not removed: it is mounted"
    assert apphost.layout.staged() == [releases[0], *releases[2:]]


def test_prune_removes_a_release_of_the_image_a_container_was_made_from(apphost, monkeypatch):
    releases = activated(apphost, 1, 2, 3)

    def rename(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(pruning.Path, "rename", rename)
    assert apphost.ok("prune", "--keep", 2)["removed"] == releases[:1]
    assert apphost.layout.staged() == releases[1:]
