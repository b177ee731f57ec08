"""The WSGI app gunicorn serves: the one ``APP_WSGI`` names, made operable if it has not done so itself."""

from __future__ import annotations

from . import logs
from .loading import load
from .settings import setting

app = load(setting("APP_WSGI"))  # type: ignore[arg-type]
logs.settle()
