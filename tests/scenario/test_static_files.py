"""A deploy changes a static file: each page finds the one it was written for."""

from __future__ import annotations

import re
import secrets
from types import SimpleNamespace

import pytest
from target_host.shell import PROJECT_DIR

SHEET = "src/inbox/static/inbox.css"
#: In nginx's words; the app would say `public` too.
KEPT = "max-age=31536000, immutable"


def seen(site) -> SimpleNamespace:
    """Return the address of the style sheet that a page asks for, and what it brings."""
    # An error's page: nobody must sign in for it.
    page = site.web.get("/nowhere").text
    found = re.search(r'href="(/static/inbox\.[0-9a-f]{12}\.css)"', page)
    assert found, page[:1000]
    answer = site.web.get(found[1])
    assert answer.status == 200, answer.text[:500]
    return SimpleNamespace(address=found[1], text=answer.text)


@pytest.fixture(scope="module")
def deployed(site, copied_app):
    """Deploy another style sheet; return what visitors saw before and after."""
    before = seen(site)
    text = (PROJECT_DIR / "app_skeleton/inbox" / SHEET).read_text()
    source = copied_app(SHEET, text, f"{text}/* {secrets.token_hex(6)} */\n")
    site.play("deploy", extra={"app_source": str(source)}, label="deploy of a style sheet").ok()
    return SimpleNamespace(before=before, after=seen(site), expected=(source / SHEET).read_text())


def test_page_of_the_new_release_asks_for_the_new_file_by_another_name(deployed):
    assert deployed.after.address != deployed.before.address
    assert deployed.after.text == deployed.expected
    assert deployed.before.text != deployed.expected


@pytest.mark.parametrize("release", ["before", "after"])
def test_page_of_either_release_finds_its_own_file_at_nginx(site, deployed, release):
    page = getattr(deployed, release)
    answer = site.web.get(page.address)
    assert (answer.status, answer.text) == (200, page.text)
    assert answer.headers["Cache-Control"] == KEPT


def test_plain_name_means_the_new_file(site, deployed):
    answer = site.web.get("/static/inbox.css")
    assert answer.text == deployed.expected
    assert answer.headers["Cache-Control"] == "no-cache"
