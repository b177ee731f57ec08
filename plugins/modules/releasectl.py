"""Document the releasectl action plugin, which needs no module on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: releasectl
short_description: Run releasectl on a host in one round trip
version_added: "1.0"
description:
  - Runs C(releasectl --json) as it is on the host, over the connection itself. A module would first have to
    be sent, and to start a Python of its own, which takes longer than most of what releasectl is asked.
  - Archives go along as the command's input, so that a release is copied and staged in one round trip.
  - What releasectl says has changed is what the task reports as changed.
options:
  app:
    description: Name of the app.
    type: str
    required: true
  words:
    description: The command and its arguments, such as V([activate, --prune, 20260723T083000Z-1f2e3d4]).
    type: list
    elements: str
    required: true
  by:
    description: Who does it, for the ledger. Empty means the person who logged in.
    type: str
    default: ""
  lock:
    description: Token of the lock that this run holds. Empty means none.
    type: str
    default: ""
  archives:
    description: Files of the controller to send first, under their own names. They must fit into memory.
    type: list
    elements: path
    default: []
  incoming_dir:
    description:
      - Folder on the host that they go to, made for this run and removed at its end.
      - The folder around it must exist.
    type: path
    default: ""
  program:
    description: The releasectl to run.
    type: path
    default: /usr/local/sbin/releasectl
attributes:
  check_mode:
    support: partial
    description: Skipped in check mode. Tasks that only look set C(check_mode=false).
"""

EXAMPLES = r"""
- name: Ask releasectl what runs
  releasectl:
    app: inbox
    words: [status]
  check_mode: false
  register: __release_status_command

- name: Send a release and stage it
  releasectl:
    app: inbox
    words: [stage, /srv/inbox/incoming/release-20260723T083000Z-1f2e3d4.tar]
    archives: ["{{ __release_build.release_archive }}"]
    incoming_dir: /srv/inbox/incoming
"""

RETURN = r"""
answer:
  description: releasectl's JSON, empty where it broke off before it had an answer.
  type: dict
  returned: always, but in check mode
rc:
  description: Its exit code.
  type: int
  returned: always
stdout:
  description: Its JSON as text.
  type: str
  returned: always
stderr:
  description: Its progress.
  type: str
  returned: always
"""
