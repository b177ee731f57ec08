"""Make the secrets an inventory asks for, and keep them encrypted beside it."""

from __future__ import annotations

import difflib
import os
import re
import secrets
from pathlib import Path

import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret, is_encrypted
from ansible.plugins.action import ActionBase

VAULT = "group_vars/all/vault.yml"
ASKED = re.compile(r"\bvault_[a-z0-9_]+")
COMMENT = re.compile(r"(?m)(^|\s)#.*$")
HEAD = "# Made by playbooks/secrets.yml. Change it with: ansible-vault edit\n"
SECRET_BYTES = 48


class ActionModule(ActionBase):
    """Work on the controller, in Ansible's own process: what it makes is in no argument and in no answer."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Return the names of what was made, never a value."""
        result = super().run(tmp, task_vars)
        _, words = self.validate_argument_spec(
            {
                "inventory_dir": {"type": "path", "required": True},
                "password_file": {"type": "path", "required": True},
                "rotate": {"type": "list", "elements": "str", "default": []},
            }
        )
        inventory, password_file = Path(words["inventory_dir"]), Path(words["password_file"]).expanduser()
        return {**result, **work(inventory, password_file, words["rotate"], self._task.check_mode)}


def work(inventory: Path, password_file: Path, rotate: list[str], dry: bool = False) -> dict:
    """Add what an inventory asks for and its vault lacks, and make what is to be rotated anew.

    Raises AnsibleActionFail, before anything is written, where something that exists would be lost.
    """
    path = inventory / VAULT
    text = decrypted(path, password_file) if path.exists() else HEAD
    known = yaml.safe_load(text) or {}
    if not isinstance(known, dict):
        raise AnsibleActionFail(f"{path} holds no names with values: ansible-vault edit {path}")
    asked = sorted(asked_for(inventory))
    refuse_unknown(rotate, known, path)
    for name in rotate:
        text = replaced(text, name, path)
    added = [name for name in asked if name not in known]
    # On a line of its own each, so that one can be found and changed.
    text += "".join(f"{name}: {new_secret()}\n" for name in added)
    if (added or rotate) and not dry:
        password = password_of(password_file)
        write_private(path, VaultLib([("default", password)]).encrypt(text).decode())
    return {
        "changed": bool(added or rotate),
        "vault": str(path),
        "password_file": str(password_file),
        "added": added,
        "rotated": rotate,
        "unused": sorted(set(known) - set(asked)),
    }


def asked_for(inventory: Path) -> set[str]:
    """Return every vault_… name that the inventory's files mention."""
    files = [path for path in inventory.rglob("*.y*ml") if path != inventory / VAULT]
    texts = (path.read_text("utf-8") for path in files)
    return {name for text in texts if not is_encrypted(text) for name in ASKED.findall(COMMENT.sub("", text))}


def decrypted(path: Path, password_file: Path) -> str:
    """Return a vault's text.

    Raises AnsibleActionFail where it is none, or its password is not there.
    """
    content = path.read_bytes()
    if not is_encrypted(content):
        raise AnsibleActionFail(f"{path} lies open: ansible-vault encrypt {path}")
    if not password_file.exists():
        raise AnsibleActionFail(
            f"{path} is there, and its password is not in {password_file}: write it there, or name its file"
            " with -e secrets_password_file=…. Nothing was changed"
        )
    try:
        return VaultLib([("default", password_of(password_file))]).decrypt(content).decode()
    except AnsibleVaultError as error:
        raise AnsibleActionFail(
            f"the password in {password_file} does not open {path}. Nothing was changed"
        ) from error


def password_of(path: Path) -> VaultSecret:
    """Return the password in a file, which is made where there is none.

    Raises AnsibleActionFail where others may read it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, f"{new_secret()}\n")
    if path.stat().st_mode & 0o077:
        raise AnsibleActionFail(f"{path} is not its owner's alone: chmod 0600 {path}")
    return VaultSecret(path.read_bytes().strip())


def new_secret() -> str:
    """Return a value that needs no quotes in YAML, a shell or a URL."""
    while not (value := secrets.token_urlsafe(SECRET_BYTES))[0].isalpha():
        pass
    return value


def refuse_unknown(rotate: list[str], known: dict, path: Path) -> None:
    """Refuse to rotate what is not there."""
    for name in rotate:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it holds {', '.join(known) or 'nothing'}"
            raise AnsibleActionFail(f"{path} has no {name}{hint}")


def replaced(text: str, name: str, path: Path) -> str:
    """Return a vault's text with one value made anew, everything else as it was.

    Raises AnsibleActionFail for a value over several lines, which nobody made here.
    """
    line = re.compile(rf"(?m)^{re.escape(name)}:[ \t]+(?![|>]).*$(?!\n[ \t])")
    if len(line.findall(text)) != 1:
        raise AnsibleActionFail(f"{name} is not one line: change it with ansible-vault edit {path}")
    return line.sub(f"{name}: {new_secret()}", text)


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    unfinished.rename(path)
