"""A site is closed and opened by one link, whatever else happens to its releases."""

import fcntl
import html
import json
import os
import signal

import pytest
from releasectl import layout, maintenance
from test_releasectl_activation import die_at

UGLY = """<script>alert("x")</script> & 'bye' \\ <!--# echo var="x" --> é ü"""


def closed(apphost):
    """Whether nginx would find the site closed."""
    return (apphost.layout.maintenance / "reason.json").is_file()


def kept(apphost):
    """Return what of maintenance is left on disk."""
    return sorted(
        str(path.relative_to(apphost.root)) for path in apphost.root.rglob("*") if "maintenance" in str(path)
    )


def test_site_is_closed_and_opened_and_the_second_time_nothing_changes(apphost):
    for words, changed, now in (
        (["on"], True, True), (["on"], False, True), (["off"], True, False), (["off"], False, False),
    ):  # fmt: skip
        told = apphost.ok("maintenance", *words)
        assert (told["changed"], told["maintenance"]["on"], closed(apphost)) == (changed, now, now), words
    assert kept(apphost) == [".maintenance.lock"]


def test_reason_and_time_are_changed_in_one_rename(apphost, monkeypatch):
    apphost.ok("maintenance", "on", "--reason", "First", "--retry-after", 60)
    seen, rename = [], layout.Path.replace

    def watched(path, target):
        done = rename(path, target)
        told = maintenance.AS_HTML, maintenance.AS_JSON
        there = [(apphost.layout.maintenance / name).read_text() for name in told]
        seen.append((apphost.layout.maintenance.readlink().name.partition("-")[0], *there))
        return done

    monkeypatch.setattr(layout.Path, "replace", watched)
    assert apphost.ok("maintenance", "on", "--reason", "Second", "--retry-after", 90)["changed"] is True
    assert set(seen) == {("60", "First", "First"), ("90", "Second", "Second")}
    assert len(list(apphost.layout.closures.iterdir())) == 1


def test_reason_is_safe_where_nginx_puts_it(apphost):
    apphost.ok("maintenance", "on", "--reason", UGLY)
    as_html = (apphost.layout.maintenance / "reason.html").read_text()
    as_json = (apphost.layout.maintenance / "reason.json").read_text()
    assert not set(as_html) & set("<>\"'")
    assert not set(as_json) & set("<>&'")
    assert html.unescape(as_html) == json.loads(f'"{as_json}"') == UGLY
    assert apphost.ok("status")["maintenance"]["reason"] == UGLY


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["on", "--reason", ""], "--reason"),
        (["on", "--reason", "two\nlines"], "--reason"),
        (["on", "--reason", "\x1b[31mred"], "--reason"),
        (["on", "--reason", "\udce9"], "--reason"),
        (["on", "--reason", "x" * 501], "500 characters"),
        (["on", "--retry-after", "0"], "--retry-after"),
        (["on", "--retry-after", "5m"], "--retry-after"),
        (["on", "--retry-after", "604801"], "604800"),
        (["off", "--reason", "x"], "maintenance on"),
        (["of"], "'of'"),
        ([], "turn"),
    ],
)
def test_nonsense_is_refused_by_name_and_closes_nothing(apphost, words, named):
    run = apphost.run("maintenance", *words)
    assert (run.code, run.json["result"]) == (5, "refused")
    assert named in run.error["cause"]
    assert not closed(apphost)
    assert apphost.ledger() == []


def test_what_a_person_put_in_the_links_place_is_refused_and_kept(apphost):
    apphost.layout.maintenance.write_text("mine")
    for turn in ("on", "off"):
        assert apphost.run("maintenance", turn).code == 5
    assert apphost.layout.maintenance.read_text() == "mine"


