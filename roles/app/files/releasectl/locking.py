"""A lock that outlasts one command: a deploy over several hosts holds it, or a person who wants quiet.

It lies in a file, `deploy.lock`. A deploy's has a lease, which each of its commands renews, and which runs
out by itself when the deploy is gone, whatever became of the controller. A person's has none: it stays until
`unlock`. Commands of the holder name it by its token, in RELEASECTL_LOCK.

Not `lock.py`, which keeps two commands from running at the same moment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time

from releasectl import clock
from releasectl.errors import Locked, Refused
from releasectl.host import Host
from releasectl.layout import replace
from releasectl.output import Result

TOKEN_VARIABLE = "RELEASECTL_LOCK"  # noqa: S105 - a name to tell holders apart, no secret


@dataclasses.dataclass(frozen=True)
class Lock:
    """Who holds it.

    :param token: tells one holder from another.
    :param since: when it was taken, ISO 8601.
    :param seen: when its holder was last heard of, in seconds since the epoch.
    :param lease_seconds: how long after that it is let go of; nothing: never.
    :param controller: the process that holds it, in words that machine can check; empty for a person.
    """

    token: str
    by: str
    reason: str
    since: str
    seen: float
    lease_seconds: float | None = None
    controller: str = ""

    @property
    def left_seconds(self) -> float:
        """How long until it runs out by itself."""
        if self.lease_seconds is None:
            return float("inf")
        return self.seen + self.lease_seconds - time.time()

    def __str__(self) -> str:
        """Name the holder in words."""
        words = f"{self.by} since {self.since}" + (f" ({self.reason})" if self.reason else "")
        if self.lease_seconds is None:
            return f"{words}, until somebody unlocks it"
        heard = max(0.0, time.time() - self.seen)
        return f"{words}, heard of {heard:.0f} s ago, let go of in {self.left_seconds:.0f} s"

    def data(self) -> dict:
        """Return it for a program."""
        return dataclasses.asdict(self)


def held(host: Host) -> Lock | None:
    """Return the lock that is in force, or nothing."""
    try:
        lock = Lock(**json.loads(host.layout.deploy_lock.read_text()))
        return lock if lock.left_seconds > 0 else None
    except (OSError, ValueError, TypeError):
        # Half a file cannot be: it is written by rename. One that nobody can read is nobody's.
        return None


def require(host: Host) -> None:
    """See that nobody else holds the lock; the holder's own commands renew its lease.

    :raises Locked: naming the holder.
    """
    lock = held(host)
    if lock is not None and not _renewed(host, lock):
        raise _refusal(host, lock)


def renew(host: Host) -> None:
    """Begin the lease anew, if this command's own lock is in force."""
    lock = held(host)
    if lock is not None:
        _renewed(host, lock)


def _renewed(host: Host, lock: Lock) -> bool:
    """Begin a lock's lease anew if it is this command's own; return whether it is."""
    if lock.token != own_token():
        return False
    _write(host, dataclasses.replace(lock, seen=time.time()))
    return True


def take(host: Host, reason: str, lease_seconds: float | None, controller: str, over: str | None) -> Result:
    """Take the lock, or keep it if it is one's own already.

    :param reason: why, for those who are refused.
    :param lease_seconds: how long it holds without a sign of its holder; nothing: until `unlock`.
    :param controller: the process that holds it, for a machine that can tell whether it is still there.
    :param over: the token of a holder that is known to be gone.
    :raises Locked: naming the holder, when somebody else has it.
    """
    token, lock = own_token() or os.urandom(8).hex(), held(host)
    if lock is not None and lock.token not in (token, over):
        raise _refusal(host, lock)
    mine = lock if lock is not None and lock.token == token else None
    since = mine.since if mine else clock.now()
    taken = Lock(token, host.by, reason, since, time.time(), lease_seconds, controller)
    _write(host, taken)
    data = {"lock": taken.data(), "over": lock.data() if lock is not None and mine is None else None}
    # A deploy gives back what it takes: only a person's lock is a change to the host.
    return Result("locked", mine is None and lease_seconds is None, f"locked by {taken}", data)


def let_go(host: Host, *, own: bool) -> Result:
    """Take the lock away.

    :param own: only if it is this command's own; otherwise whoever's it is.
    """
    lock = held(host)
    if lock is None or (own and lock.token != own_token()):
        return Result("not locked", False, "nobody holds the lock", {"lock": lock.data() if lock else None})
    host.layout.deploy_lock.unlink(missing_ok=True)
    return Result("unlocked", not own, f"unlocked; it was held by {lock}", {"lock": lock.data()})


def own_token() -> str:
    """Return the token this command was given; empty where nobody gave it one."""
    return os.environ.get(TOKEN_VARIABLE, "")


def _refusal(host: Host, lock: Lock) -> Locked:
    return Locked(
        f"the lock is held by {lock}",
        next_command=f"{host.command('unlock')}, if that deploy is gone",
        evidence={"lock": lock.data()},
    )


def _write(host: Host, lock: Lock) -> None:
    try:
        replace(host.layout.deploy_lock, json.dumps(lock.data()).encode() + b"\n", 0o644)
    except OSError as error:
        raise Refused(f"{host.layout.deploy_lock} cannot be written: {error}") from error
