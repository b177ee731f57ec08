"""The Celery app of an app that knows nothing of flask_ops: ``celery --app flask_ops.worker worker``.

``APP_CELERY`` names it as ``celery --app`` would: a module, or ``module:attribute``.
"""

from __future__ import annotations

from celery.app.utils import find_app

from . import (
    boot,
    garbage,
    hold,
    tasks,  # before the app: its metrics must find their directory
)
from .settings import setting

garbage.look_seldom()
boot.export_secrets()
app = tasks.init_celery(find_app(setting("APP_CELERY")))
garbage.leave_alone()
if tasks.role() == "beat":
    # Here: Celery opens the schedule before its own signal says that beat begins.
    hold.wait()
