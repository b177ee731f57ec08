"""An inventory's secrets are made once, encrypted, and never lost."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from target_host.shell import PROJECT_DIR

sys.path.insert(0, str(PROJECT_DIR / "plugins/action"))

import vault_secrets

APP = """
# Not asked for: vault_commented
app_secrets:
  secret_key: "{{ vault_secret_key }}"
  mail: "{{ vault_mail }}"
"""


@pytest.fixture
def inventory(tmp_path):
    place = tmp_path / "production"
    (place / "group_vars/all").mkdir(parents=True)
    (place / "hosts.yml").write_text("all: {hosts: {www1: {ansible_password: '{{ vault_www1 }}'}}}\n")
    (place / "group_vars/all/app.yml").write_text(APP)
    return place


@pytest.fixture
def password(tmp_path):
    return tmp_path / "config/ansible-vault/production"


def work(inventory, password, rotate=(), dry=False):
    return vault_secrets.work(inventory, password, list(rotate), dry)


def values(inventory, password):
    """Read the vault as anybody does: with ansible-vault."""
    vault = inventory / vault_secrets.VAULT
    command = [sys.executable, "-m", "ansible", "vault", "view", "--vault-password-file", password, vault]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return yaml.safe_load(done.stdout)


def test_every_name_asked_for_gets_a_value_of_its_own(inventory, password):
    told = work(inventory, password)
    made = values(inventory, password)
    assert told["added"] == sorted(made) == ["vault_mail", "vault_secret_key", "vault_www1"]
    assert len({*made.values()}) == 3
    assert min(map(len, made.values())) >= 64
    assert not any(value in str(told) for value in made.values())


def test_files_are_their_owners_alone_and_the_vault_is_encrypted(inventory, password):
    work(inventory, password)
    vault = inventory / vault_secrets.VAULT
    assert vault.read_text().startswith("$ANSIBLE_VAULT;")
    modes = [path.stat().st_mode & 0o777 for path in (vault, password, password.parent)]
    assert modes == [0o600, 0o600, 0o700]
    assert [path.name for path in vault.parent.iterdir() if path.name.startswith(".")] == []


def test_second_run_changes_nothing_and_a_new_name_is_added_beside_the_others(inventory, password):
    work(inventory, password)
    first, text = values(inventory, password), (inventory / vault_secrets.VAULT).read_text()
    assert work(inventory, password)["changed"] is False
    assert (inventory / vault_secrets.VAULT).read_text() == text
    (inventory / "group_vars/all/more.yml").write_text('token: "{{ vault_token }}"\n')
    assert work(inventory, password)["added"] == ["vault_token"]
    second = values(inventory, password)
    assert {name: second[name] for name in first} == first


def test_rotating_one_leaves_the_others(inventory, password):
    work(inventory, password)
    before = values(inventory, password)
    assert work(inventory, password, ["vault_mail"])["rotated"] == ["vault_mail"]
    after = values(inventory, password)
    assert [name for name in before if before[name] != after[name]] == ["vault_mail"]


def test_dry_run_writes_nothing(inventory, password):
    assert work(inventory, password, dry=True)["changed"] is True
    assert not (inventory / vault_secrets.VAULT).exists()
    assert not password.exists()


def spoil_name(inventory, password):
    return ["vault_secret_kex"]


def lose_password(inventory, password):
    password.unlink()
    return ["vault_mail"]


def change_password(inventory, password):
    password.write_text("another")
    return ["vault_mail"]


def open_vault(inventory, password):
    (inventory / vault_secrets.VAULT).write_text("vault_mail: x\n")
    return ["vault_mail"]


def share_password(inventory, password):
    password.chmod(0o640)
    return ["vault_mail"]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (spoil_name, "did you mean vault_secret_key?"),
        (lose_password, "its password is not in"),
        (change_password, "does not open"),
        (open_vault, "ansible-vault encrypt"),
        (share_password, "chmod 0600"),
    ],
)
def test_what_would_lose_a_secret_is_refused_and_nothing_is_written(inventory, password, spoil, word):
    work(inventory, password)
    rotate = spoil(inventory, password)
    text = (inventory / vault_secrets.VAULT).read_text()
    with pytest.raises(AnsibleActionFail) as refused:
        work(inventory, password, rotate)
    assert word in str(refused.value)
    assert (inventory / vault_secrets.VAULT).read_text() == text


def test_value_of_several_lines_is_not_rotated(inventory, password):
    text = "vault_settings: |\n  KEY = 1\nvault_mail: 'a b'\n"
    with pytest.raises(AnsibleActionFail, match="not one line"):
        vault_secrets.replaced(text, "vault_settings", inventory)
    assert "KEY = 1" in vault_secrets.replaced(text, "vault_mail", inventory)


@pytest.mark.parametrize("example", ["example-single", "example-fleet"])
def test_example_works_from_the_first_minute(example, tmp_path):
    """The playbook as a person runs it, and what the app's role then gets."""
    inventory, password = tmp_path / "production", tmp_path / "password"
    subprocess.run(["cp", "-r", PROJECT_DIR / "inventory" / example, inventory], check=True)
    ansible = [sys.executable, "-m", "ansible"]
    play = [*ansible, "playbook", "-i", inventory, "playbooks/secrets.yml"]
    words = ["-e", f"secrets_password_file={password}"]
    subprocess.run([*play, *words], cwd=PROJECT_DIR, check=True, capture_output=True)
    show = [*ansible, "inventory", "-i", inventory, "--vault-password-file", password]
    done = subprocess.run(
        [*show, "--host", "www1"], cwd=PROJECT_DIR, check=True, capture_output=True, text=True
    )
    told = yaml.safe_load(done.stdout)
    assert told["app_secrets"] == {"secret_key": "{{ vault_secret_key }}"}
    assert len(told["vault_secret_key"]) == 64
