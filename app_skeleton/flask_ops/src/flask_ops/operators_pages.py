"""Where the operators' pages stand, and which of the app's own routes they hide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from .settings import SettingError, setting

if TYPE_CHECKING:
    from flask import Flask

NAMES = ("livez", "readyz", "startupz", "version", "metrics")
VARIABLE = "FLASK_OPS_PREFIX"
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")

log = structlog.get_logger(__name__)


def prefix() -> str:
    """Return what stands before each page's name, such as ``/-`` for ``/-/livez``; empty by default.

    :raises SettingError: if it is not made of segments that each begin with ``/``.
    """
    text = setting(VARIABLE, "") or ""
    if not _PREFIX.fullmatch(text):
        raise SettingError(f"{VARIABLE}={text!r} is no path. Set it to one such as /- or leave it empty.")
    return text


def paths() -> dict[str, str]:
    """Return each page's path by its name."""
    before = prefix()
    return {name: f"{before}/{name}" for name in NAMES}


def report_clashes(app: Flask) -> None:
    """Log which routes of an app the pages hide, or could: they stand in front, whatever the app does.

    :param app: an app whose routes are complete.
    """
    ours = paths().values()
    hidden = {rule.rule: rule.endpoint for rule in app.url_map.iter_rules() if rule.rule in ours}
    advice = f"set {VARIABLE} (app_ops_prefix in the inventory), such as /-"
    if hidden:
        log.warning("operators' pages hide routes of the app", routes=hidden, advice=advice)
    wide = sorted(set(_wide_rules(app)) - set(hidden))
    if wide:
        log.info("operators' pages answer paths that these routes would also match", routes=wide)


def _wide_rules(app: Flask) -> Iterator[str]:
    from werkzeug.exceptions import HTTPException
    from werkzeug.routing import RequestRedirect

    adapter = app.url_map.bind("localhost")
    for path in paths().values():
        try:
            yield adapter.match(path, method="GET", return_rule=True)[0].rule
        except (HTTPException, RequestRedirect):
            continue
