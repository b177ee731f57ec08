"""Read from PostgreSQL in one round trip where a request may change nothing.

SQLAlchemy opens a transaction for a single SELECT and rolls it back afterwards: three round trips. At
PostgreSQL's usual isolation level each statement sees what is committed by then, in a transaction or not, so
a request that only reads loses nothing without one. Here such requests get an engine of their own, whose
connections commit each statement and let nothing be written::

    db = SQLAlchemy(session_options={"class_": reads.Session})
    app.config["SQLALCHEMY_BINDS"] = {"reads": reads.engine_options(url, pool_size=5, max_overflow=0)}

Its connections come on top of the other engine's: share what the host may open among the two pools.
"""

from __future__ import annotations

from typing import Any

import flask_sqlalchemy.session
from flask import has_request_context, request
from sqlalchemy import URL, make_url

#: Under which Flask-SQLAlchemy knows the engine.
BIND_KEY = "reads"
# RFC 9110, section 9.2.1.
_SAFE = ("GET", "HEAD")
_READ_ONLY = "-c default_transaction_read_only=on"


def engine_options(url: str | URL, **options: Any) -> dict[str, Any]:
    """Return what Flask-SQLAlchemy makes the engine from.

    :param url: of the database, as for the other engine.
    :param options: for :func:`sqlalchemy.create_engine`.
    """
    arguments = options.pop("connect_args", {})
    given = arguments.get("options") or make_url(url).query.get("options")
    arguments = {**arguments, "options": f"{given} {_READ_ONLY}" if given else _READ_ONLY}
    return {
        "url": url,
        "isolation_level": "AUTOCOMMIT",
        # There is nothing to roll back.
        "pool_reset_on_return": None,
        "connect_args": arguments,
        **options,
    }


class Session(flask_sqlalchemy.session.Session):
    """Ask the engine :data:`BIND_KEY` while a GET or HEAD is answered, if there is one.

    What such a request tries to write is an error of the database. Models with a bind key of their own, other
    methods, tasks and commands get the engine that they would get without this.
    """

    def __init__(self, db: Any, **options: Any) -> None:
        """Begin, in the app context that Flask-SQLAlchemy makes a session for."""
        super().__init__(db, **options)
        # Looked up once: a session asks for its engine at every statement.
        engines = db.engines
        self._usual, self._reads = engines.get(None), engines.get(BIND_KEY)

    def get_bind(self, mapper: Any = None, clause: Any = None, bind: Any = None, **kwargs: Any) -> Any:
        """Select an engine."""
        found = super().get_bind(mapper, clause, bind, **kwargs)
        # The request, each time: a test may hold one app context, and with it this session, around many.
        if found is self._usual and bind is None and has_request_context() and request.method in _SAFE:
            return self._reads or found
        return found
