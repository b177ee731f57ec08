"""People who look after what runs: releasectl's harmless verbs and the logs, and nothing else as root."""

from __future__ import annotations

import shlex

import pytest
from target_host.shell import run

NAME = "opal"
MAY = ("status", "--app {app} list", "--app {app} --json status", "log")
MAY_NOT = (
    "releasectl run id",
    "releasectl stage /tmp/release.tar",
    "releasectl status --app other",
    "releasectl rollback --despite-schema",
    "releasectl unlock",
    "releasectl 'status\nid'",
    "id",
    "cat /etc/shadow",
)


@pytest.fixture(scope="module")
def operator(spare, tmp_path_factory):
    """Name an operator in the inventory; return what runs a command as that person, over SSH."""
    key = tmp_path_factory.mktemp("keys") / "id_ed25519"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    declared = [{"name": NAME, "ssh_keys": [key.with_suffix(".pub").read_text().strip()]}]
    spare.play(
        "site", "--tags", "base", extra={"base_operators": declared}, label="site.yml with an operator"
    ).ok()
    config = ["-F", str(spare.state_dir / "ssh/config"), "-o", "ControlPath=none", "-o", "BatchMode=yes"]
    login = ["ssh", *config, "-o", f"IdentityFile={key}", "-l", NAME, spare.name]
    yield lambda command: run([*login, command], check=False)
    spare.sudo(f"rm /etc/sudoers.d/operators; userdel --remove {NAME}; groupdel operators")


@pytest.mark.parametrize("words", MAY)
def test_operator_may(spare, operator, words):
    done = operator(f"sudo -n releasectl {words.format(app=spare.app)}")
    # On a host that other tests brought apps to, releasectl itself asks which is meant.
    let_in = done.returncode == 0 and done.stdout
    assert let_in or "refused: several apps are set up here" in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("command", MAY_NOT)
def test_operator_may_not(operator, command):
    done = operator(f"sudo -n {command}")
    assert done.returncode != 0
    assert "password is required" in done.stderr, done.stdout + done.stderr


def test_operator_reads_the_logs(spare, operator):
    for command in (f"journalctl -q -n 1 -t {spare.app}-web", "tail -n 1 /var/log/nginx/error.log"):
        done = operator(command)
        assert done.returncode == 0, done.stderr
    assert "sshd" in operator("journalctl -q -n 5 --unit=ssh.service").stdout


def test_operator_reads_no_secrets(spare, operator):
    settings = f"/etc/{spare.app}"
    for path in (f"{settings}/credentials.encrypted/secret_key", "/etc/shadow", f"{settings}/app.env"):
        assert "denied" in operator(f"cat {shlex.quote(path)}").stderr, path
