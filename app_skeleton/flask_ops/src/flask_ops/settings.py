"""Read settings from the environment and secrets from systemd credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import scrub

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
    return _number(int, "whole number", name, default, minimum, maximum)


def number(name: str, default: float, *, minimum: float = 0, maximum: float | None = None) -> float:
    """Return a setting that is a number.

    :param name: the environment variable.
    :param default: what to return when it is unset.
    :param minimum: the least value allowed.
    :param maximum: the greatest value allowed; no limit if None.
    :raises SettingError: if it is not a number in that range.
    """
    return _number(float, "number", name, default, minimum, maximum)


def _number(kind: type, words: str, name: str, default: float, minimum: float, maximum: float | None) -> Any:
    text = setting(name, None)
    if text is None:
        return default
    wanted = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    try:
        value = kind(text)
    except ValueError:
        raise SettingError(f"{name}={text!r} is not a {words}. Set it to one {wanted}.") from None
    # Not a number is in no range: neither of two comparisons may be turned round.
    if not (value >= minimum and (maximum is None or value <= maximum)):
        raise SettingError(f"{name}={value} is out of range. Set it to a {words} {wanted}.")
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


def choice(name: str, default: str, allowed: Iterable[str]) -> str:
    """Return a setting that is one of some words, in lower case.

    :raises SettingError: if it is none of them.
    """
    text = (setting(name, None) or default).lower()
    words = tuple(allowed)
    if text not in words:
        raise SettingError(f"{name}={text!r} is not known. Set it to one of {', '.join(words)}.")
    return text


def json_value(name: str, default: Any) -> Any:
    """Return a setting that is JSON, of the same type as its default.

    :param name: the environment variable.
    :param default: what to return when it is unset: a list or a dict.
    :raises SettingError: if it is no JSON, or JSON of another type.
    """
    text = setting(name, None)
    if text is None:
        return default
    wanted = "a list" if isinstance(default, list) else "an object"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingError(f"{name} is not JSON: {error}. Set it to {wanted}.") from None
    if not isinstance(value, type(default)):
        raise SettingError(f"{name} is JSON, but not {wanted}.")
    return value


class Mistakes(SettingError):
    """Several settings are wrong; the words name each of them."""

    def __init__(self, mistakes: list[str]) -> None:
        """Join the mistakes, one a line when there are several."""
        self.mistakes = tuple(mistakes)
        many = f"{len(mistakes)} settings are wrong:\n- " + "\n- ".join(mistakes)
        super().__init__(mistakes[0] if len(mistakes) == 1 else many)


class Reader:
    """Read many settings and say everything that is wrong with them at once.

    .. code-block:: python

        read = Reader()
        size = read(integer, "POOL_SIZE", 5, minimum=1)
        key = read(credential, "secret_key")
        read.finish()
    """

    def __init__(self) -> None:
        """Start without a mistake."""
        self._mistakes: list[str] = []

    def __call__(self, get: Callable[..., Any], name: str, *default: Any, **limits: Any) -> Any:
        """Return a setting, or what it would be by default if it is wrong.

        :param get: one of this module's functions, or any that raises :class:`SettingError`.
        :param name: the setting's name.
        :param default: for ``get``.
        :param limits: for ``get``.
        """
        try:
            return get(name, *default, **limits)
        except SettingError as error:
            self._note(error)
            return default[0] if default else None

    def check(self, look: Callable[[], object]) -> None:
        """Note what a function that reads settings of its own finds wrong.

        :param look: raises :class:`SettingError` for a mistake, or :class:`Mistakes` for several.
        """
        try:
            look()
        except SettingError as error:
            self._note(error)

    def _note(self, error: SettingError) -> None:
        self._mistakes += error.mistakes if isinstance(error, Mistakes) else [str(error)]

    def require(self, holds: bool, words: str) -> None:
        """Note a mistake unless something holds, such as an order between two settings.

        :param holds: what must be true.
        :param words: what is wrong and what to set.
        """
        if not holds:
            self._mistakes.append(words)

    def finish(self) -> None:
        """Raise what was noted.

        :raises Mistakes: if anything was wrong.
        """
        if self._mistakes:
            raise Mistakes(self._mistakes)


def credential(name: str, default: str | object | None = _REQUIRED) -> str | None:
    """Return a secret that systemd handed to this unit.

    Units load the folder of secrets as the credential ``app``, so ``secret_key`` is the file
    ``$CREDENTIALS_DIRECTORY/app_secret_key`` (systemd.exec(5), LoadCredential). Environment variables are
    never looked at: they are inherited by child processes and shown by ``systemctl show``.

    :param name: the name of the secret.
    :param default: what to return when there is no such secret.
    :raises SettingError: if there is none and no default, or if it cannot be read.
    """
    path = credential_path(name)
    secret = _read_secret(path, name) if path else None
    if secret is not None:
        # Whatever quotes it from now on, an exception's words for one, is logged without it.
        scrub.remember(secret)
        return secret
    if default is _REQUIRED:
        place = (
            f"no file app_{name} in $CREDENTIALS_DIRECTORY" if path else "$CREDENTIALS_DIRECTORY is not set"
        )
        raise SettingError(
            f"Credential {name!r} is missing: {place}. "
            f"Give {name!r} in app_secrets and run playbooks/site.yml."
        )
    return default


def _read_secret(path: Path, name: str) -> str | None:
    try:
        # Editors end files with a newline; a secret that truly ends in one is not supported.
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"Credential {name!r} cannot be read: {type(error).__name__}.") from error


def credential_path(name: str) -> Path | None:
    """Return where systemd puts a secret, whether it is there or not; None outside a unit with secrets.

    :param name: the name of the secret.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / f"app_{name}" if folder else None


def service() -> str:
    """Return what this process group is called in logs, metrics and Sentry."""
    return os.environ.get("FLASK_OPS_SERVICE") or "app"


def release() -> str:
    """Return the id of the release that runs, ``dev`` outside a release."""
    return os.environ.get("RELEASE_ID") or "dev"
