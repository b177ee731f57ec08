"""What cannot work is refused by name before anything on the host changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from testbed import durations, fingerprint

# What is given, and the words the refusal must hold: the variable, what is wrong with it, the remedy.
REFUSED = {
    "a misspelt variable": (
        {"nginx_htps_port": 8443},
        ["`nginx_htps_port`", "did you mean `nginx_https_port`"],
    ),
    "an app name with a space": ({"app_name": "a b;"}, ["app_name is", "a b;", "use a lower-case letter"]),
    "an app name that climbs": ({"app_name": "../x"}, ["app_name is", "../x", "use a lower-case letter"]),
    "an app name with a newline": ({"app_name": "inbox\n"}, ["app_name is", "use a lower-case letter"]),
    "an empty app name": ({"app_name": ""}, ["app_name is", "use a lower-case letter"]),
    "port 0": ({"nginx_https_port": 0}, ["nginx_https_port is 0", "from 1 to 65535"]),
    "port 70000": ({"nginx_https_port": 70000}, ["nginx_https_port is 70000", "from 1 to 65535"]),
    "a PROXY protocol that nobody speaks": (
        {"nginx_trusted_proxy_header": "proxy_protocol"},
        ["nginx_trusted_proxies is empty", "name the addresses"],
    ),
    "what a preload list would not take": (
        {"nginx_hsts_preload_enabled": True},
        ["nginx_hsts_preload_enabled", "nginx_hsts_include_subdomains_enabled true"],
    ),
    "a missing secret": ({"app_secrets": {}}, ["app_secrets", "secret_key", "playbooks/secrets.yml"]),
    "a WSGI entry that is not there": (
        {"app_wsgi": "inbox.wsgi:application"},
        ["app_wsgi", "inbox.wsgi:application"],
    ),
    "a WSGI module that is not there": (
        {"app_wsgi": "inbox.nowhere:app"},
        ["app_wsgi", "inbox.nowhere"],
    ),
    "a source that is not there": (
        {"app_source": "/nowhere/inbox"},
        ["app_source", "/nowhere/inbox", "Give the path"],
    ),
}


@pytest.fixture(scope="module")
def refusals(plain):
    """Run site.yml with each, two at a time; return the plays and what changed on the host meanwhile."""
    before = fingerprint.take(plain)

    def refuse(name):
        return plain.play("site", extra=REFUSED[name][0], label=f"site.yml with {name}", timeout_seconds=180)

    with durations.measured(f"{plain.name} {len(REFUSED)} refused runs"), ThreadPoolExecutor(2) as pool:
        ran = dict(zip(REFUSED, pool.map(refuse, REFUSED), strict=True))
    return SimpleNamespace(plays=ran, differences=fingerprint.differences(before, fingerprint.take(plain)))


@pytest.mark.parametrize("what", REFUSED)
def test_input_is_refused_naming_variable_host_and_remedy(plain, refusals, what):
    play = refusals.plays[what]
    assert play.returncode != 0, play.tail()
    assert play.changed == 0, play.changed_tasks
    failure = play.words.partition("[ERROR]")[2]
    for word in [plain.name, *REFUSED[what][1]]:
        assert word in failure, play.tail()


def test_refused_input_changes_nothing_on_the_host(refusals):
    assert refusals.differences == []
