"""Hand secrets to an app that looks for them where it always has: in its environment, or in a file.

Both are set inside the process, before the app is imported. What a process was started with stays readable in
``/proc/<pid>/environ`` and in ``systemctl show``; what it sets itself is not there. Programs the app starts
inherit it all the same.
"""

from __future__ import annotations

import os
import re

from .addresses import address_environment
from .broker import celery_url
from .settings import Reader, SettingError, credential, credential_path, json_value, setting

VALUES = "FLASK_OPS_SECRET_ENVIRONMENT"
FILES = "FLASK_OPS_SECRET_FILES"
#: Where Celery looks before it looks into any configuration ("Configuration and defaults" in its user guide).
BROKER = "CELERY_BROKER_URL"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def secret_environment() -> dict[str, str]:
    """Return the variables that hold secrets, or the path of one's file, with their values.

    :raises Mistakes: if a map is not understood, or a secret is missing; every one of them is named.
    """
    read = Reader()
    values = read(json_value, VALUES, {})
    files = read(json_value, FILES, {})
    for variable in [*values, *files]:
        read.require(
            bool(_VARIABLE.fullmatch(variable)), f"{VALUES} or {FILES}: {variable!r} cannot be a variable."
        )
    for variable in values.keys() & files.keys():
        read.require(False, f"{variable} stands in both {VALUES} and {FILES}. Keep one.")
    found = {variable: read(credential, name) for variable, name in values.items()}
    found |= {variable: read(_file_of, name) for variable, name in files.items()}
    read.finish()
    return found


def _file_of(name: str) -> str:
    credential(name)  # that it is there and readable is said now, by its name
    path = credential_path(name)
    if path is None:
        raise SettingError(f"Credential {name!r} has no file: $CREDENTIALS_DIRECTORY is not set.")
    return str(path)


def broker_environment() -> dict[str, str]:
    """Return the variable that tells Celery its broker: ``BROKER_URL``, with its password.

    So an app that has no setting for it, or one of its own, uses the broker that was provisioned for it.
    """
    url = setting("BROKER_URL", None)
    if url is None or os.environ.get(BROKER):
        return {}
    return {BROKER: celery_url(url)}


def export_secrets() -> None:
    """Put the secrets where the app, and Celery, look for them.

    :raises Mistakes: as :func:`secret_environment`.
    """
    os.environ.update(secret_environment())
    os.environ.update(address_environment())
    os.environ.update(broker_environment())
