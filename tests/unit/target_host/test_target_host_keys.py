"""Keys and what is pinned: made once, on the controller, and put in with the right owners."""

from __future__ import annotations

import io
import shutil
import tarfile

import pytest
from target_host import keys
from target_host.inventory import Host, Inventory

HOSTS = (Host("app1", 2201, ("8443:8443",)), Host("db1", 2202))


@pytest.fixture
def inventory(tmp_path):
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed")
    return Inventory(tmp_path / "t-keys", HOSTS, tmp_path / "state")


def test_known_hosts_has_one_line_a_host_by_its_loopback_port():
    lines = keys.known_hosts(HOSTS, {"app1": "ssh-ed25519 AAAA1 app1", "db1": "ssh-ed25519 AAAA2 db1"})
    assert lines == "[127.0.0.1]:2201 ssh-ed25519 AAAA1 app1\n[127.0.0.1]:2202 ssh-ed25519 AAAA2 db1\n"


def test_keys_are_made_once(inventory):
    assert keys.ensure(inventory) == {"app1", "db1"}
    before = keys.client_key(inventory).read_text()
    assert keys.ensure(inventory) == set()
    assert keys.client_key(inventory).read_text() == before


def test_lost_host_key_is_made_anew_for_that_host_alone(inventory):
    keys.ensure(inventory)
    keys.host_key(inventory, HOSTS[1]).unlink()
    assert keys.ensure(inventory) == {"db1"}
    pinned = (inventory.state_dir / "ssh/known_hosts").read_text()
    assert keys.host_key(inventory, HOSTS[1]).with_suffix(".pub").read_text().split()[1] in pinned


def test_lost_client_key_concerns_every_host(inventory):
    keys.ensure(inventory)
    keys.client_key(inventory).unlink()
    assert keys.ensure(inventory) == {"app1", "db1"}


def test_private_keys_and_their_folder_are_the_users_alone(inventory):
    keys.ensure(inventory)
    assert inventory.state_dir.stat().st_mode & 0o077 == 0
    assert keys.client_key(inventory).stat().st_mode & 0o077 == 0
    assert keys.host_key(inventory, HOSTS[0]).stat().st_mode & 0o077 == 0


def test_archive_gives_each_file_its_owner_and_mode(inventory):
    keys.ensure(inventory)
    data = keys.archive(inventory, HOSTS[0], {"etc/apt/apt.conf.d/90target-host": "// none\n"})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: (member.mode, member.uid) for member in tar}
    assert members == {
        "etc/ssh/ssh_host_ed25519_key": (0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, 0),
        "home/admin/.ssh/authorized_keys": (0o600, keys.ADMIN_ID),
        "etc/apt/apt.conf.d/90target-host": (0o644, 0),
    }


def test_ssh_configuration_names_every_host_and_never_trusts_on_first_use(inventory):
    text = keys.ssh_config(inventory)
    assert "Host app1\n    HostName 127.0.0.1\n    Port 2201\n" in text
    assert "Host db1\n" in text
    assert "StrictHostKeyChecking yes" in text


def test_connection_to_close_is_the_one_that_ansible_opens(monkeypatch):
    ssh = pytest.importorskip("ansible.plugins.connection.ssh")
    monkeypatch.setenv("ANSIBLE_HOME", "/home/somebody/.ansible")
    theirs = ssh.Connection._create_control_path("127.0.0.1", 2201, "admin")
    assert str(keys.control_path(2201)) == theirs % {"directory": "/home/somebody/.ansible/cp"}
