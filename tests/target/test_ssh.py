"""How people log in: by key alone, as sshd itself says and answers, whatever stands in its files."""

from __future__ import annotations

import shlex

import pytest
from target_host.shell import run


@pytest.fixture(scope="module")
def effective(site):
    """Return sshd's own words about each of its settings."""
    lines = site.sudo("sshd -T").splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


def attempt(site, *options):
    """Try to log in by a connection of its own; return what ssh said about it."""
    words = ["ssh", "-v", "-F", str(site.state_dir / "ssh/config")]
    for option in ("ControlPath=none", "BatchMode=yes", *options):
        words += ["-o", option]
    done = run([*words, site.name, "true"], check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("passwordauthentication", "no"),
        ("kbdinteractiveauthentication", "no"),
        ("permitrootlogin", "no"),
        ("allowtcpforwarding", "no"),
        ("allowagentforwarding", "no"),
        ("x11forwarding", "no"),
        ("loglevel", "VERBOSE"),
        ("maxauthtries", "4"),
    ],
)
def test_setting_is_in_effect(effective, setting, value):
    assert effective[setting] == value


def test_key_exchange_is_the_best_that_this_openssh_knows(site, effective):
    best = "mlkem768x25519-sha256" if site.debian == 13 else "sntrup761x25519-sha512"
    assert effective["kexalgorithms"].startswith(best)


def test_no_algorithm_leans_on_sha1_or_on_cbc(effective):
    for setting in ("kexalgorithms", "ciphers", "macs"):
        assert not [name for name in effective[setting].split(",") if "sha1" in name or "cbc" in name]


def test_key_lets_in_by_a_new_connection(site):
    status, said = attempt(site)
    assert status == 0, said


def test_sshd_offers_keys_and_nothing_else(site):
    status, said = attempt(site, "PubkeyAuthentication=no")
    assert status == 255
    assert "Authentications that can continue: publickey\n" in said.replace("\r", ""), said


def test_old_algorithms_are_refused(site):
    for option in ("KexAlgorithms=ecdh-sha2-nistp256", "Ciphers=aes128-cbc", "MACs=hmac-sha1"):
        # chacha20 and GCM need no MAC: with them none would be asked for.
        extra = ["Ciphers=aes256-ctr"] if option.startswith("MACs") else []
        status, said = attempt(site, option, *extra)
        assert status == 255, option
        assert "no matching" in said, said


def test_way_people_logged_in_stands_in_the_journal(site):
    said = site.sudo("journalctl --boot --unit=ssh.service --output=cat --grep='Accepted publickey'")
    assert "SHA256:" in said, said


def test_settings_are_roots_alone(site):
    for path in ("/etc/ssh/hardening.conf", "/etc/ssh/sshd_config.d/00-hardening.conf"):
        assert site.sudo(f"stat -c '%U %a' {shlex.quote(path)}").split() == ["root", "600"]
