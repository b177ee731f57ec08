"""Slow down those who guess passwords, and not those who know theirs.

Failures are counted by where they come from, and by account: many addresses may guess at one account. A
count by account alone would let anybody keep somebody out, so a place from which the account was signed in to
before is counted for itself, whatever strangers do elsewhere
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies; addresses stand for
cookies here, as programs keep none).

A try is counted before the password is looked at, and taken back if it was right: of a hundred sent at once,
no more are looked at than of a hundred sent one after another.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from typing import Any

from flask import Flask, current_app, request
from limits import parse
from werkzeug.exceptions import TooManyRequests

from .. import store
from . import users
from .models import User

#: For so long after signing in, a place is one of its owner's.
KNOWN_SECONDS = 30 * 24 * 3600.0
#: Whoever has an IPv6 address has, as a rule, all of its network: 2^64 addresses.
IPV6_PREFIX = 64


def init_app(app: Flask) -> None:
    """Make what counts while the store is away: better than no limit, and better than letting nobody in."""
    app.extensions["sign_in_fallback"] = store.MemoryStore()


def authenticate(email: str, password: str) -> User | None:
    """Return the user with that address and password, None if there is none.

    :raises TooManyRequests: if there were too many failures, for this account or from this place.
    """
    limit = parse(current_app.config["SIGN_IN_LIMIT"])
    seconds = float(limit.get_expiry())
    place, account = _place(), _digest(email.strip().lower())
    known = f"known:{account}:{place}"
    tries = [f"tries:place:{place}", f"tries:account:{account}"]
    if _or_here(lambda kept: kept.has_any(known)):
        tries[1] += f":{place}"
    for key in tries:
        number, left = _count(key, seconds)
        if number > limit.amount:
            raise TooManyRequests(
                "Too many failed tries to sign in: wait a little.", retry_after=int(left) + 1
            )
    user = users.authenticate(email, password)
    if user:
        for key in tries:
            _count(key, seconds, -1)
        _or_here(lambda kept: kept.keep(known, KNOWN_SECONDS))
    return user


def _place() -> str:
    try:
        address = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:  # a unix socket's other end has none
        return "unknown"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))


def _digest(email: str) -> str:
    # Not for secrecy: a key is as long as any other, whatever was typed.
    return hashlib.blake2b(email.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _count(key: str, seconds: float, by: int = 1) -> tuple[int, float]:
    return _or_here(lambda kept: kept.count(key, seconds, by))


def _or_here(act: Callable[[store.Store], Any]) -> Any:
    """Do something with the store, or, while it is away, with what this process remembers."""
    try:
        return act(store.current())
    except store.StoreUnavailable:
        return act(current_app.extensions["sign_in_fallback"])
