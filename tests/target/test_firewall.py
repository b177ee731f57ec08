"""The firewall: what nothing opens is turned away, and a boot loads what is in force."""

from __future__ import annotations

import json

RULES = "/etc/firewall/rules"


def table(host):
    return json.loads(host.check_output("nft --json list table inet firewall"))["nftables"]


def chains(host):
    return {entry["chain"]["name"]: entry["chain"] for entry in table(host) if "chain" in entry}


def test_everybody_is_turned_away_unless_a_rule_says_otherwise(host):
    for name in ("input", "output"):
        chain = chains(host)[name]
        assert (chain["hook"], chain["policy"]) == (name, "drop")


def test_open_to_the_network_are_ssh_and_the_site_alone(host, site):
    ports = set()
    for rule in (entry["rule"] for entry in table(host) if "rule" in entry):
        if rule["chain"] == "openings":
            (port,) = (word["match"]["right"] for word in rule["expr"] if "match" in word)
            assert all(word["match"]["op"] == "==" for word in rule["expr"] if "match" in word)
            ports |= set(port["set"]) if isinstance(port, dict) else {port}
    assert ports == {22, site.vars["nginx_http_port"], site.vars["nginx_https_port"]}


def test_boot_loads_the_rules_that_are_in_force(host, site):
    for state in ("is-active", "is-enabled"):
        assert host.run(f"systemctl {state} firewall.service").rc == 0
    assert host.run("cmp /etc/firewall/candidate.nft /etc/firewall/confirmed.nft").rc == 0
    loaded = host.check_output("nft --stateless list table inet firewall")
    listed = "nft -f /etc/firewall/confirmed.nft && nft --stateless list table inet firewall"
    assert host.check_output(f"unshare --net sh -c '{listed}'") == loaded
    assert {path.rpartition("/")[2] for path in host.file(RULES).listdir()} == {
        "00-frame.nft",
        f"50-{site.app}.nft",
    }


def test_no_way_back_is_still_armed(host):
    timers = host.check_output("systemctl list-timers --all --plain --no-legend")
    assert "revert" not in timers


def test_rules_are_writable_by_root_alone(host):
    found = host.check_output(r"find /etc/firewall \( -perm /022 -o ! -user root \)")
    assert found == "", found
