"""A share of the clients gets another release, and everything else knows that it is no stray."""

import os
import signal

import pytest
from releasectl import clock, layout, systemd
from test_releasectl_activation import die_at


@pytest.fixture
def two(apphost):
    """A host that serves a release and has a newer one staged."""
    first, second = apphost.put(1), apphost.put(2)
    apphost.ok("activate", first)
    return first, second


def slots(apphost):
    """Return the slots whose clients nginx would send to the canary."""
    share = apphost.layout.canary_share
    return sorted(path.name for path in share.iterdir() if path.is_file()) if share.is_dir() else []


def way(apphost):
    """Return where nginx's connections for the canary's clients end."""
    return os.path.realpath(apphost.layout.canary_socket)


def sound(apphost):
    """Whether all adds up, once what nobody waits for has stopped."""
    return clock.until(5, lambda: apphost.ok("status")["problems"] == [])


def running(apphost, release_id):
    return systemd.show(f"inbox-web@{release_id}.service").running


def test_canary_is_given_raised_lowered_and_withdrawn(apphost, two):
    first, second = two
    for share, last in ((5, "01"), (25, "05"), (10, "02"), (95, "19")):
        told = apphost.ok("canary", second, "--share", share)
        assert (told["changed"], told["share_percent"]) == (True, share)
        assert slots(apphost)[-1] == last
        assert len(slots(apphost)) == share // 5
        assert way(apphost) == str(apphost.layout.socket(second))
        assert (apphost.layout.canary_share / "release").resolve() == apphost.layout.release(second)
        assert apphost.ok("canary", second, "--share", share)["changed"] is False
    assert apphost.links() == (first, first, None)
    assert len(list(apphost.layout.canary_shares.iterdir())) == 1
    assert apphost.ok("canary", "--withdraw")["changed"] is True
    assert slots(apphost) == []
    assert way(apphost) == str(apphost.layout.socket(first))
    assert not running(apphost, second)
    assert apphost.ok("canary", "--withdraw")["changed"] is False
    assert sound(apphost)
    assert not apphost.layout.canary_shares.exists()


def test_raising_the_share_starts_nothing_anew(apphost, two):
    _, second = two
    apphost.ok("canary", second, "--share", 5)
    before = systemd.show(f"inbox-web@{second}.service").invocation
    apphost.ok("canary", second, "--share", 50)
    assert systemd.show(f"inbox-web@{second}.service").invocation == before


def test_status_shows_the_canary_and_calls_it_no_problem(apphost, two):
    _, second = two
    apphost.ok("canary", second, "--share", 25)
    told = apphost.ok("status")
    assert told["canary"] == {"release": second, "share_percent": 25}
    assert told["problems"] == []
    assert f"canary    {second}, 25 % of the clients" in apphost.run("status", json_form=False).out
    assert {f"inbox-web@{second}.socket", f"inbox-web@{second}.service"} <= apphost.systemd.boot
    line = apphost.ledger()[-1]
    assert (line["command"], line["release"], line["share_percent"]) == ("canary", second, 25)
    apphost.ok("canary", "--withdraw")
    assert apphost.ok("status")["canary"] is None
    assert apphost.ledger()[-1]["release"] == second
    assert f"inbox-web@{second}.service" not in apphost.systemd.boot


def test_canary_starts_no_worker_and_no_beat(apphost, two):
    apphost.configure(companions=["worker", "beat", "flower"])
    _, second = two
    apphost.ok("restart")
    apphost.ok("canary", second, "--share", 25)
    begun = [words for words in apphost.systemd.calls if words[1] in ("start", "restart", "enable")]
    assert not [words for words in begun if f"inbox-worker@{second}.service" in words]
    assert sound(apphost)


@pytest.mark.parametrize("words", [["activate", "first"], ["restart"], ["prune", "--keep", "1"]])
def test_canary_survives_what_is_not_about_it(apphost, two, words):
    first, second = two
    apphost.ok("canary", second, "--share", 25)
    invocation = systemd.show(f"inbox-web@{second}.service").invocation
    told = apphost.ok(*(first if word == "first" else word for word in words))
    assert told["changed"] is (words == ["restart"])
    assert systemd.show(f"inbox-web@{second}.service").invocation == invocation
    assert len(slots(apphost)) == 5
    assert sound(apphost)


def test_activating_the_canary_promotes_the_instance_that_runs(apphost, two):
    first, second = two
    apphost.ok("canary", second, "--share", 25)
    invocation = systemd.show(f"inbox-web@{second}.service").invocation
    told = apphost.ok("activate", second)
    assert (told["retired"], told["previous"]) == ([first], first)
    assert systemd.show(f"inbox-web@{second}.service").invocation == invocation
    assert apphost.links() == (second, second, first)
    assert slots(apphost) == []
    assert way(apphost) == str(apphost.layout.socket(second))
    assert sound(apphost)


