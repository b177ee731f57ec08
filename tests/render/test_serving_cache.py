"""nginx keeps what an app declares for everybody, gives it to everybody, and keeps nothing else."""

from __future__ import annotations

import json

import pytest
from sandbox import Sandbox
from test_serving import described

LIMIT = 2 * 1024 * 1024
CROWD = 200
OLD, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb"
SECURITY = ("strict-transport-security", "x-content-type-options", "referrer-policy", "x-frame-options")


@pytest.fixture(scope="module", params=["cached-12", "cached-13", "odd-12", "odd-13"])
def told(request, rendered):
    """Return what the script tells of the one site of a host: some paths of it are cached, or all."""
    host = rendered.hosts[request.param]
    site = {**described(host), "by_address": not host.odd, "room": 0 if host.odd else LIMIT}
    with Sandbox(host.debian, [host]) as made:
        said = made.run("nginx", "-t", "-q")
        assert (said.returncode, said.stdout + said.stderr) == (0, "")
        return {"site": site, **made.told("serving_cache", [site])[host.app]}


def beginning(found: dict, word: str) -> dict:
    """Return what has a name that begins so, and that it is there at all."""
    chosen = {name: answer for name, answer in found.items() if name.startswith(word)}
    assert chosen
    return chosen


def header(answer: dict, name: str) -> list[str]:
    return [value for given, value in answer["headers"] if given == name]


def number(answer: dict) -> int:
    """Return which of the app's answers to this question it is."""
    return json.loads(answer["text"])[1]


def line(told: dict, answer: dict) -> dict:
    """Return the line of the log that the answer's own id leads to."""
    (request_id,) = header(answer, "x-request-id")
    return told["log"][request_id]


def test_what_is_declared_for_everybody_is_asked_for_once(told):
    for name, found in beginning(told["of_kinds"], "kept ").items():
        assert found["asked"] == 1, name
        first, second = found["answers"]
        assert (first["status"], first["text"]) == (second["status"], second["text"]), name
        assert [line(told, answer)["cache"] for answer in (first, second)] == ["MISS", "HIT"], name


def test_what_is_not_is_asked_for_each_time(told):
    for name, found in beginning(told["of_kinds"], "never ").items():
        assert found["asked"] == 2, name
        assert [number(answer) for answer in found["answers"]] == [1, 2], name


def test_paths_alone_that_are_named_and_what_is_below_them_are_cached(told):
    everywhere = told["site"]["app"] != "cached"
    for name, found in beginning(told["of_kinds"], "path ").items():
        below = everywhere or name.split()[1] in ("/feed", "/feed/", "/a.b/c/declared")
        assert found["asked"] == (1 if below else 2), name
        assert {line(told, answer)["cache"] for answer in found["answers"]} == (
            {"MISS", "HIT"} if below else {""}
        ), name


def test_health_is_never_cached(told):
    """The site caches these very paths, and the app declares all it says."""
    for name, found in beginning(told["of_kinds"], "health ").items():
        assert found["asked"] == 2, name
        assert [answer["status"] for answer in found["answers"]] == [200, 200]


def test_what_changes_something_always_reaches_the_app(told):
    for name, found in beginning(told["of_kinds"], "method ").items():
        assert found["asked"] == 2, name


def test_who_asks_as_somebody_neither_gets_what_is_kept_nor_leaves_anything_behind(told):
    """Asked twice as somebody, then by anybody, by somebody again, by anybody again."""
    persons = {name: found for name, found in told["of_persons"].items() if "body" not in name}
    assert len(persons) == 6
    for name, found in persons.items():
        assert found == [1, 2, 3, 4, 3], name


def test_question_in_a_body_is_no_question_of_the_address_alone(told):
    """Asked with a body, without, with another, without."""
    bodies = beginning(told["of_persons"], "body")
    assert len(bodies) == 3
    for name, found in bodies.items():
        assert found == [1, 2, 3, 2], name


def test_each_request_has_an_id_of_its_own_in_answer_and_log(told):
    found = told["of_the_rest"]
    answers = [found[name] for name in ("cold", "warm 0", "warm 1", "same")]
    ids = [header(answer, "x-request-id") for answer in answers]
    assert [len(one) for one in ids] == [1] * 4
    assert len({one[0] for one in ids}) == 4
    lines = [line(told, answer) for answer in answers]
    assert [one["cache"] for one in lines] == ["MISS", "HIT", "HIT", "HIT"]
    assert {one["release"] for one in lines} == {OLD}
    assert [one["upstream_status"] for one in lines] == ["200", "", "", ""]
    # The app was told the id of the one that it was asked for.
    assert json.loads(found["warm 0"]["text"])[3] == ids[0][0]


