"""An app's own programs have a say before traffic moves, and are told afterwards how it ended."""

import json

import pytest
from releasectl_archives import release_archive

# Stands where systemd-run would be: the account and the sandbox are systemd's, and proven on a host.
SYSTEMD_RUN = """#!/bin/sh
for word in "$@"; do
    case $word in
        --setenv=*) export "${word#--setenv=}" ;;
        --*) ;;
        *) exec "$@" ;;
    esac
    shift
done
"""
NOTE = """#!/bin/sh
echo "$RELEASECTL_POINT|$RELEASECTL_RELEASE|$RELEASECTL_PREVIOUS|$RELEASECTL_CAUSE|$RELEASECTL_BY" >> {notes}
echo "the token is hunter2"
exit {code}
"""


@pytest.fixture
def hooked(edged):
    """Give a host with a hook at each point, which notes what it was told."""
    (edged.systemd.folder / "systemd-run").write_text(SYSTEMD_RUN)
    (edged.systemd.folder / "systemd-run").chmod(0o755)
    edged.notes = edged.base / "notes"

    def hook(point, code=0, name="note"):
        path = edged.base / f"{point}-{name}"
        path.write_text(NOTE.format(notes=edged.notes, code=code))
        path.chmod(0o755)
        return str(path)

    edged.hook = hook
    points = ("before_switch", "deployed", "rolled_back", "failed")
    edged.configure(hooks={point: [hook(point)] for point in points})
    return edged


def noted(hooked):
    lines = hooked.notes.read_text().splitlines() if hooked.notes.exists() else []
    return [tuple(line.split("|")) for line in lines]


def test_hooks_are_told_of_a_deploy_and_a_rollback(hooked):
    first, second = hooked.put(1), hooked.put(2)
    hooked.serve(first)
    hooked.ok("activate", second)
    hooked.ok("rollback")
    assert noted(hooked) == [
        ("before_switch", second, first, "", "alice"),
        ("deployed", second, first, "", "alice"),
        ("rolled_back", first, second, "", "alice"),
    ]


def test_hooks_hear_of_a_deploy_once_whatever_part_fails(hooked, deps):
    first = release_archive(hooked.builds, deps[1], 1)
    bad = release_archive(
        hooked.builds, deps[1], 2, migrate="flask db upgrade", behaviour={"migrate_fails": True}
    )
    hooked.ok("deploy", first[0], "--deps", deps[0])
    assert hooked.run("deploy", bad[0]).code == 2
    ends = [note[:3] for note in noted(hooked) if note[0] != "before_switch"]
    assert ends == [("deployed", first[1], ""), ("failed", bad[1], first[1])]


def test_hook_that_fails_keeps_traffic_where_it_is(hooked):
    first, second = hooked.put(1), hooked.put(2)
    hooked.serve(first)
    hooked.configure(hooks={"before_switch": [hooked.hook("before_switch", 4, "check")]})
    run = hooked.run("activate", second)
    assert (run.code, run.json["result"]) == (2, "failed")
    assert "the hook before_switch-check failed (4); traffic never moved" in run.error["cause"]
    assert run.error["next"] == "sudo journalctl -t inbox-hook -n 50"
    assert hooked.layout.active() == first
    assert not any(second in unit for unit in hooked.systemd.up())


def test_hook_is_told_of_a_failure_with_its_cause(hooked):
    first, second = hooked.put(1), hooked.put(2, {"crash": "boom"})
    hooked.serve(first)
    hooked.run("activate", second)
    ((point, release, previous, cause, _by),) = noted(hooked)
    assert (point, release, previous) == ("failed", second, first)
    assert "crashed before it was ready" in cause


def test_hook_that_fails_when_it_is_over_is_a_remark(hooked):
    first = hooked.put(1)
    hooked.configure(hooks={"deployed": [hooked.hook("deployed", 9), hooked.hook("deployed", 0, "second")]})
    told = hooked.ok("activate", first)
    assert told["remarks"] == ["the hook deployed-note failed (9): sudo journalctl -t inbox-hook -n 50"]


def test_what_a_hook_prints_is_shown_to_nobody(hooked):
    first, second = hooked.put(1), hooked.put(2)
    hooked.serve(first)
    run = hooked.run("activate", second)
    assert "running the hook" in run.err
    assert "hunter2" not in run.out + run.err + json.dumps(hooked.ledger())


def test_deploy_that_holds_the_lock_has_its_end_told_once_by_itself(hooked, monkeypatch):
    first, second = hooked.put(1), hooked.put(2)
    hooked.serve(first)
    monkeypatch.setenv("RELEASECTL_LOCK", "one")
    hooked.ok("activate", second)
    assert [note[0] for note in noted(hooked)] == ["before_switch"]
    told = hooked.ok("hook", "deployed", "--release", second, "--previous", first)
    assert (told["changed"], told["remarks"]) == (False, [])
    assert noted(hooked)[-1] == ("deployed", second, first, "", "alice")


def test_hooks_are_not_told_of_what_changes_nothing(hooked):
    first = hooked.put(1)
    hooked.ok("activate", first)
    hooked.notes.unlink()
    hooked.ok("activate", first)
    hooked.run("activate", "20260101T000000Z-0000000")
    assert noted(hooked) == []


def test_hook_that_is_not_there_is_a_failure(hooked):
    hooked.configure(hooks={"before_switch": ["/nowhere/check"]})
    run = hooked.run("activate", hooked.put(1))
    assert run.code == 2
    assert "the hook check" in run.error["cause"]


@pytest.mark.parametrize("hooks", [{"after_lunch": []}, {"failed": "x"}, {"failed": ["relative"]}, []])
def test_settings_name_points_and_paths(edged, hooks):
    edged.configure(hooks=hooks)
    run = edged.run("status")
    assert run.code == 5
    assert (
        "'hooks' does not name programs by their paths for some of before_switch, deployed"
        in run.error["cause"]
    )


def test_point_that_does_not_exist_is_refused(edged):
    assert edged.run("hook", "before_switch").code == 5