def test_canary_that_is_not_well_is_started_anew_to_be_activated(apphost, two):
    _, second = two
    apphost.ok("canary", second, "--share", 25)
    apphost.layout.drain_file(second).touch()
    invocation = systemd.show(f"inbox-web@{second}.service").invocation
    apphost.ok("activate", second)
    assert systemd.show(f"inbox-web@{second}.service").invocation != invocation
    assert sound(apphost)


@pytest.mark.parametrize("verb", ["activate", "rollback"])
def test_another_release_withdraws_the_canary_first(apphost, two, verb):
    _, second = two
    third = apphost.put(3)
    apphost.ok("activate", third)
    apphost.ok("canary", second, "--share", 50)
    fourth = apphost.put(4)
    told = apphost.ok(*(["activate", fourth] if verb == "activate" else ["rollback"]))
    assert told["changed"] is True
    assert slots(apphost) == []
    assert way(apphost) == str(apphost.layout.socket(told["release"]))
    assert not running(apphost, second)
    assert sound(apphost)


def test_canary_that_never_gets_ready_leaves_nothing(apphost, two):
    first, _ = two
    broken = apphost.put(3, behaviour={"crash": True})
    run = apphost.run("canary", broken, "--share", 25)
    assert (run.code, run.json["result"]) == (2, "failed")
    assert slots(apphost) == []
    assert not running(apphost, broken)
    assert sound(apphost)
    assert apphost.ok("status")["active"] == first


def test_promotion_that_fails_brings_everybody_back(edged):
    first, second = edged.put(1), edged.put(2)
    edged.ok("activate", first)
    edged.ok("canary", second, "--share", 25)
    # The edge cannot be seen: nobody listens where it is looked for.
    edged.configure(edge={**edged.settings["edge"], "connect": "127.0.0.1:1"}, edge_timeout_seconds=0.5)
    run = edged.run("activate", second)
    assert (run.code, run.json["result"]) == (3, "switched back")
    assert edged.layout.active() == first
    assert slots(edged) == []
    assert way(edged) == str(edged.layout.socket(first))
    assert not running(edged, second)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["SECOND", "--share", "7"], "--share"),
        (["SECOND", "--share", "100"], "--share"),
        (["SECOND", "--share", "0"], "--share"),
        (["SECOND"], "--share"),
        (["--share", "5"], "a release"),
        (["SECOND", "--withdraw"], "--withdraw"),
        (["FIRST", "--share", "5"], "serves everybody"),
        (["20200101T000000Z-0000000", "--share", "5"], "not staged"),
    ],
)
def test_nonsense_is_refused_by_name_and_gives_nobody_anything(apphost, two, words, named):
    first, second = two
    run = apphost.run("canary", *({"FIRST": first, "SECOND": second}.get(word, word) for word in words))
    assert (run.code, run.json["result"]) == (5, "refused")
    assert named in run.error["cause"]
    assert apphost.layout.canary() is None
    assert not running(apphost, second)


def test_second_canary_is_refused_and_the_first_is_named(apphost, two):
    _, second = two
    third = apphost.put(3)
    apphost.ok("canary", second, "--share", 5)
    run = apphost.run("canary", third, "--share", 5)
    assert run.code == 5
    assert second in run.error["cause"]
    assert run.error["next"].endswith("canary --withdraw")


@pytest.mark.parametrize(
    "words", [["canary", "SECOND", "--share", "25"], ["canary", "--withdraw"], ["activate", "SECOND"]]
)
@pytest.mark.parametrize("step", range(8))
def test_command_killed_at_any_move_of_a_link_is_repeated(apphost, two, monkeypatch, words, step):
    """Killed before its nth rename, or not at all: the same command, typed again, comes to the same end."""
    first, second = two
    words = [second if word == "SECOND" else word for word in words]
    if words[-1] != "25":
        apphost.ok("canary", second, "--share", 25)
    with monkeypatch.context() as patched:
        die_at(patched, layout.Path, "replace", step + 1, False, signal.SIGKILL)
        os.waitpid(apphost.fork(*words), 0)
    # Whatever it left: who has the canary's slot is led to an instance that runs.
    if slots(apphost):
        assert way(apphost) in (str(apphost.layout.socket(first)), str(apphost.layout.socket(second)))
    apphost.ok(*words)
    if words[-1] == "25":
        assert (apphost.layout.canary(), len(slots(apphost)), running(apphost, second)) == (second, 5, True)
    else:
        serving = second if words[0] == "activate" else first
        assert (apphost.layout.canary(), slots(apphost)) == (None, [])
        assert (apphost.layout.active(), way(apphost)) == (serving, str(apphost.layout.socket(serving)))
        assert running(apphost, second) is (serving == second)
    assert sound(apphost)
