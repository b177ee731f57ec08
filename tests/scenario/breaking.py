"""Break one thing of a host that runs, and mend it: each a block in which it is broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from changes import FACTORY, IMPORT
from load import Load
from observing import status_of
from testbed.sites import Site

CopiedApp = Callable[[str, str, str], Path]
Fault = Callable[[Site, CopiedApp], AbstractContextManager[None]]

REDIS = "redis-cli -s /run/redis/redis.sock"
FILLED_DIR = "/mnt/filled-by-tests"


@contextmanager
def undone(site: Site, command: str, undo: str) -> Iterator[None]:
    """Run one command on the host, and another at the end of the block."""
    try:
        site.sudo(command, timeout_seconds=150)
        yield
    finally:
        site.sudo(undo, timeout_seconds=150)


def stopped(unit: str) -> Fault:
    """Return a fault: somebody stopped a unit, `{app}` and `{release}` in its name."""

    def fault(site: Site, _copied_app: CopiedApp) -> AbstractContextManager[None]:
        name = unit.format(app=site.app, release=status_of(site)["active"])
        return undone(site, f"systemctl stop {name}", f"systemctl start {name}")

    return fault


@contextmanager
def table_gone(site: Site, _copied_app: CopiedApp) -> Iterator[None]:
    """Rename a table: each webhook is answered 500, and the app is as ready as ever."""
    rename = (
        _sql(site, "ALTER TABLE message RENAME TO gone"),
        _sql(site, "ALTER TABLE gone RENAME TO message"),
    )
    with undone(site, *rename):
        for turn in range(40):
            site.sender.send(f"no-table-{time.time()}-{turn}")
        yield


@contextmanager
def table_locked(site: Site, _copied_app: CopiedApp) -> Iterator[None]:
    """Lock a table again and again, for most of each second, while visitors come."""
    lock = _sql(site, "BEGIN; LOCK TABLE message; SELECT pg_sleep(0.9); COMMIT")
    command = f"for turn in $(seq 40); do {lock} > /dev/null; done"
    locking = threading.Thread(target=site.sudo, args=(command,), kwargs={"timeout_seconds": 90})
    with Load(site, rate=6, limit_seconds=90):
        locking.start()
        yield
        locking.join(90)


@contextmanager
def certificate_short(site: Site, _copied_app: CopiedApp) -> Iterator[None]:
    """Put a certificate that ends tomorrow where nginx reads it when it is reloaded the next time."""
    path = json.loads(site.sudo(f"cat /etc/tlsctl/{site.app}.json"))["folder"] + "/fullchain.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=short"
    kept = site.sudo(f"cat {path}")
    try:
        site.sudo(f"{make} -keyout /dev/null -out {path} && tlsctl observe")
        yield
    finally:
        site.sudo(f"cat > {path} && tlsctl observe", stdin=kept.encode())


@contextmanager
def deploy_failed(site: Site, copied_app: CopiedApp) -> Iterator[None]:
    """Deploy what cannot start; at the end, what serves already, as after a change was taken back."""
    broken = copied_app(FACTORY, IMPORT, f"{IMPORT}import planted_and_missing\n")
    play = site.play("deploy", extra={"app_source": str(broken)}, label="deploy of what cannot start")
    assert play.returncode != 0, play.tail()
    yield
    site.play("deploy", label="deploy of what can").ok()


def disk_full(site: Site, _copied_app: CopiedApp) -> AbstractContextManager[None]:
    """Fill a disk to the last byte."""
    # systemd as a container's first process shares no mount with sandboxes that are there already.
    look_again = "systemctl restart prometheus-node-exporter.service"
    fill = (
        f"mkdir -p {FILLED_DIR} && mount -t tmpfs -o size=20m filled {FILLED_DIR}"
        f" && ! head -c 21M /dev/zero > {FILLED_DIR}/all && {look_again}"
    )
    return undone(site, fill, f"umount {FILLED_DIR} && rmdir {FILLED_DIR} && {look_again}")


def unit_failed(site: Site, _copied_app: CopiedApp) -> AbstractContextManager[None]:
    """Have a unit fail."""
    unit = "broken-by-tests.service"
    return undone(site, f"systemd-run --quiet --unit={unit} false", f"systemctl reset-failed {unit}")


def journal_flooded(site: Site, _copied_app: CopiedApp) -> AbstractContextManager[None]:
    """Have a unit write more than journald takes of it, and then a line with which it says so."""
    unit = f"{site.app}-flood-by-tests.service"
    limits = "--property=LogRateLimitIntervalSec=2s --property=LogRateLimitBurst=5"
    words = "sh -c 'seq 5000; sleep 4; echo after; sleep 1'"
    flood = f"systemd-run --quiet --wait --unit={unit} {limits} {words}"
    return undone(site, f"{flood} && log-counts", "true")


def redis_full(site: Site, _copied_app: CopiedApp) -> AbstractContextManager[None]:
    """Leave Redis hardly more memory than it uses."""
    before = site.sudo(f"{REDIS} config get maxmemory").split()[-1]
    told = site.sudo(f"{REDIS} info memory").splitlines()
    used = int(next(line for line in told if line.startswith("used_memory:")).split(":")[1])
    limit = f"{REDIS} config set maxmemory"
    return undone(site, f"{limit} {used * 104 // 100}", f"{limit} {before}")


def _sql(site: Site, statement: str) -> str:
    return f"runuser -u postgres -- psql -qd {site.app} -c '{statement}'"
