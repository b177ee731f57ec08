"""Readiness checks by name, for apps that make none themselves: what ``FLASK_OPS_CHECKS`` declares.

``[{"check": "postgresql"}, {"check": "http", "name": "billing", "url": "http://127.0.0.1:9000/healthz"}]``
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from . import checks
from .health import Check
from .settings import Reader, SettingError, json_value, setting

if TYPE_CHECKING:
    from flask import Flask

VARIABLE = "FLASK_OPS_CHECKS"
_COMMON = ("check", "name", "timeout_seconds")
#: Each check's own keys.
_KEYS = {
    "postgresql": ("url",),
    "redis": ("url",),
    "http": ("url",),
    "disk": ("path", "minimum_free_percent"),
    "sqlalchemy": (),
}
_PACKAGES = {"postgresql": ("psycopg", "psycopg[binary]"), "redis": ("redis", "redis")}


def read() -> list[dict[str, Any]]:
    """Return what is declared, each with its keys known and their types right.

    :raises Mistakes: if anything is not understood; every mistake is named.
    """
    reader = Reader()
    declared = reader(json_value, VARIABLE, [])
    for number, item in enumerate(declared, 1):
        for mistake in _mistakes(item):
            reader.require(False, f"{VARIABLE}, check {number}: {mistake}")
    reader.finish()
    return declared


def _mistakes(item: object) -> list[str]:
    kind = item.get("check") if isinstance(item, dict) else None
    if not isinstance(item, dict) or kind not in _KEYS:
        return [f"{kind!r} is not known{_near(str(kind), _KEYS)}. Set `check` to one of {', '.join(_KEYS)}."]
    known = (*_COMMON, *_KEYS[kind])
    found = [f"{kind} takes no {key!r}{_near(key, known)}." for key in item if key not in known]
    for key in ("timeout_seconds", "minimum_free_percent"):
        if not isinstance(item.get(key, 1), int | float) or isinstance(item.get(key), bool):
            found.append(f"{key} is {item[key]!r}, which is no number.")
    found += [
        f"{key} is no text." for key in ("name", "url", "path") if not isinstance(item.get(key, ""), str)
    ]
    if kind == "http" and not str(item.get("url", "")).startswith(("http://", "https://")):
        found.append("http needs `url`, beginning with http:// or https://.")
    return found or _refused_by_check(item)


def _refused_by_check(item: dict[str, Any]) -> list[str]:
    try:
        Check(item.get("name", item["check"]), lambda: None, item.get("timeout_seconds", 1.0))
    except ValueError as error:
        return [str(error)]
    return []


def _near(word: str, known: Any) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def from_environment(app: Flask | None) -> list[Check]:
    """Make the declared checks.

    :param app: the Flask app they are for, if there is one.
    :raises Mistakes: if one is not understood, or what it needs is not there; every mistake is named.
    """
    reader = Reader()
    made = [reader(_make, item, app) for item in read()]
    reader.finish()
    return made


def _make(item: dict[str, Any], app: Flask | None) -> Check:
    kind = item["check"]
    options = {key: value for key, value in item.items() if key != "check"}
    if kind in _PACKAGES and importlib.util.find_spec(_PACKAGES[kind][0]) is None:
        raise SettingError(
            f"{VARIABLE}: {kind} needs the package {_PACKAGES[kind][1]}, which this release lacks. "
            "Add it to app_extra_packages, or to the app's own requirements."
        )
    if kind == "sqlalchemy":
        return checks.sqlalchemy(_extension(app), **options)
    if kind in ("postgresql", "redis"):
        options.setdefault("url", _url(kind))
    make: Callable[..., Check] = getattr(checks, kind)
    return make(**options)


def _url(kind: str) -> str:
    variable = {"postgresql": "DATABASE_URL", "redis": "REDIS_URL"}[kind]
    url = setting(variable, None)
    if url is None:
        raise SettingError(f"{VARIABLE}: {kind} has no `url`, and {variable} is not set. Give one of them.")
    return url


def _extension(app: Flask | None) -> Any:
    found = app.extensions.get("sqlalchemy") if app is not None else None
    if found is None:
        raise SettingError(
            f"{VARIABLE}: sqlalchemy asks the app's Flask-SQLAlchemy, which this app has not. "
            "Declare postgresql, with a url, instead."
        )
    return found
