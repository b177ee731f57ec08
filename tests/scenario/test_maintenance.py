"""A site is closed and opened under load, and a release deployed meanwhile: nobody gets half an answer."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from changes import HEADING, PAGE
from observing import failed_units, status_of
from testbed import durations

BROWSER = {"Accept": "text/html"}
REASON = "Moving <b>house</b> & garden"
CLOSE = {"release_maintenance": "on", "release_maintenance_reason": REASON}
CLOSE |= {"release_maintenance_retry_after_seconds": 77}
ASKED = ("/auth/sign-in", "/version", "/readyz")


class Visitors:
    """Clients that ask for a page and for health, on kept connections, and note each answer."""

    def __init__(self, site):
        self.web, self.seen, self.failures = site.web, [], []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._visit, args=(path,), daemon=True) for path in ASKED * 2
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _visit(self, path):
        connection = self.web.connection(self.web.context())
        while not self._stop.wait(0.02):
            asked = time.monotonic()
            try:
                connection.request("GET", path, headers={"Host": self.web.host_header})
                response = connection.getresponse()
                text = response.read().decode()
            except OSError as error:
                self.failures.append(f"{path}: {type(error).__name__}: {error}")
                connection.close()
                continue
            answer = (path, response.status, response.getheader("Retry-After"), text)
            self.seen.append((asked, time.monotonic(), *answer))
            if response.will_close:
                connection.close()

    def answers(self, path, began, ended):
        """Count what was asked after `began` and told before `ended`, by status and Retry-After."""
        return Counter(
            (status, again)
            for asked, told, about, status, again, _text in self.seen
            if about == path and asked > began and told < ended
        )


@pytest.fixture(scope="module")
def story(site, copied_app):
    """Close, deploy, go back, open, all under load; return what was seen."""
    source = copied_app(PAGE, HEADING, f"<h1>Changed</h1><!-- {secrets.token_hex(6)} -->")
    seen = SimpleNamespace(plays={}, active=[status_of(site)["active"]], workers=[site.nginx_workers()])

    def play(words, playbook, *arguments, **options):
        with durations.measured(f"{site.name} {words}, under load"):
            seen.plays[words] = site.play(playbook, *arguments, label=words, **options).ok()

    with Visitors(site) as visitors:
        time.sleep(1)
        play("dry run of closing", "maintenance", "--check", extra=CLOSE)
        seen.before_closing = time.monotonic()
        play("closing", "maintenance", extra=CLOSE)
        seen.closed = time.monotonic()
        play("closing again", "maintenance", extra=CLOSE)
        play("dry run of closing again", "maintenance", "--check", extra=CLOSE)
        seen.status, seen.words = status_of(site), site.sudo(f"releasectl --app {site.app} status")
        seen.page, seen.post = site.web.get("/x", headers=BROWSER), site.web.get("/static/x.css")
        play("deploy while closed", "deploy", extra={"app_source": str(source)})
        seen.active.append(status_of(site)["active"])
        play("rollback while closed", "rollback")
        seen.active.append(status_of(site)["active"])
        play("verify while closed", "verify")
        play("converging while closed", "site")
        seen.still = status_of(site)["maintenance"]
        seen.before_opening = time.monotonic()
        play("opening", "maintenance", extra={"release_maintenance": "off"})
        seen.opened = time.monotonic()
        play("opening again", "maintenance", extra={"release_maintenance": "off"})
        time.sleep(1)
    seen.ended = time.monotonic()
    seen.workers.append(site.nginx_workers())
    seen.visitors = visitors
    seen.log = site.sudo(f"releasectl --app {site.app} log -n 20")
    return seen


def test_nobody_is_cut_off(story):
    assert story.visitors.failures == []


def test_open_site_serves_and_closed_one_answers_503_and_when_to_come_again(story):
    page = "/auth/sign-in"
    assert set(story.visitors.answers(page, 0, story.before_closing)) == {(200, None)}
    assert set(story.visitors.answers(page, story.closed, story.before_opening)) == {(503, "77")}
    assert set(story.visitors.answers(page, story.opened, story.ended)) == {(200, None)}


def test_every_answer_on_the_way_is_one_of_the_two(story):
    assert set(story.visitors.answers("/auth/sign-in", 0, story.ended)) == {(200, None), (503, "77")}


def test_health_is_what_it_was_all_the_time(story):
    for path in ("/version", "/readyz"):
        assert set(story.visitors.answers(path, 0, story.ended)) == {(200, None)}, path
        assert story.visitors.answers(path, story.closed, story.before_opening)[200, None] > 100


def test_releases_come_and_go_behind_a_closed_site(story):
    first, second, third = story.active
    assert first == third != second
    released = {
        json.loads(text)["release"]
        for asked, _told, path, _status, _again, text in story.visitors.seen
        if path == "/version" and story.closed < asked < story.before_opening
    }
    assert released == {first, second}


def test_page_tells_the_reason_and_so_does_the_problem_document(story):
    assert "Moving &lt;b&gt;house&lt;/b&gt; &amp; garden" in story.page.text
    assert (story.post.status, story.post.json()["detail"]) == (503, REASON)


def test_closing_and_opening_say_what_they_change_and_a_second_time_nothing(story):
    changed = {
        words: play.changed for words, play in story.plays.items() if "clos" in words or "open" in words
    }
    assert changed["dry run of closing"] == 1
    assert changed["closing"] == changed["opening"] == 1
    assert changed["closing again"] == changed["opening again"] == changed["dry run of closing again"] == 0
    assert changed["converging while closed"] == 0, story.plays["converging while closed"].changed_tasks
    assert "would be closed" in story.plays["dry run of closing"].words
    # The edge was asked, and nothing was to be remarked on.
    assert "this host asked" not in story.plays["closing"].words


def test_status_and_log_tell_of_it(story):
    told = {"on": True, "reason": REASON, "retry_after_seconds": 77}
    assert story.status["maintenance"].items() >= told.items()
    assert story.still == story.status["maintenance"]
    assert story.status["problems"] == []
    assert f"retry after 77 s: {REASON}" in story.words
    assert "maintenance  on  done" in story.log
    assert "maintenance  off  done" in story.log


def test_nginx_is_never_reloaded_for_it(story):
    assert story.workers[1] == story.workers[0]


def test_closed_site_is_closed_after_a_boot(site, story):
    site.play("maintenance", extra=CLOSE).ok()
    site.restart()
    closed = site.web.get("/auth/sign-in")
    ready = site.web.get("/readyz").status
    site.play("maintenance", extra={"release_maintenance": "off"}).ok()
    assert (closed.status, closed.headers["Retry-After"]) == (503, "77")
    assert ready == 200
    assert site.web.get("/auth/sign-in").status == 200
    assert failed_units(site) == ""


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "release_maintenance is ''"),
        ({"release_maintenance": "of"}, "release_maintenance is 'of'"),
        ({**CLOSE, "release_maintenance_reason": "two\nlines"}, "release_maintenance_reason is"),
        ({**CLOSE, "release_maintenance_retry_after_seconds": 0}, "retry_after_seconds is 0"),
        (
            {**CLOSE, "release_maintenance_retry_after_seconds": "5m"},
            "release_maintenance_retry_after_seconds",
        ),
        ({**CLOSE, "release_maintenence": "on"}, "release_maintenance"),
    ],
)
def test_nonsense_is_refused_by_name_and_closes_nothing(site, story, given, named):
    play = site.play("maintenance", extra=given, label="nonsense")
    assert play.returncode == 2
    assert named in play.words, play.tail()
    assert status_of(site)["maintenance"] == {"on": False}
