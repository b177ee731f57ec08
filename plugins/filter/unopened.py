"""Tell what a firewall is about to close."""

from __future__ import annotations

import ipaddress
import re

# What ss prints of a socket: protocol, state, two queues, its own address, the peer's, whose it is.
SOCKET = re.compile(r"(?P<protocol>tcp|udp) +\S+ +\d+ +\d+ +(?P<address>\S+):(?P<port>\d+) +\S+(?P<whose>.*)")
PROGRAM = re.compile(r'\(\("([^"]+)"')
# DHCP's clients, over IPv4 and IPv6: the frame of the rules lets their servers answer.
ALWAYS_OPEN = {("udp", 68), ("udp", 546)}


class FilterModule:
    """Hand the filter to Ansible."""

    def filters(self) -> dict:
        """Return it by name."""
        return {"unopened": unopened}


def unopened(listening: list[str], openings: list[dict]) -> list[str]:
    """Return what listens to other hosts and is opened to none, as `tcp 9100 (exporter)`.

    :param listening: lines of `ss --no-header --listening --numeric --tcp --udp --processes`.
    :param openings: what the firewall opens: `ports`, and `protocol` where it is not tcp.
    """
    opened = {(opening.get("protocol", "tcp"), port) for opening in openings for port in opening["ports"]}
    found = set()
    for line in listening:
        socket = SOCKET.match(line)
        if socket is None or _is_own(socket["address"]):
            continue
        protocol, port = socket["protocol"], int(socket["port"])
        if (protocol, port) not in opened | ALWAYS_OPEN:
            program = PROGRAM.search(socket["whose"])
            found.add((protocol, port, program[1] if program else "unknown"))
    return [f"{protocol} {port} ({program})" for protocol, port, program in sorted(found)]


def _is_own(address: str) -> bool:
    """Tell whether only this host can reach an address, which may name an interface: `127.0.0.53%lo`."""
    bare = address.partition("%")[0].strip("[]")
    return bare != "*" and ipaddress.ip_address(bare).is_loopback
