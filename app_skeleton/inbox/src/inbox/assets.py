"""Let browsers keep static files for ever: an address changes with the content."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask
from flask_ops.settings import release


def init_app(app: Flask) -> None:
    """Add ``?v=<hash>`` to every ``url_for("static", ...)`` and the release to every template."""
    folder = Path(app.static_folder or "")
    # While developing, files change under a running app.
    digest = _digest if app.debug else cache(_digest)

    @app.url_defaults
    def add_hash(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and "filename" in values:
            values.setdefault("v", digest(folder / values["filename"]))

    @app.context_processor
    def add_release() -> dict[str, str]:
        return {"release": release()}


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else None
