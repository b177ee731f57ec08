"""Let browsers keep static files for ever: an address changes with the content.

A release has a copy of each file under a name with its content's hash, and ``RELEASE_STATIC_DIR`` says where.
nginx serves that folder; where there is none in front, behind another server or in a container, the app does.
Without a release an address carries the hash as ``?v=<hash>``, and Flask serves its own folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from flask import Flask
from flask_ops.settings import release, setting
from whitenoise import WhiteNoise

MANIFEST = "manifest.json"
#: As nginx says it, in seconds: for a plain name, and for one that can only ever mean one content.
MAX_AGE, IMMUTABLE_MAX_AGE = 3600, 31_536_000

log = structlog.get_logger(__name__)


def init_app(app: Flask) -> None:
    """Make every ``url_for("static", ...)`` change with the content, and give templates the release.

    Call it before ``flask_ops.init_app``, whose layer then stands around this one: a static answer has a
    request id and ``X-Release``, is under the deadline, and counts in the metrics as a request without a
    route (``url_rule="None"``); health pages never come this far. It writes no log line, as no request does:
    that is nginx's. ProxyFix is inside, and not asked: nothing here depends on who the client is.

    :param app: the app.
    """
    hash_in = _released(app) or _served_by_flask(app)

    @app.url_defaults
    def add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and "filename" in values:
            hash_in(values)

    @app.context_processor
    def add_release() -> dict[str, str]:
        return {"release": release()}


class _Static(WhiteNoise):
    """The files of a release, all looked up when it is made."""

    FOREVER = IMMUTABLE_MAX_AGE

    def __init__(self, app: Callable[..., Any], folder: Path, prefix: str, names: dict[str, str]) -> None:
        """Find the files.

        :raises FileNotFoundError: if one that the manifest names is not there.
        """
        self._immutable = {f"{prefix}/{hashed}" for hashed in names.values()}
        # What nginx would not say to other origins, this does not say either.
        super().__init__(app, str(folder), prefix, max_age=MAX_AGE, allow_all_origins=False)
        missing = self._immutable - self.files.keys()
        if missing:
            raise FileNotFoundError(f"{min(missing)} is named by {folder / MANIFEST}, and is not there")

    def immutable_file_test(self, path: str, url: str) -> bool:
        """Return whether what an address means can never change."""
        return url in self._immutable


def _released(app: Flask) -> Callable[[dict[str, Any]], None] | None:
    """Serve a release's files in front of the app; return what changes an address, None without a release."""
    folder = setting("RELEASE_STATIC_DIR", None)
    if folder is None or app.static_url_path is None:
        return None
    try:
        names = _manifest(Path(folder))
        app.wsgi_app = _Static(app.wsgi_app, Path(folder), app.static_url_path, names)  # type: ignore[method-assign]
    except (OSError, ValueError) as error:
        # Pages are worth more than long caching: Flask has the same files.
        log.warning("static files have no hashed names", static_dir=folder, error=str(error))
        return None
    # A file the build gave no other name keeps its own.
    return lambda values: values.update(filename=names.get(values["filename"], values["filename"]))


def _manifest(folder: Path) -> dict[str, str]:
    """Return the hashed name of each file that has one.

    :raises OSError: if there is no manifest, or it cannot be read.
    :raises ValueError: if it is something else: other tools write files of that name.
    """
    names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{folder / MANIFEST} does not map names to names")
    return names


def _served_by_flask(app: Flask) -> Callable[[dict[str, Any]], None]:
    """Return what changes an address that Flask's own route answers."""
    folder = Path(app.static_folder or "")
    if app.debug:
        # While developing, files change under a running app.
        return lambda values: _set_version(values, _digest(folder / values["filename"]))
    found = folder.rglob("*") if app.static_folder else ()
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in found}
    return lambda values: _set_version(values, digests.get(values["filename"]))


def _set_version(values: dict[str, Any], digest: str | None) -> None:
    values.setdefault("v", digest)


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None
