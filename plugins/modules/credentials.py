#!/usr/bin/python
"""Keep a folder of secrets as systemd loads it into units: encrypted for this host, or plain."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: credentials
short_description: Keep a folder of secrets as systemd loads it into units
description:
  - Writes each secret as a file for root alone, in one round trip, and only where its value is another.
  - Encrypted ones are made by C(systemd-creds) with this host's own key. They are good on no other host, and
    under no other name. A unit loads the folder by C(LoadCredentialEncrypted=app:<folder>).
  - The folder holds what is declared and nothing else. What is not is moved to O(backup_dir), never deleted.
  - No value is ever part of what this module says.
options:
  path:
    description: The folder.
    type: path
    required: true
  values:
    description: Secrets by name. A list is a line for each of its items.
    type: dict
    default: {}
  copies:
    description: Files on this host that hold further secrets, by name.
    type: dict
    default: {}
  keep:
    description: Names that may stay as they are, for secrets this run does not know.
    type: list
    elements: str
    default: []
  encrypted:
    description: Whether they are encrypted.
    type: bool
    default: true
  backup_dir:
    description: Folder for what was moved aside, below the time of the run and the full old path.
    type: path
    default: /var/backups/mirror
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Write the credentials
  credentials:
    path: /etc/inbox/credentials.encrypted
    values: "{{ app_secrets }}"
  no_log: true
"""

RETURN = r"""
written:
  description: Names of the secrets that were written.
  type: list
  elements: str
  returned: always
moved_aside:
  description: Paths that were not declared.
  type: list
  elements: str
  returned: always
"""

# LoadCredentialEncrypted=app:<folder> expects each file to be encrypted under the name it gives it.
PREFIX = "app_"


class CredentialsError(Exception):
    """What a person must mend; the words hold no secret."""


def creds(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run systemd-creds with a secret on its standard input or output."""
    return subprocess.run(["systemd-creds", *words], input=data, capture_output=True, check=False, timeout=60)


def held(path: Path, encrypted: bool) -> bytes | None:
    """Return the secret a file holds; None if there is none that can be read."""
    if not path.is_file() or path.is_symlink():
        return None
    if not encrypted:
        return path.read_bytes()
    done = creds("decrypt", f"--name={PREFIX}{path.name}", str(path), "-")
    return done.stdout if done.returncode == 0 else None


def sealed(name: str, value: bytes) -> bytes:
    """Return a secret encrypted for this host.

    :raises CredentialsError: if systemd cannot.
    """
    done = creds("encrypt", "--with-key=host", f"--name={PREFIX}{name}", "-", "-", data=value)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CredentialsError(f"systemd-creds cannot encrypt on this host: {said}")
    return done.stdout


def write(path: Path, content: bytes) -> None:
    """Put a file in place at once, readable by root alone.

    It is made beside the folder: a unit that starts meanwhile loads every file in it.
    """
    handle, name = tempfile.mkstemp(prefix=".credential-", dir=path.parent.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(handle, 0o600)
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_private(path: Path, mode: int) -> bool:
    """Tell whether a path is root's and has a mode."""
    status = path.stat()
    return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), os.getegid(), mode)


def make_private(path: Path, mode: int) -> None:
    """Give a path to root alone."""
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(mode)


def as_bytes(value: object) -> bytes:
    """Return a declared value as a file would hold it; of several values, a line each."""
    if isinstance(value, list):
        return "\n".join(map(str, value)).encode()
    return ("" if value is None else str(value)).encode()


class Folder:
    """The folder, and what this run does to it."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take what the task says."""
        params = module.params
        self.check, self.encrypted = module.check_mode, params["encrypted"]
        self.path, self.backup_dir = params["path"], params["backup_dir"]
        self.wanted = {name: as_bytes(value) for name, value in params["values"].items()}
        for name, source in params["copies"].items():
            self.wanted[name] = Path(source).read_bytes()
        self.keep = {*self.wanted, *params["keep"]}
        self.written: list[str] = []
        self.moved: list[str] = []
        self.repaired = False

    def repair(self) -> None:
        """See that folder and files are there and root's alone."""
        folder = Path(self.path)
        if not folder.is_dir():
            self.repaired = True
            if not self.check:
                folder.mkdir(mode=0o700)
            return
        for path, mode in [(folder, 0o700), *((each, 0o600) for each in folder.iterdir() if each.is_file())]:
            if not is_private(path, mode):
                self.repaired = True
                if not self.check:
                    make_private(path, mode)

    def fill(self) -> None:
        """Write what is not there with its value."""
        for name, value in sorted(self.wanted.items()):
            path = Path(self.path) / name
            if held(path, self.encrypted) == value:
                continue
            self.written.append(name)
            if not self.check:
                write(path, sealed(name, value) if self.encrypted else value)

    def clear(self) -> None:
        """Move aside what is not declared."""
        folder = Path(self.path)
        strangers = (
            [path for path in folder.iterdir() if path.name not in self.keep] if folder.is_dir() else []
        )
        aside = Path(self.backup_dir) / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        for path in sorted(strangers):
            self.moved.append(str(path))
            if not self.check:
                target = Path(f"{aside}{path}")
                aside.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                aside.mkdir(mode=0o700, exist_ok=True)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Another file system, perhaps: copied by its bytes, then taken away.
                target.touch(mode=0o600)
                target.write_bytes(path.read_bytes())
                path.unlink()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "values": {"type": "dict", "default": {}, "no_log": True},
            "copies": {"type": "dict", "default": {}},
            "keep": {"type": "list", "elements": "str", "default": []},
            "encrypted": {"type": "bool", "default": True},
            "backup_dir": {"type": "path", "default": "/var/backups/mirror"},
        },
        supports_check_mode=True,
    )
    try:
        folder = Folder(module)
        folder.repair()
        folder.fill()
        folder.clear()
    except (CredentialsError, OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"{module.params['path']}: {error}")
    changed = bool(folder.written or folder.moved or folder.repaired)
    module.exit_json(changed=changed, written=folder.written, moved_aside=folder.moved)


if __name__ == "__main__":
    main()
