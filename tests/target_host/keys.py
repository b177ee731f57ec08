"""SSH keys of an inventory's target hosts: made on the controller, pinned there, put in before boot."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from target_host.inventory import USER, Host, Inventory
from target_host.shell import run

ADMIN_ID = 1000
"""User and group id of `admin` in the image."""


def ensure(inventory: Inventory) -> set[str]:
    """Make the keys that are missing, known_hosts and an ssh configuration; return the hosts with new keys.

    A new client key is new for every host.
    """
    ssh_dir = inventory.state_dir / "ssh"
    (ssh_dir / "hosts").mkdir(parents=True, exist_ok=True)
    # Other parts keep their secrets beside the keys.
    inventory.state_dir.chmod(0o700)
    client_is_new = _make(client_key(inventory), f"target-host {inventory.name}")
    new = {
        host.name for host in inventory.hosts if _make(host_key(inventory, host), host.name) or client_is_new
    }
    public = {host.name: _public(host_key(inventory, host)) for host in inventory.hosts}
    _write(ssh_dir / "known_hosts", known_hosts(inventory.hosts, public))
    _write(ssh_dir / "config", ssh_config(inventory))
    return new


def client_key(inventory: Inventory) -> Path:
    """Return the private key that Ansible and people log in with."""
    return inventory.state_dir / "ssh/id_ed25519"


def host_key(inventory: Inventory, host: Host) -> Path:
    """Return the private half of the key by which `host` proves itself."""
    return inventory.state_dir / f"ssh/hosts/{host.name}_ed25519"


def known_hosts(hosts: Iterable[Host], public: Mapping[str, str]) -> str:
    """Return known_hosts: one line a host, by its loopback port."""
    return "".join(f"[127.0.0.1]:{host.ssh_port} {public[host.name]}\n" for host in hosts)


def ssh_config(inventory: Inventory) -> str:
    """Return a configuration with which `ssh -F … <host>` is all a person types."""
    ssh_dir = inventory.state_dir.resolve() / "ssh"
    blocks = [
        f"Host {host.name}\n    HostName 127.0.0.1\n    Port {host.ssh_port}\n" for host in inventory.hosts
    ]
    common = (
        f'Host *\n    User {USER}\n    IdentityFile "{client_key(inventory).resolve()}"\n'
        f'    IdentitiesOnly yes\n    UserKnownHostsFile "{ssh_dir}/known_hosts"\n'
        "    StrictHostKeyChecking yes\n    PreferredAuthentications publickey\n"
    )
    return "".join([*blocks, common])


def archive(inventory: Inventory, host: Host, extra: Mapping[str, str]) -> bytes:
    """Return the tar of what makes a container this host: its keys, who may log in, `extra` files.

    `extra` gives root's world-readable files, path to content.
    """
    private = host_key(inventory, host)
    files = {
        "etc/ssh/ssh_host_ed25519_key": (private.read_bytes(), 0o600, 0),
        "etc/ssh/ssh_host_ed25519_key.pub": (_public(private).encode() + b"\n", 0o644, 0),
        f"home/{USER}/.ssh/authorized_keys": (
            _public(client_key(inventory)).encode() + b"\n",
            0o600,
            ADMIN_ID,
        ),
        **{name: (content.encode(), 0o644, 0) for name, content in extra.items()},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode, owner) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), mode, owner, owner
            member.mtime = int(time.time())
            tar.addfile(member, io.BytesIO(content))
        end = tar.offset
    # Without the padding behind the two blocks that end an archive: podman stops reading at those, and fails
    # now and then when more is still being written to it.
    return buffer.getvalue()[: end + 2 * tarfile.BLOCKSIZE]


def control_path(ssh_port: int) -> Path:
    """Return the socket of the connection Ansible keeps open to a host.

    The name is that of ansible-core's ssh connection plugin: sha1 of "address-port-user", 10 digits.
    """
    name = hashlib.sha1(f"127.0.0.1-{ssh_port}-{USER}".encode(), usedforsecurity=False).hexdigest()[:10]
    home = os.environ.get("ANSIBLE_HOME", "~/.ansible")
    return Path(home).expanduser() / "cp" / name


def close_connections(ssh_ports: Iterable[int]) -> None:
    """End the connections Ansible keeps open.

    One left over would be taken up again for the next host on that port, and hang: its other end is gone.
    """
    for port in ssh_ports:
        if control_path(port).exists():
            run(["ssh", "-o", f"ControlPath={control_path(port)}", "-O", "exit", "127.0.0.1"], check=False)


def _make(path: Path, comment: str) -> bool:
    if path.exists() and path.with_name(f"{path.name}.pub").exists():
        return False
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return True


def _public(private: Path) -> str:
    return private.with_name(f"{private.name}.pub").read_text().strip()


def _write(path: Path, content: str) -> None:
    if not path.exists() or path.read_text() != content:
        path.write_text(content)
