"""gunicorn's logger, with no access log and nothing in plain text."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from . import logs


class OpsLogger(Logger):
    """Log through :mod:`flask_ops.logs`, with none of gunicorn's own handlers."""

    _running = False

    def setup(self, cfg: Any) -> None:
        """Take over at the start; at a reload keep what the app has added since."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), self.loglevel)
        if self._running:
            logs.settle()
        else:
            logs.take_over(cfg.loglevel)
            self._running = True

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Leave the access line to nginx."""
