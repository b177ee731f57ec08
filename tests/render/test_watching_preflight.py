"""What cannot be watched, and ways to tell people that lead nowhere, are refused by name."""

from __future__ import annotations

import pytest
from refusing import assert_passed, assert_refused, play, slug
from rendering import ROOT

HIDDEN = "correct-horse-battery"
THERE = {"exporters_enabled": True, "exporters_nginx_enabled": True}
ELSEWHERE = [{"labels": {"instance": "www1"}}]
SHIPPED = {
    "journal_app": "inbox",
    "journal_shipping_enabled": True,
    "journal_address": "10.0.0.11",
    "journal_receiver_address": "10.0.0.31",
}
RIGHT = {
    "nothing but the group": {},
    "a host without nginx": {"exporters_enabled": True},
    "journals shipped": SHIPPED,
    "journals taken in": {
        **SHIPPED,
        "journal_shipping_enabled": False,
        "journal_receiving_enabled": True,
        "journal_max_use": "20G",
    },
    "on an address of its own": {
        **THERE,
        "exporters_address": "10.0.0.11",
        "exporters_internal_address": "10.0.0.11",
        "monitoring_targets": ELSEWHERE,
        "monitoring_address": "10.0.0.31",
    },
    "on an address of six": {
        **THERE,
        "exporters_address": "2001:db8::11",
        "exporters_internal_address": "[2001:db8::11]",
    },
    "every way": {
        "monitoring_page_by": ["webhook", "slack"],
        "monitoring_ticket_by": ["email"],
        "monitoring_webhook_url": "https://example.org/alerts",
        "monitoring_slack_channel": "#ops",
        "monitoring_email_to": "ops@example.org",
        "monitoring_email_from": "ops@example.org",
        "monitoring_email_smarthost": "mail.example.org:587",
        "monitoring_secrets": {"slack_url": HIDDEN},
    },
}
REFUSED = {
    "a goal of everything": ({"monitoring_latency_objective_percent": 100}, ["monitoring_latency_objective"]),
    "a goal too low for an alert": ({"monitoring_tasks_objective_percent": 90}, ["from 95 to below 100"]),
    "an interval of minutes": ({"monitoring_scrape_interval": "5m"}, ["monitoring_scrape_interval", "15s"]),
    "a size without a unit": ({"monitoring_retention_size": "5"}, ["monitoring_retention_size", "5GB"]),
    "a webhook to nowhere": ({"monitoring_page_by": ["webhook"]}, ["webhook", "monitoring_webhook_url"]),
    "slack without its address": (
        {"monitoring_ticket_by": ["slack"], "monitoring_slack_channel": "#ops"},
        ["slack", "monitoring_secrets.slack_url"],
    ),
    "e-mail with half a sign-in": (
        {
            "monitoring_ticket_by": ["email"],
            "monitoring_email_to": "ops@example.org",
            "monitoring_email_from": "ops@example.org",
            "monitoring_email_smarthost": "mail.example.org:587",
            "monitoring_email_username": "ops",
        },
        ["email", "monitoring_secrets.email_password"],
    ),
    "a secret nothing reads": ({"monitoring_secrets": {"slak_url": HIDDEN}}, ["slak_url", "slack_url"]),
    "an address Debian 12 reads from no file": (
        {"monitoring_secrets": {"webhook_url": HIDDEN}},
        ["Debian 12", "webhook_token"],
    ),
    "hosts that would not let it in": (
        {"monitoring_targets": ELSEWHERE},
        ["asks www1", "Set base_address"],
    ),
    "no address for who watches": ({**THERE, "exporters_address": ""}, ["Set base_address"]),
    "journals from nowhere": (
        {**SHIPPED, "journal_address": ""},
        ["journals are shipped", "Set base_address"],
    ),
    "journals to nowhere": (
        {**SHIPPED, "journal_receiver_address": ""},
        ["first host of the group monitoring"],
    ),
    "room for journals without a unit": (
        {**SHIPPED, "journal_receiving_enabled": True, "journal_max_use": "20"},
        ["journal_max_use", "4G"],
    ),
    "an internal listener out of reach": (
        {**THERE, "exporters_address": "10.0.0.11"},
        ["nginx_internal_address is 127.0.0.1", '"{{ base_address }}"'],
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """Run every case once, each a host, and return all that a person would have seen."""
    folder = tmp_path_factory.mktemp("preflight")
    (folder / "roles").symlink_to(ROOT / "roles")
    facts = {"distribution_major_version": "12", "cacheable": True}
    roles = [
        {"name": role, "ansible.builtin.include_role": {"name": role, "tasks_from": "preflight"}}
        for role in ("exporters", "journal", "monitoring")
    ]
    # Of a host that ships nothing the playbooks do not ask.
    roles[1]["when"] = "journal_app is defined"
    pretend = {"name": "Pretend to be Debian 12", "ansible.builtin.set_fact": facts}
    look = {"name": "Look", "hosts": "all", "gather_facts": False, "tasks": [pretend, *roles]}
    cases = {**RIGHT, **{name: given for name, (given, _words) in REFUSED.items()}}
    hosts = {slug(name): {"ansible_connection": "local", **given} for name, given in cases.items()}
    return play(folder, [look], {"hosts": hosts})


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes(said, case):
    assert_passed(said, slug(case))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_naming_it_and_the_remedy(said, case):
    assert_refused(said, slug(case), REFUSED[case][1])


def test_refusals_show_no_value_that_may_be_a_secret(said):
    assert HIDDEN not in said
