"""What a person needs to know once the local hosts are up."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from target_host.inventory import Inventory
from target_host.shell import PROJECT_DIR, relative

TIMEOUT_SECONDS = 5


def fetch(url: str, ca_path: Path) -> tuple[int, bytes]:
    """Return status and body of a GET of an https `url`, trusting `ca_path` alone.

    Names below .localhost are the loopback (RFC 6761), which not every resolver knows.

    Raises OSError when there is no answer, or one that the CA does not vouch for.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    context = ssl.create_default_context(cafile=str(ca_path))
    request = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    with (
        socket.create_connection((address, parts.port or 443), timeout=TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
        secure.makefile("rwb") as stream,
    ):
        stream.write(request.encode())
        stream.flush()
        status = int(stream.readline().split()[1])
        while stream.readline().strip():
            pass
        return status, stream.read()


def health(url: str, ca_path: Path, prefix: str = "") -> str:
    """Return one line on what `/readyz` below `url` says; `prefix` is the app's `app_ops_prefix`."""
    if not ca_path.exists():
        return f"not known: no {relative(ca_path)} yet"
    try:
        status, body = fetch(f"{url.rstrip('/')}{prefix}/readyz", ca_path)
    except (OSError, ValueError, IndexError) as error:
        return f"no answer: {error}"
    answer: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        parsed = json.loads(body)
        answer = parsed if isinstance(parsed, dict) else {}
    release = f", release {answer['release']}" if answer.get("release") else ""
    return f"{answer.get('status', 'no status')} (HTTP {status}){release}"


def text(inventory: Inventory) -> str:
    """Return the summary of an inventory whose hosts are up."""
    which = (
        ""
        if inventory.path.resolve() == PROJECT_DIR / "inventory/local"
        else f" INVENTORY={relative(inventory.path)}"
    )
    ca_path = inventory.state_dir / "ca/ca.crt"
    rows: list[tuple[str, str]] = []
    for host in inventory.hosts:
        ports = ", ".join(host.ports) or "none"
        rows.append((host.name, f"Debian {host.debian}, ssh on port {host.ssh_port}, published {ports}"))
    for url, prefix in {host.url: host.ops_prefix for host in inventory.hosts if host.url}.items():
        rows += [
            ("open", url),
            ("health", health(url, ca_path, prefix)),
            ("by hand", f"curl --cacert {relative(ca_path)} {url}"),
        ]
    if (inventory.state_dir / "secrets/admin_password").exists():
        place = relative(inventory.state_dir / "secrets/admin_password")
        rows.append(("sign in", f"admin@localhost, with the password in {place}"))
    rows += [
        ("logs", f"make logs{which}"),
        ("log in", f"make ssh{which} HOST={inventory.hosts[0].name}"),
        ("deploy a change", f"edit app_skeleton/, then: make deploy{which}"),
        ("remove it all", f"make down{which}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["", *(f"  {name:{width}}  {value}" for name, value in rows), ""])
