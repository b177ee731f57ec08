"""Put a password into the address of a service, which comes without one."""

from __future__ import annotations

from urllib.parse import SplitResult, quote, urlsplit

from .settings import credential, setting

#: Where apps look for a service, and the credential with the password for it.
PASSWORDS = {"DATABASE_URL": "database_password", "REDIS_URL": "redis_password"}


def place_of(parts: SplitResult, password: str | None) -> str:
    """Return user, password, host and port of an address, as they stand between its slashes.

    :param parts: the address; a password it holds stays.
    :param password: what to put into it; None or empty leaves it as it is.
    """
    if not password or parts.password is not None:
        return parts.netloc
    return f"{parts.username or ''}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"


def address_environment() -> dict[str, str]:
    """Return ``DATABASE_URL`` and ``REDIS_URL`` with their passwords, where there are credentials for them.

    So an app that knows nothing of credentials signs in with what it finds where it has always looked. An
    address without a host is a database's local socket, where the account itself is who signs in.
    """
    found = {}
    for variable, name in PASSWORDS.items():
        url = setting(variable, None)
        parts = urlsplit(url or "")
        if not url or not (parts.netloc or parts.scheme == "unix"):
            continue
        place = place_of(parts, credential(name, None))
        if place != parts.netloc:
            # Not geturl(): it leaves out the slashes before an empty place.
            found[variable] = url.replace(f"://{parts.netloc}", f"://{place}", 1)
    return found
