"""Go on taking what was signed with a secret key that has been replaced.

Whoever changes the secret ``secret_key`` gives the old one the name ``secret_key_fallbacks``, one a line:
sessions signed with either are good, and new ones are signed with the new key alone. Once the longest session
has ended, the old key goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import scrub
from .settings import credential

if TYPE_CHECKING:
    from flask import Flask

NAME = "secret_key_fallbacks"


def former_keys() -> list[str]:
    """Return the keys that sign nothing any more and are still good; none where there is no such secret.

    :raises SettingError: if the secret is there and cannot be read.
    """
    keys = [line for line in (credential(NAME, None) or "").splitlines() if line]
    for key in keys:
        scrub.remember(key)
    return keys


def accept(app: Flask) -> None:
    """Let an app take sessions and forms that a former key signed, unless it has settings of its own.

    Flask reads ``SECRET_KEY_FALLBACKS`` from 3.1 on. Flask-WTF, which does not, hands the key of its own to
    itsdangerous, which takes a list as well, newest last.
    """
    keys = former_keys()
    if keys and not app.config.get("SECRET_KEY_FALLBACKS"):
        app.config["SECRET_KEY_FALLBACKS"] = keys
        if app.secret_key:
            app.config.setdefault("WTF_CSRF_SECRET_KEY", [*keys, app.secret_key])
