"""What the controller's apt needs to reach its mirror, handed on to hosts made there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from target_host.shell import run

_SETTING = re.compile(r'^(?P<key>\S+) "(?P<value>.*)";$')
_PROXY = re.compile(r"^Acquire::https?::Proxy(::.+)?$", re.IGNORECASE)
_CHECKS = ("acquire::check-valid-until", "acquire::check-date")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def controller_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return this machine's apt proxy, and its date checks where they are off."""
    dump = run(["apt-config", "dump"]).stdout if shutil.which("apt-config") else ""
    return settings(dump, environ)


def settings(dump: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings to hand on, from `apt-config dump` and the environment.

    apt's own setting rules over `http_proxy` and `https_proxy`, as in apt. The date checks are off where the
    mirror is a frozen snapshot, whose signatures are old by nature.
    """
    found: dict[str, str] = {}
    for match in filter(None, map(_SETTING.match, dump.splitlines())):
        key, value = match["key"], match["value"]
        off = key.lower() in _CHECKS and value.lower() in ("false", "no", "0", "off")
        if off or (_PROXY.match(key) and value):
            found[key] = value
    for scheme in ("http", "https"):
        value = environ.get(f"{scheme}_proxy")
        if value and f"Acquire::{scheme}::Proxy" not in found:
            found[f"Acquire::{scheme}::Proxy"] = value
    return found


def configuration(found: Mapping[str, str]) -> str:
    """Return an apt.conf with `found`, for inside a container.

    There the loopback is another one: a proxy on the controller's is reached by the name podman gives it.
    """
    lines = ["// Handed on from the controller when this host was made.\n"]
    lines += [f'{key} "{_reachable(value)}";\n' for key, value in found.items()]
    return "".join(lines)


def _reachable(value: str) -> str:
    parts = urlsplit(value)
    if parts.hostname not in _LOOPBACK:
        return value
    credentials, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}host.containers.internal{port}"))
