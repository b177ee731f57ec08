"""What was logged is found by a request's id, and by what it says, without going from file to file."""

from __future__ import annotations

import json
import secrets
from types import SimpleNamespace

import pytest
from testbed import following
from testbed.sites import until


@pytest.fixture(scope="module")
def followed(site):
    """Return the id of a request that a worker went on with, and what releasectl tells of it."""
    with following.every_statement(site):
        request_id = following.processed(site, site)
        words = f"releasectl --app {site.app} --json trace {request_id}"
        # A worker says that it is done after it has told the database.
        assert until(10, lambda: "Task" in site.sudo(words))
    told = json.loads(site.sudo(words))
    site.say(f"{site.name}: releasectl trace: {len(told['lines'])} lines in {told['duration_seconds']} s")
    return SimpleNamespace(id=request_id, told=told, lines=told["lines"])


def test_request_is_followed_from_nginx_through_the_app_and_the_database_to_the_worker(site, followed):
    places = following.first_places(followed.lines)
    assert places.keys() == {"nginx", "app", "sql", "worker"}, followed.lines
    assert places["nginx"] == 0
    assert places["nginx"] < places["sql"] < places["worker"]
    assert places["app"] < places["worker"]
    assert all(followed.id in json.dumps(line["fields"]) for line in followed.lines)
    assert followed.told["unread"] == []
    assert followed.told["duration_seconds"] < following.TRACED_SECONDS


def test_playbook_tells_the_same_of_a_request_and_changes_nothing(site, followed, tmp_path):
    path = tmp_path / "trace.json"
    play = site.play("trace", "-e", f"logs_request_id={followed.id}", "-e", f"logs_report={path}").ok()
    told = following.report(path)
    site.say(f"{site.name}: trace.yml: {told['seconds']} s there, {play.seconds:.1f} s in all")
    assert [{**line, "host": site.name} for line in followed.lines] == told["lines"]
    assert play.changed_tasks == ["logs : Write them to a file of the controller"]
    assert told["seconds"][site.name] < following.TRACED_SECONDS
    for line in told["lines"]:
        assert f"{line['time']} {site.name} {line['source']} {line['level']}" in play.words


def test_request_that_nobody_made_is_told_of_with_where_one_looked(site):
    play = site.play("trace", "-e", f"logs_request_id={secrets.token_hex(16)}", label="trace of no request")
    assert play.returncode == 2
    assert f"{site.name}: /var/log/nginx/{site.app}.access.log*: 1 file" in play.words, play.tail()
    assert f"{site.name}: the journal of {site.app}-web, " in play.words
    assert f"{site.name}: /var/log/postgresql/postgresql-*.log*: 1 file" in play.words
    assert "Nothing is known of this request. Further back: -e logs_since=7d" in play.words


def test_lines_are_found_by_what_they_say(site, followed, active, tmp_path):
    path, word = tmp_path / "logs.json", secrets.token_hex(8)
    assert site.web.get(f"/{word}").status == 404
    asked = ["logs_status=4xx", f"logs_grep={word.upper()}", "logs_since=5m", f"logs_release={active}"]
    play = site.play(
        "logs", *(part for one in asked for part in ("-e", one)), "-e", f"logs_report={path}"
    ).ok()
    (line,) = following.report(path)["lines"]
    assert (line["source"], line["level"], line["release"]) == ("nginx", "warning", active)
    assert f"warning GET /{word} 404 in " in play.words, play.tail()
    told = json.loads(site.sudo(f"releasectl --app {site.app} --json logs --grep {word}"))
    # Whatever the app itself has to say of it.
    assert line["fields"] in [one["fields"] for one in told["lines"]]


def test_newest_lines_come_and_no_more_than_were_asked_for(site, followed):
    told = json.loads(site.sudo(f"releasectl --app {site.app} --json logs --since 1h --lines 3"))
    assert (len(told["lines"]), told["more"]) == (3, True)
    whole = json.loads(site.sudo(f"releasectl --app {site.app} --json logs --since 1h --lines 9999"))
    site.say(f"{site.name}: releasectl logs: {len(whole['lines'])} lines in {whole['duration_seconds']} s")
    assert {"nginx", "app", "worker"} <= {line["source"] for line in whole["lines"]}
    # The scheduler may have written since.
    last = max(line["written"] for line in told["lines"])
    newest = sorted(
        (line for line in whole["lines"] if line["written"] <= last), key=lambda line: line["written"]
    )[-3:]
    assert sorted(line["message"] for line in told["lines"]) == sorted(line["message"] for line in newest)


def test_what_the_journal_dropped_of_the_app_is_told(site):
    flood = f"{site.app}-flood{secrets.token_hex(4)}"
    limits = "--property=LogRateLimitIntervalSec=2s --property=LogRateLimitBurst=5"
    # It tells of what it dropped with the next message it takes.
    site.sudo(
        f"systemd-run --quiet --wait --unit={flood} {limits} sh -c 'seq 5000; sleep 4; echo after; sleep 1'"
    )
    told = json.loads(site.sudo(f"releasectl --app {site.app} --json logs --since 5m"))
    (words,) = [one for one in told["unread"] if f" messages of {flood}.service: " in one]
    assert 1000 < int(words.split()[0]) < 5000


@pytest.mark.parametrize(
    ("playbook", "setting", "right"),
    [
        ("trace", "logs_request_id=$(reboot)", "give 8 to 128 letters, digits"),
        ("trace", "logs_request_id=", "logs_request_id is empty: give the request's id"),
        ("trace", "logs_request_ip=x", "did you mean `logs_request_id`?"),
        ("logs", "logs_since=yesterday", "give a time ago such as 15m, 2h or 7d"),
        ("logs", "logs_level=loud", "give one of debug, info, warning, error, critical"),
        ("logs", "logs_lines=-1", "give a whole number from 1 to 9999"),
    ],
)
def test_wrong_value_is_refused_by_name_before_any_log_is_read(site, playbook, setting, right):
    play = site.play(playbook, "-e", setting, label=f"{playbook} with a wrong value")
    assert play.returncode == 2
    assert setting.partition("=")[0] in play.words, play.tail()
    assert right in play.words, play.tail()
    assert "Ask every host at once" not in play.words
