"""Every page as people see it: readable to everybody, in the dark, on a narrow screen, nothing blocked."""

import pytest
from axe_playwright_python.sync_playwright import Axe  # brings axe-core along

WIDE, NARROW, NARROWEST = (1280, 900), (360, 740), 320
PAGES = {
    "sign-in": (None, "/auth/sign-in"),
    "messages": ("operator", "/messages"),
    "messages-filtered": ("operator", "/messages?status=dead"),
    "messages-no-match": ("viewer", "/messages?q=nothing+of+this+kind"),
    "messages-wrong-filter": ("operator", "/messages?since=yesterday&status=odd"),
    "message-done": ("operator", "/messages/{done}"),
    "message-failed": ("operator", "/messages/{failed}"),
    "replay-dead": ("operator", "/messages/replay-dead"),
    "providers": ("viewer", "/messages/providers"),
    "imports": ("operator", "/files/imports"),
    "import-new": ("operator", "/files/imports/new"),
    "import-done": ("viewer", "/files/imports/{import-done}"),
    "import-reading": ("viewer", "/files/imports/{import-reading}"),
    "import-failed": ("viewer", "/files/imports/{import-failed}"),
    "reports": ("viewer", "/files/reports"),
    "health": ("viewer", "/admin/health"),
    "api": (None, "/api/docs"),
    "error": ("viewer", "/messages/999999"),
}
REFRESHING = ("imports", "import-reading")


@pytest.fixture(scope="session")
def script():
    return Axe().axe_script


def findings(page, **options):
    """Return what axe finds that keeps somebody from using the page."""
    options = {"resultTypes": ["violations"], **options}
    found = page.evaluate("async (options) => (await axe.run(options)).violations", options)
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]


def see(page, name, script, screenshots):
    """Look at a page in all its ways."""
    page.evaluate(script)
    # That a page refreshes itself is a finding, and right here: it can be told not to (WCAG 2.2.1).
    options = {"rules": {"meta-refresh": {"enabled": False}}} if name in REFRESHING else {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width, height in (WIDE, NARROW):
            page.set_viewport_size({"width": width, "height": height})
            # Nothing but colours hangs on the scheme.
            found = findings(page, **(options if scheme == "light" else {"runOnly": ["color-contrast"]}))
            assert found == [], f"{name}, {scheme}, {width} px wide"
            if screenshots:
                page.screenshot(path=screenshots / f"{name}-{scheme}-{width}.png", full_page=True)
    page.set_viewport_size({"width": NARROWEST, "height": 600})
    beyond = page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    assert beyond <= 0, f"{name} scrolls sideways at {NARROWEST} px"
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_page_can_be_used_by_everybody(site, visit, script, screenshots, name):
    role, path = PAGES[name]
    see(visit(site, path.format(**site.ids), role), name, script, screenshots)


def test_page_before_the_first_message_can_be_used_by_everybody(empty_site, visit, script, screenshots):
    see(visit(empty_site, "/messages", "operator"), "messages-none", script, screenshots)
    see(visit(empty_site, "/messages", "viewer"), "messages-none-viewer", script, screenshots)


def test_rows_drawn_as_cards_are_still_a_table_to_who_listens(site, visit):
    page = visit(site, "/messages", "viewer")
    roles = {}
    for width in (WIDE[0], NARROWEST):
        page.set_viewport_size({"width": width, "height": 600})
        tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
        told = [node["role"]["value"] for node in tree if not node["ignored"]]
        roles[width] = {
            role: told.count(role) for role in ("table", "row", "columnheader", "rowheader", "cell")
        }
    assert roles[WIDE[0]] == roles[NARROWEST]
    assert roles[NARROWEST] == {"table": 1, "row": 26, "columnheader": 4, "rowheader": 25, "cell": 75}
