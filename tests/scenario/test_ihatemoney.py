"""I Hate Money, straight from PyPI, with a database: what people put in outlives its releases."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections import Counter
from types import SimpleNamespace
from urllib.parse import urlencode

import further_apps
import pytest
import unmodified
from observing import failed_units, units_left
from pages_load import PagesLoad
from testbed import durations

VERSION, NEXT_VERSION = "7.2.0", "7.2.1"
# All that a person writes to serve it, beside the host's address and the text of `settings`, which goes into
# their vault.
INVENTORY = f"""
app_name: ihatemoney
app_server_names: [ihatemoney.localhost]
app_source: pypi:ihatemoney=={VERSION}
app_wsgi: ihatemoney.wsgi:application
app_extra_packages: ["psycopg[binary]"]
app_secret_files: {{IHATEMONEY_SETTINGS_FILE_PATH: settings}}
app_required_secrets: [settings]
app_checks: [{{check: sqlalchemy}}]
"""
SETTINGS = """
SECRET_KEY = "{key}"
SQLALCHEMY_DATABASE_URI = "postgresql+psycopg:///ihatemoney?host=/run/postgresql"
MAIL_SUPPRESS_SEND = True
"""


@pytest.fixture(scope="module")
def money(spare):
    """Provision it beside the first app of the host."""
    settings = SETTINGS.format(key=secrets.token_hex(32))
    more = {"app_secrets": {"settings": settings}}
    app = further_apps.declare(spare, INVENTORY, more, groups=("app_servers", "databases"))
    app.provision()
    return app


@pytest.fixture(scope="module")
def project(money):
    """Make a project as a browser would, with a member and a bill by the API; return how to read it."""
    found = SimpleNamespace(name=f"trip-{secrets.token_hex(4)}", code=secrets.token_hex(8))
    found.auth = "Basic " + base64.b64encode(f"{found.name}:{found.code}".encode()).decode()
    page = money.web.get("/create")
    assert page.status == 200, page.text[:500]
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    assert token, page.text
    fields = {
        "name": found.name,
        "password": found.code,
        "contact_email": "somebody@example.org",
        "default_currency": "XXX",
        "csrf_token": token[1],
    }
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    send(money, {**fields, "csrf_token": "x"}, cookie)
    found.without_token = ask(money, found, "bills")
    found.created = send(money, fields, cookie)
    member = api(money, found, "members", {"name": "Ada"})
    bill = {"date": "2026-01-02", "what": "bread", "payer": member, "payed_for": member, "amount": "12.5"}
    api(money, found, "bills", bill)
    found.bills = api(money, found, "bills")
    return found


def send(app, fields, cookie):
    """Send the form that makes a project."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
    return app.web.request("POST", "/create", body=urlencode(fields).encode(), headers=headers)


