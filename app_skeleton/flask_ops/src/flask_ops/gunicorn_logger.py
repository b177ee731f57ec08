"""gunicorn's logger, with no access log and nothing in plain text."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from .logs import capture_uncaught


class OpsLogger(Logger):
    """Log through ``logconfig_dict`` alone.

    gunicorn takes any ``logconfig_dict`` to mean that there is an access log, and then formats twenty atoms
    for every request, wanted or not.
    """

    def setup(self, cfg: Any) -> None:
        """Apply the configuration, then log uncaught exceptions as well: an app that fails to load is one."""
        super().setup(cfg)
        capture_uncaught()

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Leave the access line to nginx."""
