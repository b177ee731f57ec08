"""Read settings from the environment and secrets from systemd credentials."""

from __future__ import annotations

import os
from pathlib import Path

_REQUIRED = object()
_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class SettingError(Exception):
    """A setting or a credential is missing or not understood.

    Not a ``RuntimeError`` and not a ``ValueError``: gunicorn prints the first without its cause, and an app
    may catch the second around code that parses a client's input.
    """


def setting(name: str, default: str | object | None = _REQUIRED) -> str | None:
    """Return a setting that is not secret.

    :param name: the environment variable; empty counts as unset, because an environment file cannot unset
        one.
    :param default: what to return when it is unset.
    :raises SettingError: if it is unset and there is no default.
    """
    value = os.environ.get(name, "")
    if value:
        return value
    if default is _REQUIRED:
        raise SettingError(
            f"{name} is not set. Set it in the app's environment file (KEY=value) and restart."
        )
    return default


def integer(name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return a setting that is a whole number.

    :param name: the environment variable.
    :param default: what to return when it is unset.
    :param minimum: the least value allowed.
    :param maximum: the greatest value allowed; no limit if None.
    :raises SettingError: if it is not a whole number in that range.
    """
    text = setting(name, None)
    if text is None:
        return default
    wanted = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    try:
        value = int(text)
    except ValueError:
        raise SettingError(f"{name}={text!r} is not a whole number. Set it to one {wanted}.") from None
    if value < minimum or (maximum is not None and value > maximum):
        raise SettingError(f"{name}={value} is out of range. Set it to a whole number {wanted}.")
    return value


def boolean(name: str, default: bool) -> bool:
    """Return a setting that is a switch: 1, true, yes, on or 0, false, no, off.

    :raises SettingError: if it is anything else.
    """
    text = setting(name, None)
    if text is None:
        return default
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise SettingError(f"{name}={text!r} is not a switch. Set it to 1 or 0.") from None


def credential(name: str, default: str | object | None = _REQUIRED) -> str | None:
    """Return a secret that systemd handed to this unit.

    Units load the folder of secrets as the credential ``app``, so ``secret_key`` is the file
    ``$CREDENTIALS_DIRECTORY/app_secret_key`` (systemd.exec(5), LoadCredential). Environment variables are
    never looked at: they are inherited by child processes and shown by ``systemctl show``.

    :param name: the name of the secret.
    :param default: what to return when there is no such secret.
    :raises SettingError: if there is none and no default, or if it cannot be read.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder:
        try:
            # Editors end files with a newline; a secret that truly ends in one is not supported.
            return (Path(folder) / f"app_{name}").read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"Credential {name!r} cannot be read: {type(error).__name__}.") from error
    if default is _REQUIRED:
        place = (
            f"no file app_{name} in $CREDENTIALS_DIRECTORY" if folder else "$CREDENTIALS_DIRECTORY is not set"
        )
        raise SettingError(
            f"Credential {name!r} is missing: {place}. "
            f"Put it in the app's credentials folder as a file named {name!r} and restart the unit."
        )
    return default


def release() -> str:
    """Return the id of the release that runs, ``dev`` outside a release."""
    return os.environ.get("RELEASE_ID") or "dev"
