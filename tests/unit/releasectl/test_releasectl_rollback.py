"""Where a rollback goes, and what `restart`, `migrate` and `prune` do."""

import time

import pytest
from releasectl import ledger


def activated(site, *numbers):
    found = [site.put(number) for number in numbers]
    site.serve(*found)
    return found


def test_rollback_goes_to_the_release_before(site):
    first, second = activated(site, 1, 2)
    told = site.ok("rollback")
    assert (told["result"], told["release"]) == ("rolled back", first)
    assert site.links() == (first, first, None)
    line = site.ledger()[-1]
    assert (line["command"], line["release"], line["previous"], line["by"]) == (
        "rollback",
        first,
        second,
        "alice",
    )


def test_second_rollback_goes_further_back_and_never_forward(site):
    first, second, _ = activated(site, 1, 2, 3)
    assert site.ok("rollback")["release"] == second
    assert site.ok("rollback")["release"] == first
    run = site.run("rollback")
    assert run.code == 5
    assert site.layout.active() == first


def test_release_deployed_after_a_rollback_goes_back_to_what_served_well(site):
    first, _ = activated(site, 1, 2)
    site.ok("rollback")
    site.ok("activate", site.put(3))
    assert site.ok("rollback")["release"] == first


def test_older_build_deployed_for_the_first_time_goes_back_to_what_it_replaced(site):
    early, late = site.put(1), site.put(2)
    site.serve(late)
    site.ok("activate", early)
    assert site.ok("rollback")["release"] == late


def test_rollback_to_a_named_release(site):
    first, _, _ = activated(site, 1, 2, 3)
    assert site.ok("rollback", first)["release"] == first
    assert site.links() == (first, first, None)


def test_release_left_by_a_rollback_comes_back_when_it_is_named(site):
    first, second = activated(site, 1, 2)
    site.ok("rollback")
    site.ok("activate", second)
    assert site.links() == (second, second, first)


def test_rollback_without_a_ledger_uses_the_links(site):
    first, second = activated(site, 1, 2)
    site.layout.ledger.unlink()
    assert site.links() == (second, second, first)
    assert site.ok("rollback")["release"] == first


def test_rollback_after_a_run_killed_behind_its_switch_goes_to_what_it_left(site):
    first, second, third = activated(site, 1, 2), None, None
    second = first[1]
    third = site.put(3)
    site.systemd.do_start([f"inbox-web@{third}.socket", f"inbox-web@{third}.service"])
    site.layout.switch_to(third)
    assert site.ok("rollback")["release"] == second
    assert [entry["result"] for entry in site.ledger()][-2:] == ["recovered", "done"]


def test_rollback_to_a_release_that_does_not_start_keeps_the_active_one(site):
    first, second = activated(site, 1, 2)
    (site.layout.release(first) / "src/behaviour.json").write_text('{"crash": "no such column"}')
    run = site.run("rollback")
    assert run.code == 2
    assert site.links() == (second, second, first)


def test_nothing_to_roll_back_to_is_refused(site):
    assert site.run("rollback").code == 5


def test_torn_ledger_line_loses_neither_itself_nor_the_next(site):
    activated(site, 1)
    with site.layout.ledger.open("a") as file:
        file.write('{"at": "2026')
    site.ok("activate", site.put(2))
    assert [entry["command"] for entry in ledger.read(site.layout.ledger)] == ["activate", "activate"]


def test_restart_applies_changed_settings(site):
    (first,) = activated(site, 1)
    (site.root / "app.env").write_text("new")
    process = site.systemd.unit(f"inbox-web@{first}.service").process.pid
    assert site.ok("restart")["changed"] is True
    assert site.systemd.unit(f"inbox-web@{first}.service").process.pid != process
    assert '"setting": "new"' in site.ok("status")["serving"]["readyz"]
    assert site.layout.draining() == []


