"""The Celery app of an app that knows nothing of flask_ops: ``celery --app flask_ops.worker worker``.

``APP_CELERY`` names it as ``celery --app`` would: a module, or ``module:attribute``.
"""

from __future__ import annotations

from celery.app.utils import find_app

from . import (
    boot,
    hold,
    tasks,  # before the app: its metrics must find their directory
)
from .settings import setting

boot.export_secrets()
app = tasks.init_celery(find_app(setting("APP_CELERY")))
if tasks.role() == "beat":
    # Here: Celery opens the schedule before its own signal says that beat begins.
    hold.wait()
