"""Make requests that leave a line in every log, and read what a playbook wrote of them."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.sites import Site, until

TRACED_SECONDS = 5
"""Longest read of a host's logs; what is promised is 2 s, on a machine that has nothing else to do."""

# Root has a password where Redis serves other hosts.
PAUSE = """
key=/etc/redis-credentials/default
if [ -e $key ]; then export REDISCLI_AUTH="$(cat $key)"; fi
redis-cli -s /run/redis/redis.sock client pause 2000 all
"""


@contextmanager
def every_statement(database: Site) -> Iterator[None]:
    """Have PostgreSQL log every statement for the length of the block, not only slow ones."""
    _set(database, "SET log_min_duration_statement = 0")
    try:
        yield
    finally:
        _set(database, "RESET log_min_duration_statement")


def _set(database: Site, words: str) -> None:
    command = f"psql -c {shlex.quote(f'ALTER SYSTEM {words}')} -c 'SELECT pg_reload_conf()'"
    database.sudo(command, user="postgres")


def processed(site: Site, data: Site) -> str:
    """Send a webhook whose task a worker does; return the request's id once it is done.

    The broker does not answer for a moment then: of what goes well the sample app's web process says nothing.

    :param data: the host of the database and the broker.
    """
    delivery_id = secrets.token_hex(8)
    data.sudo(PAUSE)
    sent = site.sender.send(delivery_id)
    assert sent.status == 202, sent.text[:500]
    asked = f"SELECT status FROM message WHERE delivery_id = '{delivery_id}'"
    command = f"psql -tA -d {site.app} -c {shlex.quote(asked)}"
    assert until(30, lambda: data.sudo(command, user="postgres").strip() == "done")
    return sent.headers["X-Request-ID"]


def report(path: Path) -> dict[str, Any]:
    """Return what a playbook wrote to `logs_report`."""
    return json.loads(path.read_text())


def first_places(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Return where in a timeline each source has its first line, having seen that times never go back."""
    times = [line["at"] for line in lines]
    assert times == sorted(times)
    sources = [line["source"] for line in lines]
    return {source: sources.index(source) for source in dict.fromkeys(sources)}
