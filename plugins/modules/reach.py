#!/usr/bin/python
"""Tell whether this host reaches a port of another one, and from which address it would come."""

from __future__ import annotations

import os
import socket

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: reach
short_description: Tell whether this host reaches a port of another one
description:
  - Connects to a port and closes the connection at once. Before the service is there, a host that refuses the
    connection was reached all the same; a firewall on the way keeps silent, and a missing route is an error.
  - Says as well which address of this host such a connection comes from. It never changes anything.
options:
  address:
    description: IP address of the other host, or of this one.
    type: str
    required: true
  port:
    description: TCP port.
    type: int
    required: true
  timeout_seconds:
    description: How long to wait for an answer.
    type: float
    default: 5
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: See whether the database's host is reached
  reach:
    address: 10.0.0.21
    port: 5432
  register: __app_reached
"""

RETURN = r"""
answer:
  description: C(open), C(refused), or the system's words for why there was none.
  type: str
  returned: always
source:
  description: The address a connection comes from; empty without a route.
  type: str
  returned: always
"""


def source_towards(address: str, port: int) -> str:
    """Return the address the kernel would send from, by its routes; nothing is sent.

    :raises OSError: if there is no route.
    """
    family, kind, protocol, _name, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return probe.getsockname()[0]


def answer_of(address: str, port: int, timeout_seconds: float) -> str:
    """Return how a port answers a connection: open, refused, or the system's words for why it does not."""
    try:
        socket.create_connection((address, port), timeout_seconds).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)
    return "open"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "timeout_seconds": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    address, port = module.params["address"], module.params["port"]
    try:
        source = source_towards(address, port)
    except OSError as error:
        module.exit_json(changed=False, source="", answer=error.strerror or str(error))
    module.exit_json(
        changed=False, source=source, answer=answer_of(address, port, module.params["timeout_seconds"])
    )


if __name__ == "__main__":
    main()