def ask(app, project, what, fields=None):
    """Ask for a part of the project, or add to it."""
    headers = {"Authorization": project.auth, "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(fields).encode() if fields else None
    path = f"/api/projects/{project.name}/{what}"
    return app.web.request("POST" if fields else "GET", path, headers=headers, body=body)


def api(app, project, what, fields=None):
    """Return what it answers."""
    answer = ask(app, project, what, fields)
    assert answer.status in (200, 201), f"{what}: HTTP {answer.status} {answer.text[:500]}"
    return answer.json()


def test_installed_package_equals_its_wheel_byte_for_byte(money):
    wheel = unmodified.wheel_of("ihatemoney", VERSION)
    assert unmodified.is_locked(money, wheel), f"{wheel} is not the wheel the release's lock names"
    assert unmodified.package_differences(money, "ihatemoney", VERSION) == []


def test_unmodified_app_is_ready_only_with_its_database(money):
    shown = json.loads(money.internal("readyz"))
    assert (shown["status"], shown["release"]) == ("ready", money.active)
    assert [check["state"] for check in shown["checks"]] == ["ok"], shown
    assert VERSION in money.web.get("/version").text


def test_no_two_processes_share_a_connection_to_the_database(money):
    """It migrates itself while it is imported, which is before its workers are forked."""
    sockets = money.site.sudo("ss --no-header --unix | grep -F .s.PGSQL.")
    # Address, inode and the same of the peer, which is the app's end.
    clients = {line.split()[7] for line in sockets.splitlines()}
    command = f"for pid in {' '.join(money.processes())}; do readlink /proc/$pid/fd/*; done"
    held = Counter(re.findall(r"socket:\[(\d+)\]", money.site.sudo(command)))
    ours = {inode: count for inode, count in held.items() if inode in clients}
    assert ours, f"no connection at all: {sockets}"
    assert set(ours.values()) == {1}, f"{ours} of {sockets}"


def test_settings_file_is_handed_over_as_a_credential(money):
    shown = money.site.sudo(f"systemctl show --property=Environment,LoadCredential {money.unit}")
    assert "SECRET_KEY" not in shown
    assert "IHATEMONEY_SETTINGS_FILE_PATH=" not in shown, "the path is told inside the process alone"
    assert money.site.sudo(f"stat -c '%a %U' /etc/{money.name}/credentials.encrypted/settings").split() == [
        "600",
        "root",
    ]


def test_form_with_its_token_makes_a_project(money, project):
    assert project.created.status == 302, project.created.text[:1000]
    assert project.created.headers["Location"].endswith(f"/{project.name}/")


def test_form_without_its_token_makes_none(project):
    assert project.without_token.status == 401, project.without_token.text[:500]


def test_bill_is_read_back(project):
    (bill,) = project.bills
    assert (bill["what"], bill["amount"]) == ("bread", 12.5)


def test_unmodified_app_is_measured_by_its_routes(money, project):
    shown = money.internal("metrics")
    counts = unmodified.series(shown, "flask_http_request_duration_seconds_count")
    assert any('url_rule="/api/projects/<string:project_id>/bills"' in line for line in counts), counts
    assert project.name not in shown


def test_every_line_of_the_journal_is_json(money, project):
    entries = money.journal()
    assert len(entries) > 3
    assert unmodified.unlike_json_lines(entries) == []


@pytest.fixture(scope="module")
def story(money, project):
    """Restart it, deploy its next version, go back, all under light load; return what was seen."""
    seen = SimpleNamespace(active=[money.active], versions=[], bills=[])

    def step(words, act):
        with durations.measured(f"{money.site.name} {words} of ihatemoney, under load"):
            act()
        seen.active.append(money.active)
        seen.versions.append(money.web.get("/version").text)
        seen.bills.append(api(money, project, "bills"))
        assert load.wait_for(10, seen.active[-1]), f"{words}: {load.words}"

    with PagesLoad(money, {"/": "I hate money", "/create": "csrf_token"}) as load:
        step("restart", lambda: money.site.sudo(f"releasectl --app {money.name} restart"))
        new = {"app_source": f"pypi:ihatemoney=={NEXT_VERSION}"}
        step("deploy", lambda: money.play("deploy", extra=new).ok())
        step("rollback", lambda: money.play("rollback").ok())
    seen.load = load
    money.site.say(f"{money.site.name} load: {load.words}")
    return seen


def test_what_people_put_in_outlives_a_restart_a_deploy_and_a_rollback(project, story):
    assert story.bills == [project.bills] * 3


def test_each_release_shows_its_version(story):
    assert [
        VERSION in story.versions[0],
        NEXT_VERSION in story.versions[1],
        VERSION in story.versions[2],
    ] == [
        True,
        True,
        True,
    ], story.versions
    assert story.active[0] == story.active[1] == story.active[3] != story.active[2]


def test_no_request_is_lost_over_them(story):
    assert story.load.failures == [], story.load.words
    assert set(story.load.releases) == set(story.active), story.load.words


def test_only_the_active_release_is_left_running(money, story):
    active = story.active[-1]
    assert units_left(money.site, money.name) == [
        f"{money.name}-web@{active}.service",
        f"{money.name}-web@{active}.socket",
    ]
    assert failed_units(money.site) == ""
