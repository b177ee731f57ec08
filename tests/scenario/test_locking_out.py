"""Rules and settings that would lock out whoever runs a playbook: the host goes back by itself."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace

import pytest
from target_host.shell import as_root, run

RULES = "/etc/firewall/rules"
# In front of everything, what goes on already as well: Ansible's own connection is cut.
WRONG = "insert rule inet firewall input tcp dport 22 drop"
# Every OpenSSH knows it, and no client of today offers it.
OLD = "diffie-hellman-group1-sha1"
SECONDS = 30


def log_in(site) -> bool:
    """Say whether a new connection gets in."""
    words = ["ssh", "-F", str(site.state_dir / "ssh/config"), "-o", "ControlPath=none", "-o", "BatchMode=yes"]
    return run([*words, "-o", "ConnectTimeout=5", site.name, "true"], check=False).returncode == 0


def inside(site, command: str) -> str:
    """Run a command in the host's container, which needs no network."""
    return run(as_root(["podman", "exec", site.container, "sh", "-c", command])).stdout


def rules(site) -> str:
    return inside(site, "nft --stateless list table inet firewall")


@pytest.fixture(scope="module")
def wrong_rules(spare):
    """Run the firewall's role with rules that drop SSH; return what was seen."""
    before = rules(spare), inside(spare, "cat /etc/firewall/confirmed.nft")
    inside(spare, f"echo {shlex.quote(WRONG)} > {RULES}/99-wrong.nft")
    try:
        play = spare.play(
            "site",
            "--tags",
            "firewall",
            extra={"firewall_revert_seconds": SECONDS},
            label="site.yml with rules that drop SSH",
        )
        return SimpleNamespace(play=play, before=before, in_again=log_in(spare), after=rules(spare))
    finally:
        inside(spare, f"rm -f {RULES}/99-wrong.nft; nft --file /etc/firewall/confirmed.nft")


def test_wrong_rules_do_lock_everybody_out_where_nothing_goes_back(spare):
    """What the others show is worth something: without the way back these rules keep people out for good."""
    try:
        inside(spare, f"nft {shlex.quote(WRONG)}")
        assert not log_in(spare)
    finally:
        inside(spare, "nft --file /etc/firewall/confirmed.nft")
    assert log_in(spare)


def test_operator_gets_in_again_after_wrong_rules(wrong_rules):
    assert wrong_rules.in_again
    assert wrong_rules.after == wrong_rules.before[0]


def test_run_with_wrong_rules_fails_and_says_what_happened(wrong_rules):
    assert wrong_rules.play.returncode == 2
    assert "with the new firewall nobody got in by a new connection" in wrong_rules.play.words
    assert "went back to the old one by itself, and lets people in again" in wrong_rules.play.words


def test_boot_would_not_load_the_wrong_rules(spare, wrong_rules):
    assert inside(spare, "cat /etc/firewall/confirmed.nft") == wrong_rules.before[1]
    assert WRONG not in wrong_rules.before[1]


def test_rules_that_do_not_parse_change_nothing(spare):
    inside(spare, f"echo 'let everybody in' > {RULES}/99-wrong.nft")
    before = rules(spare)
    try:
        play = spare.play("site", "--tags", "firewall", label="site.yml with rules that are none")
    finally:
        inside(spare, f"rm {RULES}/99-wrong.nft")
    assert play.returncode == 2
    assert "syntax error" in play.words, play.tail()
    assert rules(spare) == before


def test_operator_gets_in_again_after_wrong_settings_of_sshd(spare):
    asked = "sshd -T | grep -i ^kexalgorithms; ls -l /etc/ssh/sshd_config.d"
    before = inside(spare, asked)
    play = spare.play(
        "site",
        "--tags",
        "ssh",
        extra={"ssh_key_exchanges": [OLD], "ssh_revert_seconds": SECONDS},
        label="site.yml with an algorithm nobody speaks",
    )
    assert play.returncode == 2
    assert "with the new sshd nobody got in by a new connection" in play.words, play.tail()
    assert log_in(spare)
    assert inside(spare, asked) == before


def test_settings_that_name_somebody_else_are_refused_before_anything_changes(spare):
    play = spare.play("preflight", extra={"ssh_allowed_users": ["somebody"]}, label="preflight for another")
    assert play.returncode == 2
    assert "you log in as admin" in play.words, play.tail()


def test_firewall_that_leaves_out_sshs_port_is_refused(spare):
    play = spare.play("preflight", extra={"firewall_ssh_ports": [2222]}, label="preflight without port 22")
    assert play.returncode == 2
    assert "firewall_ssh_ports: [22]" in play.words, play.tail()


def test_what_the_firewall_would_close_is_told_before_it_closes_anything(spare):
    inside(spare, f"mv {RULES} {RULES}.away && systemd-run --unit planted python3 -m http.server 9100")
    try:
        play = spare.play("preflight", label="preflight where something else listens").ok()
        assert "their visitors away: tcp 9100 (python3). Name in firewall_extra_openings" in play.words
    finally:
        inside(spare, f"systemctl stop planted; mv {RULES}.away {RULES}")
    assert "firewall_extra_openings" not in spare.play("preflight", label="preflight as it was").ok().words


def test_next_run_finds_all_as_it_was(spare, wrong_rules):
    play = spare.play("site", "--tags", "ssh,firewall", label="site.yml after what was wrong").ok()
    # sshd's wanted settings were written, and not put into force.
    assert set(play.changed_tasks) <= {
        "ssh : Write what sshd is to be told",
        "firewall : Put the rules of all apps together, and check them",
    }
    assert json.loads(inside(spare, "nft --json list tables"))["nftables"]
    assert log_in(spare)