def test_kept_answer_has_the_headers_of_any_other(told):
    found = told["of_the_rest"]
    for name in ("cold", "warm 0"):
        names = [header[0] for header in found[name]["headers"]]
        assert [names.count(one) for one in SECURITY] == [1] * len(SECURITY)
        assert header(found[name], "x-frame-options") == ["DENY"]
        assert "x-release" not in names
        assert not [one for one in names if "cache-status" in one]
    first, second = (
        {name for name, _value in found[name]["headers"]} - {"date"} for name in ("cold", "warm 0")
    )
    assert first == second


def test_browser_that_has_it_is_told_so_without_the_app(told):
    found = told["of_the_rest"]
    assert (found["same"]["status"], found["same"]["text"]) == (304, "")
    assert found["tagged asked"] == 1


def test_head_is_kept_as_the_app_answered_it_and_is_no_get(told):
    head, get = told["of_the_rest"]["head"], told["of_the_rest"]["get behind head"]
    assert (head["asked"], get["asked"]) == (1, 1)
    for answer in head["answers"]:
        assert (answer["status"], answer["length"]) == (200, 0)
        assert int(header(answer, "content-length")[0]) > 0
    assert all(answer["length"] > 0 for answer in get["answers"])


def test_answers_that_vary_are_kept_apart(told):
    assert told["of_the_rest"]["languages"] == [[1, "de"], [2, "en"], [1, "de"], [2, "en"]]
    assert told["of_the_rest"]["queries asked"] == 2


def test_crowd_of_two_hundred_asks_the_app_once(told):
    found = told["of_time"]["cold crowd"]
    assert (found["answers"], found["statuses"], found["asked"]) == (CROWD, [200], 1)
    assert (found["texts"], found["ids"]) == ([1], CROWD)


def test_crowd_asks_for_nothing_that_is_there(told):
    found = told["of_time"]["warm crowd"]
    assert (found["answers"], found["statuses"], found["asked"]) == (CROWD, [200], 0)


def test_crowd_asks_the_app_once_for_what_is_too_old_and_nobody_waits_but_one(told):
    found = told["of_time"]["late crowd"]
    assert (found["answers"], found["statuses"], found["asked"]) == (CROWD, [200], 1)
    # The old one while the new one was on its way.
    assert found["texts"] == [1, 2]


def test_visitor_of_a_quiet_page_gets_no_older_one_than_it_says(told):
    assert told["of_time"]["who comes late"] == 2


def test_app_that_fails_or_is_away_is_covered_by_what_is_kept(told):
    found = told["when_it_is_away"]
    failing = {name for name in beginning(found, "failing") if not name.endswith("somebody")}
    for name in [*failing, "away"]:
        assert (found[name]["status"], number(found[name])) == (200, 1), name
        logged = line(told, found[name])
        assert (logged["cache"], logged["release"]) == ("STALE", OLD)
        # What the app answered stands beside it.
        assert logged["upstream_status"].split(", ")[-1] == (name.split()[-1] if name in failing else "502")
    assert number(found["away, fresh"]) == 1
    assert found["away, never asked for"]["status"] == 502
    assert found["away, posted"]["status"] == 502
    # Nobody can tell whose answers those were.
    assert found["without a socket"]["status"] == 502
    assert json.loads(found["back"]["text"])[3] == header(found["back"], "x-request-id")[0]


def test_failing_app_fails_to_who_asks_as_somebody(told):
    found = told["when_it_is_away"]
    for status in (500, 502, 503, 504):
        assert found[f"failing with {status} to somebody"]["status"] == status


def test_maintenance_wins_over_what_is_kept(told):
    answer = told["when_it_is_away"]["away, maintenance"]
    assert answer["status"] == 503
    assert "Moving house" in answer["text"]
    assert header(answer, "cache-control") == ["no-store"]


def test_release_gets_nothing_that_another_has_answered(told):
    found = told["of_releases"]
    assert (found["before"], found["switched"], found["back"]) == ([OLD] * 2, [NEW] * 2, [OLD] * 2)
    assert found["asked"] == [1, 1]


def test_canary_and_the_others_have_each_their_own(told):
    if told["site"]["by_address"]:
        found = told["of_releases"]
        assert set(found["canary"]["by the app"]) == {OLD, NEW}
        assert found["canary"]["by the cache"] == found["canary"]["by the app"]
        # Each release's own answer from before: none was asked again.
        assert found["canary asked"] == [1, 1]


def test_answer_of_a_release_that_was_just_left_is_not_kept_in_the_name_of_the_next(told):
    assert told["of_releases"]["in another's name"] == 2


def test_folder_is_nginxs_alone(told):
    found = told["of_its_room"]
    assert (found["mode"], found["owner"], found["open files"]) == ("0o700", "www-data", [])
    assert found["files"] > 5


def test_folder_stays_near_its_limit(told):
    if told["site"]["room"]:
        found = told["of_its_room"]
        assert found["most"] > LIMIT >= found["left"]


def test_purged_answers_are_asked_for_again(told):
    """By the commands of docs/caching.md: one of two, then both."""
    assert told["of_its_room"]["purged one"] == [2, 1]
    assert told["of_its_room"]["purged"] == [3, 2]
