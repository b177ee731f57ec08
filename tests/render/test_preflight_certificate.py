"""Several hosts share an ACME server's certificate: who does what, and what cannot work is refused before.

Each case is a host of one inventory; all are this machine, which is reached at its loopback.
"""

from __future__ import annotations

import json
import re

import pytest
from refusing import assert_passed, assert_refused, play
from rendering import ROOT

HOSTS = {
    "first": {"base_address": "127.0.0.1"},
    "second": {"base_address": "127.0.0.1"},
    "of-its-own": {"base_address": "127.0.0.1", "tls_acme_issuer": "second", "tls_acme_port": 9999},
    "by-letters": {"tls_mode": "local_ca", "base_address": "127.0.0.1"},
}
REFUSED = {
    "stranger": (
        {"base_address": "127.0.0.1", "tls_acme_issuer": "nobody"},
        ["tls_acme_issuer is 'nobody'", "app_servers holds first, second", "then first asks"],
    ),
    "portless": (
        {"base_address": "127.0.0.1", "tls_acme_port": 0},
        ["tls_acme_port is 0", "from 1 to 65535"],
    ),
    "nowhere": ({}, ["nowhere has no base_address", "such as base_address: 10.0.0.11"]),
    "elsewhere": (
        {"base_address": "127.0.0.9"},
        ["This host comes from 127.0.0.1, and its base_address is 127.0.0.9"],
    ),
    "cut-off": (
        {"base_address": "127.0.0.1", "tls_acme_issuer": "beyond"},
        ["beyond is to give it the certificate at 255.255.255.255, port 9281", "and says: "],
    ),
    "beyond": ({"base_address": "255.255.255.255"}, ["its base_address is 255.255.255.255"]),
}
TOLD = ["nginx_site_challenge_root", "nginx_site_challenge_upstream", "nginx_site_sealed_listen"]
TOLD += ["firewall_openings", "firewall_outgoing", "audit_ports"]


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """Run every case once, each a host, and return all that a person would have seen."""
    folder = tmp_path_factory.mktemp("preflight")
    (folder / "roles").mkdir()
    (folder / "roles/tls").symlink_to(ROOT / "roles/tls")
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all").symlink_to(ROOT / "playbooks/group_vars")
    frame = {"hosts": "all", "gather_facts": False}
    values = "{{ {" + ", ".join(f"'{name}': {name}" for name in TOLD) + "} | to_json }}"
    tell = {
        "name": "Tell",
        "ansible.builtin.debug": {"msg": f"{{{{ inventory_hostname }}}} is told {values}"},
    }
    look = {"name": "Look", "ansible.builtin.import_role": {"name": "tls", "tasks_from": "preflight"}}
    given = {
        "ansible_connection": "local",
        "app_name": "demo",
        "app_server_names": ["x.example.org"],
        "tls_mode": "acme",
        "tls_acme_terms_of_service_agreed": True,
    }
    hosts = HOSTS | {name: host for name, (host, _words) in REFUSED.items()}
    plays = [{"name": "Tell", **frame, "tasks": [tell]}, {"name": "Look", **frame, "tasks": [look]}]
    return play(folder, plays, {"vars": given, "children": {"app_servers": {"hosts": hosts}}})


def told(said: str, host: str) -> dict:
    """Return what nginx, the firewall and the audit are told for a host."""
    lines = re.findall(r'^    "msg": (".*")$', said, re.MULTILINE)
    words = [json.loads(line) for line in lines]
    [found] = [word.partition(" is told ")[2] for word in words if word.startswith(f"{host} is told ")]
    return json.loads(found)


@pytest.mark.parametrize("host", HOSTS)
def test_what_can_work_passes(said, host):
    assert_passed(said, host)


@pytest.mark.parametrize("host", REFUSED)
def test_what_cannot_work_is_refused_naming_it_and_the_remedy(said, host):
    assert_refused(said, host, REFUSED[host][1])


def opened(said, host, direction="openings"):
    return [rule for rule in told(said, host)[f"firewall_{direction}"] if rule["name"] == "certificate"]


def test_first_host_issues_and_opens_the_way_for_the_others(said):
    its = told(said, "first")
    assert its["nginx_site_challenge_root"] == "/var/lib/tlsctl/webroot"
    assert its["nginx_site_challenge_upstream"] == ""
    assert its["nginx_site_sealed_listen"] == "127.0.0.1:9281"
    [rule] = opened(said, "first")
    assert rule["ports"] == [9281]
    assert "127.0.0.1" in rule["addresses"]
    assert opened(said, "first", "outgoing") == []
    assert {"port": 9281, "address": "127.0.0.1"} in its["audit_ports"]


def test_others_ask_it_and_give_nothing(said):
    its = told(said, "second")
    assert its["nginx_site_challenge_root"] == its["nginx_site_sealed_listen"] == ""
    assert its["nginx_site_challenge_upstream"] == "127.0.0.1:9281"
    assert opened(said, "second") == []
    [rule] = opened(said, "second", "outgoing")
    assert (rule["ports"], rule["addresses"]) == ([9281], ["127.0.0.1"])


def test_another_host_and_another_port_can_be_named(said):
    assert told(said, "of-its-own")["nginx_site_challenge_upstream"] == "127.0.0.1:9999"


def test_other_certificates_open_nothing(said):
    its = told(said, "by-letters")
    assert its["nginx_site_challenge_root"] == its["nginx_site_challenge_upstream"] == ""
    assert opened(said, "by-letters") == opened(said, "by-letters", "outgoing") == []
