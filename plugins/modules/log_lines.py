"""Document the log_lines action plugin, which needs no module on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: log_lines
short_description: Read lines of a host's logs in one round trip
version_added: "1.0"
description:
  - Sends the part of releasectl that reads logs along with a question, and runs it from memory. So a host is
    asked alike whether releasectl is installed there or not, and whatever version of it.
  - Nothing is changed, and nothing left on the host.
options:
  app:
    description: Name of the app.
    type: str
    required: true
  asked:
    description:
      - Which lines, as C(releasectl logs) has it in its options; C(request_id) as C(releasectl trace) has it.
        Empty values do not matter.
    type: dict
    default: {}
  state:
    description: With V(check) only what is wrong with the question is told, and no host is asked.
    type: str
    choices: [read, check]
    default: read
  python:
    description: The Python of the host that reads, 3.11 or later.
    type: path
    default: /usr/bin/python3
attributes:
  check_mode:
    support: full
    description: It only reads.
"""

EXAMPLES = r"""
- name: Read what went wrong
  log_lines:
    app: inbox
    asked: {level: error, since: 1h}
  register: __logs_read
"""

RETURN = r"""
answer:
  description:
    - C(lines), each with C(at), C(time), C(source), C(level), C(message) and C(fields).
    - C(looked), where; C(unread), what could not be read; C(more), whether there are older ones.
    - C(seconds), how long it took there.
  type: dict
  returned: when read
"""
