"""log_lines asks a host with the controller's own reader; timeline makes one of what several hosts say."""

from __future__ import annotations

import importlib.util
import json

import pytest
from ansible_project import PLUGINS

# Whose logs no machine has.
APP = "no-such-app"
ID = "74bb8701461799a0e569060a71ad5a3c"


@pytest.fixture
def run(project):
    """Run the action with a question and return what the task reported."""

    def act(*options, **more):
        arguments = {"app": APP, **more}
        return project.play([{"name": "Read", "log_lines": arguments}], *options)

    return act


def test_host_without_releasectl_answers_with_where_it_looked(run):
    told = run("--check", asked={"request_id": ID, "level": ""}).last
    assert told["changed"] is False
    answer = told["answer"]
    assert answer["lines"] == []
    assert answer["looked"][0].startswith(f"/var/log/nginx/{APP}.access.log*: 0 files")
    assert any(one.startswith(f"the journal of {APP}-web, {APP}-worker") for one in answer["looked"])
    assert any(one.startswith("/var/log/postgresql/postgresql-*.log*") for one in answer["looked"])
    assert answer["seconds"] < 5


def test_host_whose_python_fails_is_told_with_its_last_word(run):
    told = run(python="/bin/false")
    assert told.code == 2
    assert told.last["msg"] == "its logs were not read: no word"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"request_id": "a b"}, 'logs_request_id is "a b": give 8 to 128 letters'),
        ({"request_id": "$(reboot)"}, "logs_request_id is "),
        ({"since": "yesterday"}, 'logs_since is "yesterday": give a time ago such as 15m'),
        ({"status": "9xx", "level": "loud"}, 'logs_level is "loud": give one of debug'),
        ({"lines": 10000}, 'logs_lines is "10000": give a whole number from 1 to 9999'),
        ({"colour": "red"}, "colour is none of request_id, since"),
    ],
)
def test_question_that_cannot_be_answered_is_refused_by_name_before_any_host_is_asked(run, asked, words):
    # A Python that is not there would be told of instead.
    for state in ("check", "read"):
        told = run(asked=asked, state=state, python="/nowhere/python3")
        assert told.code == 2
        assert words in told.last["msg"]


def line(at, source, message, **more):
    told = {"at": at, "time": f"t{at}", "written": at, "source": source, "level": "info"}
    return {**told, "message": message, "release": "", "fields": {}, **more}


@pytest.fixture
def timeline():
    spec = importlib.util.spec_from_file_location("filter_timeline", PLUGINS / "filter/timeline.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()["timeline"]


def answered(*lines, more=False, looked=()):
    told = {"lines": list(lines), "more": more, "looked": list(looked), "unread": [], "seconds": 0.1}
    return {"changed": False, "answer": told}


def test_lines_of_all_hosts_stand_in_one_order_each_with_its_host(timeline):
    told = timeline(
        {
            "app1": answered(line(1, "nginx", "POST /x", written=2.5), line(2, "app", "stored")),
            "app2": answered(line(3, "worker", "done\x1b[2J")),
            "data1": answered(line(2.2, "sql", "SELECT 1")),
        },
        {"request_id": ID},
    )
    assert [one["host"] for one in told["lines"]] == ["app1", "app1", "data1", "app2"]
    assert told["words"].splitlines()[1] == "t2  app1   app      info      stored"
    assert told["words"].splitlines()[3].endswith("done\\x1b[2J")
    assert told["silent"] == {}
    json.dumps(told)


def test_newest_lines_of_all_hosts_are_kept_and_older_ones_spoken_of(timeline):
    told = timeline(
        {
            "app1": answered(line(1, "app", "old"), line(4, "app", "new")),
            "app2": answered(line(3, "app", "x", fields={"request_id": ID})),
        },
        {"lines": 2, "level": ""},
    )
    assert [one["message"] for one in told["lines"]] == ["x", "new"]
    # With what to go on from.
    assert told["words"].splitlines()[0] == f"t3  app2  app      info      x  {ID}"
    assert told["words"].splitlines()[-1] == "There are older ones: these are the newest 2."


def test_host_that_did_not_answer_is_named_beside_the_lines_of_the_others(timeline):
    told = timeline(
        {
            "app1": answered(line(1, "app", "stored")),
            "app2": {"unreachable": True, "msg": "No route to host"},
        },
        {"request_id": ID},
    )
    assert told["words"].splitlines()[-1] == "No answer, so this may not be all: app2: No route to host"
    assert told["silent"] == {"app2": "No route to host"}


def test_nothing_found_says_where_each_host_looked_and_since_when(timeline):
    told = timeline(
        {"app1": answered(looked=["the journal"]), "data1": answered(looked=["/var/log/postgresql"])},
        {"request_id": ID, "since": "2h"},
    )
    first, *places = told["words"].splitlines()
    assert first.startswith(f"nothing of {ID} since 20")
    assert places == ["app1: the journal", "data1: /var/log/postgresql"]