def test_status_and_log_tell_who_closed_the_site_and_why(apphost):
    assert apphost.ok("status")["maintenance"] == {"on": False}
    apphost.ok("maintenance", "on", "--reason", "Moving house", "--retry-after", 120)
    told = apphost.ok("status")
    assert told["problems"] == []
    assert told["maintenance"]["since"].endswith("Z")
    assert told["maintenance"]["retry_after_seconds"] == 120
    words = apphost.run("status", json_form=False).out
    assert "closed for maintenance since" in words
    assert "retry after 120 s: Moving house" in words
    apphost.ok("maintenance", "off")
    assert "maintenance" not in apphost.run("status", json_form=False).out
    on, off = apphost.ledger()
    assert (on["command"], on["turn"], on["by"], on["maintenance"]["reason"]) == (
        "maintenance", "on", "alice", "Moving house",
    )  # fmt: skip
    assert (off["turn"], off["result"], off["maintenance"]) == ("off", "done", {"on": False})
    log = apphost.run("log", json_form=False).out
    assert "maintenance  on  done  by alice" in log
    assert "Moving house" in log


def test_link_that_closes_nothing_is_named_and_its_repair_works(apphost):
    apphost.ok("maintenance", "on")
    (apphost.layout.maintenance / "reason.json").unlink()
    told = apphost.ok("status")
    assert told["maintenance"] == {"on": False}
    (problem,) = told["problems"]
    assert "the site is open" in problem["problem"]
    assert apphost.ok(*problem["repair"].split()[4:])["changed"] is True
    assert apphost.ok("status")["problems"] == []


def test_spoilt_words_are_put_right_by_the_same_command(apphost):
    apphost.ok("maintenance", "on")
    (apphost.layout.maintenance / "reason.html").write_text("<b>spoilt")
    assert apphost.ok("maintenance", "on")["changed"] is True
    assert (apphost.layout.maintenance / "reason.html").read_text() == maintenance.USUAL_REASON


def test_nginx_that_lets_visitors_in_all_the_same_is_remarked_on(edged):
    """The small nginx of these tests knows nothing of maintenance."""
    edged.ok("activate", edged.put(1))
    for _ in range(2):
        (remark,) = edged.ok("maintenance", "on")["remarks"]
        assert "https://inbox.localhost/ and got 200" in remark
        assert "nginx_maintenance_allowed_addresses" in remark
    assert "note: this host asked" in edged.run("maintenance", "on", json_form=False).out
    assert edged.ok("maintenance", "off")["remarks"] == []


def test_site_stays_closed_over_deploy_rollback_restart_and_prune(edged):
    first, second = edged.put(1), edged.put(2)
    edged.ok("activate", first)
    edged.ok("maintenance", "on", "--reason", "Stays")
    for words in (["activate", second], ["rollback"], ["restart"], ["prune", "--keep", "1"]):
        edged.ok(*words)
        assert edged.ok("status")["maintenance"]["reason"] == "Stays", words
    assert edged.links()[0] == first


def test_site_can_be_closed_while_a_deploy_holds_the_lock(apphost):
    with apphost.layout.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert apphost.ok("maintenance", "on")["changed"] is True
    with apphost.layout.maintenance_lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert apphost.run("maintenance", "off").code == 4
    assert closed(apphost)


@pytest.mark.parametrize("calls", range(5))
def test_command_killed_at_any_rename_leaves_a_whole_state_and_is_repeated(apphost, monkeypatch, calls):
    """Killed before its nth rename, or after the last: closed as before, or closed as asked."""
    apphost.ok("maintenance", "on", "--reason", "Before", "--retry-after", 60)
    with monkeypatch.context() as patched:
        die_at(patched, layout.Path, "replace", calls + 1, False, signal.SIGKILL)
        _, status = os.waitpid(apphost.fork("maintenance", "on", "--reason", "After", "--retry-after", 90), 0)
    # Two files, a link, and what Prometheus is told.
    assert os.WIFSIGNALED(status) == (calls < 4)
    told = apphost.ok("status")["maintenance"]
    assert told["reason"] == ("After" if calls >= 3 else "Before")
    assert apphost.ok("maintenance", "on", "--reason", "After", "--retry-after", 90)["changed"] is (calls < 3)
    assert apphost.ok("maintenance", "off")["changed"] is True
    assert kept(apphost) == [".maintenance.lock"]
