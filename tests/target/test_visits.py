"""Who asks for what is on a page of the controller, and nothing of it stays on the host."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture(scope="module")
def report(site, tmp_path_factory):
    """Return the page of a host that was asked for something nobody else asks for, and where that stands."""
    word, folder = secrets.token_hex(8), tmp_path_factory.mktemp("visits")
    assert site.web.get(f"/{word}").status == 404
    # Also what came and went while find looked.
    pages = "find / -xdev -mmin -5 -name '*.html' -o -xdev -name '*visits*' 2>/dev/null || true"
    before = set(site.sudo(pages).splitlines())
    play = site.play("visits", "-e", "visits_days=1", "-e", f"visits_report_dir={folder}").ok()
    assert set(site.sudo(pages).splitlines()) <= before
    return word, folder / f"{site.name}.html", play


def test_page_names_what_was_asked_for_and_leaves_health_out(site, report):
    word, path, play = report
    page = path.read_text()
    assert f"/{word}" in page
    assert f"{site.app} on {site.name}" in page
    assert "/livez" not in page
    assert str(path) in play.words
    assert path.stat().st_mode & 0o777 == 0o600


def test_second_report_changes_nothing_on_the_host(site, report):
    _, path, _ = report
    again = site.play(
        "visits", "-e", "visits_days=1", "-e", f"visits_report_dir={path.parent}", label="visits again"
    ).ok()
    # What came anew since, on the controller.
    assert set(again.changed_tasks) <= {"visits : Bring the report to the controller"}


def test_more_days_than_there_are_logs_of_are_refused(site):
    play = site.play("visits", "-e", "visits_days=15", label="visits of too many days")
    assert play.returncode == 2
    assert "visits_days is 15: give 1 to 14 days" in play.words, play.tail()