def test_restart_into_broken_settings_says_why(site):
    activated(site, 1)
    (site.root / "app.env").write_text("broken")
    run = site.run("restart")
    assert run.code == 2
    assert any("DATABASE_URL" in line for line in run.error["journal"])
    (site.root / "app.env").write_text("mended")
    site.ok("restart")
    assert site.ok("status")["serving"]["ready"] is True


def test_restart_of_nothing_is_refused(site):
    assert site.run("restart").code == 5


def test_release_without_a_migrate_command_migrates_nothing(site):
    told = site.ok("migrate", site.put(1))
    assert (told["result"], told["changed"]) == ("nothing to migrate", False)
    assert site.systemd.calls == []


def test_migrate_runs_the_release_s_own_unit(site):
    release_id = site.put(1, migrate="flask db upgrade")
    assert site.ok("migrate", release_id)["result"] == "migrated"
    assert ["systemctl", "start", f"inbox-migrate@{release_id}.service"] in site.systemd.calls


def test_failed_migration_shows_its_last_lines(site):
    release_id = site.put(
        1, {"migrate_fails": True, "migrate_output": "LockNotAvailable"}, migrate="flask db upgrade"
    )
    run = site.run("migrate", release_id)
    assert run.code == 2
    assert run.error["journal"] == ["LockNotAvailable"]


def test_migration_that_takes_too_long_is_stopped(site):
    release_id = site.put(1, {"migrate_seconds": 3, "migrate_fails": True}, migrate="flask db upgrade")
    site.systemd.unit(f"inbox-migrate@{release_id}.service").set("activating", "start")
    site.configure(migrate_timeout_seconds=0.3)
    start = time.monotonic()
    run = site.run("migrate", release_id)
    assert run.code == 2
    assert "was not done within" in run.error["cause"]
    assert time.monotonic() - start < 2
    assert ["systemctl", "stop", f"inbox-migrate@{release_id}.service"] in site.systemd.calls


@pytest.fixture
def deps_of(site):
    """Write dependencies that releases use, and some that none does."""
    for deps_id in ("0" * 12, "f" * 12):
        (site.layout.deps / deps_id).mkdir(parents=True)
        (site.layout.deps / deps_id / "big").write_bytes(b"x" * 100_000)


@pytest.mark.usefixtures("deps_of")
def test_prune_keeps_what_serves_what_is_before_and_what_comes(site):
    oldest, first, second = activated(site, 1, 2, 3)
    coming = site.put(4)
    told = site.ok("prune", "--keep", 1)
    assert told["removed"] == [oldest]
    assert site.layout.staged() == [first, second, coming]
    assert told["removed_deps"] == ["f" * 12]
    assert told["freed_bytes"] > 100_000
    assert site.ok("prune", "--keep", 1)["changed"] is False


def test_prune_keeps_as_many_as_the_settings_say(site):
    releases = activated(site, 1, 2, 3, 4)
    site.configure(keep=3)
    assert site.ok("prune")["removed"] == releases[:1]


def test_prune_removes_newer_releases_that_failed(site):
    activated(site, 1, 2)
    failed, untried = site.put(3, {"crash": "boom"}), site.put(4)
    assert site.run("activate", failed).code == 2
    assert site.ok("prune", "--keep", 2)["removed"] == [failed]
    assert untried in site.layout.staged()


def test_prune_stops_what_still_runs_of_a_removed_release(site):
    oldest, _, _ = activated(site, 1, 2, 3)
    site.systemd.do_start([f"inbox-web@{oldest}.socket", f"inbox-web@{oldest}.service"])
    site.systemd.boot.add(f"inbox-web@{oldest}.service")
    site.ok("prune", "--keep", 2)
    assert not any(oldest in name for name in [*site.systemd.up(), *site.systemd.boot])


def test_prune_with_nothing_active_removes_nothing(site):
    site.put(1)
    site.put(2)
    site.put(3)
    assert site.ok("prune", "--keep", 1)["removed"] == []
