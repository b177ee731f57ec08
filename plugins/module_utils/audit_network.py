"""What the host shows to a network: ports, the certificate, what the firewall lets in."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import tempfile
import time

from ansible.module_utils.audit_measurement import Unknown, ask, listed, measurement

DAY = 86400


def measure_listening(allowed: list[dict]) -> list[dict]:
    """Return which ports a network reaches that nobody declared.

    `allowed` each hold a `port`, and `address` where it is for that one alone.
    """
    strange = []
    for protocol, address, port, program in listening():
        if not ipaddress.ip_address(address).is_loopback and not any(
            one["port"] == port and one.get("address") in (None, "", address) for one in allowed
        ):
            strange.append(f"{protocol} {address}:{port} ({program})")
    expected = listed(sorted({f"{one.get('address') or 'any'}:{one['port']}" for one in allowed}))
    cure = "ss -tulnp; what belongs there goes into audit_listening"
    title = "Ports that a network reaches"
    return [
        measurement(
            "network/listening",
            title,
            expected,
            listed(strange, "as declared"),
            passed=not strange,
            cure=cure,
        )
    ]


def listening() -> list[tuple[str, str, int, str]]:
    """Return every listening port: protocol, address, number, and whose it is."""
    found = set()
    for line in ask("ss", "-Htulnp").splitlines():
        words = line.split()
        address, _, port = words[4].rpartition(":")
        address = address.split("%")[0].strip("[]")
        program = line.split('users:(("')[1].split('"')[0] if 'users:(("' in line else "unknown"
        found.add((words[0], "::" if address == "*" else address, int(port), program))
    return sorted(found)


def measure_certificate(path: str, name: str, port: int, days: float) -> list[dict]:
    """Return how long the certificate in a file is good for, and whether it is the one that is served."""
    dates = dict(
        line.split("=", 1)
        for line in ask("openssl", "x509", "-in", path, "-noout", "-enddate", "-serial").splitlines()
    )
    left = (ssl.cert_time_to_seconds(dates["notAfter"]) - time.time()) / DAY
    try:
        served = served_serial(name, port)
    except OSError as error:
        served = f"no answer on port {port}: {error}"
    return [
        measurement(
            "certificate/expiry",
            "The certificate's end",
            f"more than {days:g} days away",
            f"{dates['notAfter']}, {left:.0f} days away",
            passed=left > days,
            cure="ansible-playbook playbooks/site.yml --tags tls,nginx",
        ),
        measurement(
            "certificate/served",
            "The certificate that is served is the one on disk",
            dates["serial"],
            served,
            passed=served == dates["serial"],
            cure="systemctl reload nginx",
        ),
    ]


def served_serial(name: str, port: int) -> str:
    """Return the serial number of the certificate that this host's own port shows for a name."""
    context = ssl.create_default_context()
    # Which one it is, is the question, not whether it is trusted.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        shown = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(shown)
        file.flush()
        return ask("openssl", "x509", "-in", file.name, "-noout", "-serial").strip().removeprefix("serial=")


def measure_firewall() -> list[dict]:
    """Return whether what nobody allowed is kept out."""
    try:
        rules = json.loads(ask("nft", "--json", "list", "ruleset"))["nftables"]
    except Unknown as problem:
        raise Unknown(f"{problem}: no firewall of this host is known") from None
    chains = [one["chain"] for one in rules if one.get("chain", {}).get("hook") == "input"]
    denying = [chain for chain in chains if chain.get("policy") == "drop"]
    said = listed(
        [f"{one['table']} {one['name']} {one.get('policy')}" for one in chains], "no chain for what comes in"
    )
    title, cure = (
        "The firewall keeps out what nobody allowed",
        "ansible-playbook playbooks/site.yml --tags firewall",
    )
    return [
        measurement(
            "network/firewall", title, "a chain that drops by default", said, passed=bool(denying), cure=cure
        )
    ]
