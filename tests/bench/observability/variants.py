"""What is switched on in which server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BARE, WHOLE = "bare", "whole"
OPS = "flask_ops.gunicorn_conf"


@dataclass(frozen=True, slots=True)
class Variant:
    """One server.

    :param name: also of its socket and its site.
    :param about: for the table.
    :param config: module of gunicorn's settings.
    :param env: what its environment has beyond every server's.
    :param sentry: whether it gets a DSN.
    """

    name: str
    about: str
    config: str = "parts_conf"
    env: Mapping[str, str] = field(default_factory=dict)
    sentry: bool = False

    def environment(self, folder: Path, dsn: str) -> dict[str, str]:
        """Make what the server needs on disk and return its environment.

        :param folder: of this variant alone.
        :param dsn: of the Sentry that takes this bench's envelopes.
        """
        (folder / "credentials").mkdir(parents=True, exist_ok=True)
        if self.sentry:
            (folder / "credentials/app_sentry_dsn").write_text(dsn)
        return {
            "APP_WSGI": "bench_app:create_app()",
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            "FLASK_OPS_DRAIN_FILE": str(folder / "drain"),
            "FLASK_OPS_CONTROL_SOCKET": str(folder / "gunicorn.ctl"),
            "FLASK_OPS_SERVICE": "bench-web",
            "FLASK_OPS_SENTRY_TRACES_SAMPLE_RATE": "0.1",
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
            "RELEASE_ID": "20260101T000000Z-abc1234",
            "RELEASE_REVISION": "0" * 40,
            **self.env,
        }


def _part(name: str, parts: str, about: str, **more: bool) -> Variant:
    return Variant(name, f"bare + {about}", env={"BENCH_PARTS": parts}, **more)


VARIANTS = (
    Variant(BARE, "bare: gunicorn, gevent, the app", "stock_conf"),
    Variant("bare_again", "bare once more: what noise alone makes", "stock_conf"),
    _part("logs", "logs", "logs"),
    _part("ids", "ids", "request ids, operators' pages"),
    _part("sql", "ids sql_comments", "request ids, SQL comments"),
    _part("metrics", "metrics", "metrics"),
    _part("deadline", "deadline", "request deadline"),
    _part("freeze", "freeze", "gc.freeze before the fork"),
    _part("sentry_off", "sentry_off", "Sentry, no DSN"),
    _part("sentry", "sentry", "Sentry, DSN, 10 % traces", sentry=True),
    Variant(WHOLE, "all of flask_ops, no DSN", OPS),
    Variant("whole_no_sql", "all but SQL comments, no DSN", OPS, {"FLASK_OPS_SQL_COMMENTS": "0"}),
    Variant("whole_sentry", "all of flask_ops, DSN, 10 % traces", OPS, sentry=True),
)
