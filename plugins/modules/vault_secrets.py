#!/usr/bin/python
"""The documentation of the action of this name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secrets
short_description: Make the secrets an inventory asks for, and keep them encrypted beside it
description:
  - Every C(vault_…) name that the inventory's files mention gets a random value in
    C(group_vars/all/vault.yml), encrypted by ansible-vault. What is there is kept, unless to be rotated.
  - The vault's password is made with it where there is none. No value is printed.
options:
  inventory_dir:
    description: Folder of the inventory.
    type: path
    required: true
  password_file:
    description: Where the vault's password is, or will be. Out of the tree, or it goes where the vault goes.
    type: path
    required: true
  rotate:
    description: Names of values to make anew.
    type: list
    elements: str
    default: []
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Make what is missing
  vault_secrets:
    inventory_dir: "{{ inventory_dir }}"
    password_file: ~/.config/ansible-vault/production
"""

RETURN = r"""
added:
  description: Names of the values that were made.
  type: list
  returned: always
rotated:
  description: Names of the values that were made anew.
  type: list
  returned: always
unused:
  description: Names in the vault that the inventory does not mention.
  type: list
  returned: always
vault:
  description: Path of the vault.
  type: str
  returned: always
password_file:
  description: Path of its password.
  type: str
  returned: always
"""
