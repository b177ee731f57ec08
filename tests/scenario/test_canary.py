"""A release goes to a share of the clients first, under load: nobody loses a request, each keeps its own."""

from __future__ import annotations

import json
import secrets
from types import SimpleNamespace

import pytest
from changes import HEADING, PAGE
from load import Load
from observing import failed_units, status_of, units_left, units_of
from testbed import durations
from testbed.sites import until

CLIENTS = 200
# Run on the host itself, where a client may have any address that begins with 127.
ASKING = """
import collections, http.client, json, socket, ssl, sys
port, name, clients = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
found = {}
for number in range(clients):
    address = f"127.3.{number // 200}.{number % 200 + 1}"
    connection = http.client.HTTPConnection(name)
    plain = socket.create_connection(("127.0.0.1", port), 10, (address, 0))
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    answers = []
    for _ in range(2):
        connection.request("GET", "/version", headers={"Host": name})
        response = connection.getresponse()
        answers.append([response.status, json.loads(response.read())["release"]])
    connection.close()
    found[address] = answers
print(json.dumps(found))
"""


def ask_all(site) -> dict[str, str]:
    """Return which release each of many clients gets, by address."""
    words = f"python3 - {site.web.public_port} {site.web.name} {CLIENTS}"
    found = json.loads(site.sudo(words, stdin=ASKING.encode(), timeout_seconds=120))
    for address, answers in found.items():
        assert answers[0] == answers[1], (address, answers)
        assert answers[0][0] == 200, (address, answers)
    return {address: answers[0][1] for address, answers in found.items()}


@pytest.fixture(scope="module")
def story(site, copied_app):
    """Give a release to some, raise, withdraw, give and promote, all under load; return what was seen."""
    source = copied_app(PAGE, HEADING, f"<h1>Canary</h1><!-- {secrets.token_hex(6)} -->")
    seen = SimpleNamespace(
        first=status_of(site)["active"], clients={}, status={}, workers=[site.nginx_workers()]
    )
    site.play("deploy", extra={"app_source": str(source)}, label="deploy what will be a canary").ok()
    seen.second = status_of(site)["active"]
    site.play("rollback", label="rollback").ok()

    def step(words, command):
        with durations.measured(f"{site.name} {words}, under load"):
            site.sudo(f"releasectl --app {site.app} {command}", timeout_seconds=120)
        seen.clients[words], seen.status[words] = ask_all(site), status_of(site)

    with Load(site) as load:
        step("canary of 25 %", f"canary {seen.second} --share 25")
        seen.metrics = site.sudo(f"curl -sS -H 'Host: {site.web.name}' http://127.0.0.1:9180/metrics")
        step("canary of 50 %", f"canary {seen.second} --share 50")
        step("canary withdrawn", "canary --withdraw")
        step("canary of 75 %", f"canary {seen.second} --share 75")
        step("canary promoted", f"activate {seen.second}")
        step("canary of what was before", f"canary {seen.first} --share 10")
        step("rollback withdraws it", "rollback")
    seen.workers.append(site.nginx_workers())
    seen.load, seen.stored = load, load.stored()
    site.say(f"{site.name} load: {load.words}")
    return seen


def share(story, words) -> set[str]:
    """Return the addresses that got the second release."""
    return {address for address, release in story.clients[words].items() if release == story.second}


def test_no_request_and_no_message_is_lost(story):
    assert story.load.failures == [], story.load.words
    assert min(story.load.answers.values()) > 50, story.load.words
    assert story.stored == (len(story.load.posted), len(story.load.posted)), story.load.words


@pytest.mark.parametrize("percent", [25, 50, 75])
def test_share_of_the_clients_is_about_what_was_asked_for(story, percent):
    """Of 200 clients, three times the standard deviation to either side: at most 10.6 points."""
    found = 100 * len(share(story, f"canary of {percent} %")) / CLIENTS
    assert abs(found - percent) < 11, found


def test_each_client_keeps_its_release_and_a_raised_share_only_adds_to_it(story):
    quarter, half, most = (share(story, f"canary of {percent} %") for percent in (25, 50, 75))
    assert quarter < half < most


def test_withdrawn_canary_is_nobodys_and_promoted_one_everybodys(story):
    assert share(story, "canary withdrawn") == set()
    assert len(share(story, "canary promoted")) == CLIENTS
    assert share(story, "rollback withdraws it") == set()


def test_a_rollback_takes_everybody_back_from_both(story):
    assert 0 < CLIENTS - len(share(story, "canary of what was before")) < CLIENTS / 4
    assert story.status["rollback withdraws it"]["active"] == story.first


def test_status_tells_the_canary_and_finds_nothing_wrong(story):
    for words, told in story.status.items():
        canary = told["canary"]
        percent = int(words.split()[2]) if words.endswith("%") else None
        if words != "canary of what was before":
            assert canary == (percent and {"release": story.second, "share_percent": percent}), words
        # What is told to stop, and nobody waits for, may still be on its way.
        assert [entry for entry in told["problems"] if "gets no traffic" not in entry["problem"]] == [], words


def test_one_scrape_shows_both_releases(story):
    """By what each instance has from its start: the pages the clients asked for here are not counted."""
    found = [line for line in story.metrics.splitlines() if line.startswith("flask_ops_in_flight_requests{")]
    for release in (story.first, story.second):
        assert [line for line in found if f'release="{release}"' in line], found


def test_access_log_names_the_release_of_each_request(site, story):
    log = site.sudo(f"grep -h 127.3.0. /var/log/nginx/{site.app}.access.log | tail -n 5000")
    assert {json.loads(line)["release"] for line in log.splitlines()} >= {story.first, story.second}


def test_nginx_is_never_reloaded_for_it(story):
    assert story.workers[1] == story.workers[0]


def test_only_the_active_release_is_left_running(site, story):
    assert units_left(site) == units_of(site.app, story.first)
    assert failed_units(site) == ""


def test_canary_is_there_again_after_a_boot(site, story):
    site.sudo(f"releasectl --app {site.app} canary {story.second} --share 50", timeout_seconds=120)
    before = ask_all(site)
    site.restart()
    assert until(60, lambda: not status_of(site)["problems"]), status_of(site)["problems"]
    after = ask_all(site)
    site.sudo(f"releasectl --app {site.app} canary --withdraw", timeout_seconds=120)
    assert after == before
    assert set(after.values()) == {story.first, story.second}
    assert status_of(site)["problems"] == []
