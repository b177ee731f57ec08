"""Document the check_declaration action plugin, which runs on the controller alone."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: check_declaration
short_description: Refuse variables that no role declares
version_added: "1.0"
description:
  - An argument spec checks the variables it knows. A misspelt name is one it does not know, so the role
    takes the default and the run ends well with the wrong result. This action refuses such a name
    before anything changes.
  - A variable is refused when it begins with the name of a role and an underscore, and no role's argument
    spec declares it, in any entry point.
  - It is refused as well when it only resembles a declared one, as C(ngnix_https_port) does.
  - A variable that a role has removed is refused with the words of C(meta/removed_variables.yml), a mapping
    from the old name to what to use now.
  - In a declared list of mappings a key is refused that the spec's C(options) lack, and a word that is none
    of an option's C(choices), each with the nearest right one.
  - Every other variable is the user's own. Names that begin with C(__) or C(ansible_) are never looked at.
options:
  roles_path:
    description: Folder of the roles whose C(meta/argument_specs.yml) declare. Empty means C(../roles) beside
      the playbook's folder.
    type: path
    default: ""
  allow:
    description: Further names that are right, though no role declares them.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  check_declaration:

- name: Refuse misspelt variables, but for one of our own
  check_declaration:
    allow: [nginx_owner_team]
"""

RETURN = r"""
checked:
  description: How many variables of this host were looked at.
  type: int
  returned: always
unknown_variables:
  description: What was refused.
  type: list
  elements: dict
  returned: failed
  contains:
    name:
      description: The variable.
      type: str
    where:
      description: File and line that set it, where Ansible knows them.
      type: str
    remedy:
      description: What to do.
      type: str
"""
