"""Leave nothing open across a fork that two processes must not share."""

from __future__ import annotations

import gc
import sys

from .native import patched

#: Timers that libraries set as they are imported are due by then: Flask-Limiter's sets one of 10 ms.
SETTLE_SECONDS = 0.02


def settle() -> None:
    """Let gevent's threads that are about to end do so here.

    One that begins before a fork and ends in a worker is unknown there: `threading` keeps the forking one
    alone, and each worker would log a KeyError.
    """
    if patched():
        import gevent

        gevent.sleep(SETTLE_SECONDS)


def close_pools() -> int:
    """Close the database connections that wait in SQLAlchemy's pools; the next use opens others.

    An app that migrates or asks its database while it is imported leaves one there. With ``preload_app`` that
    is in the arbiter, and every worker would then talk to the database over this one connection, reading
    each other's answers (SQLAlchemy's manual, "Using Connection Pools with Multiprocessing or os.fork()").
    A database in memory, whose connection is the database itself, is in no such pool.

    :returns: how many engines were found.
    """
    if "sqlalchemy.pool" not in sys.modules:
        return 0
    from sqlalchemy import Engine
    from sqlalchemy.pool import QueuePool

    # By type(): a proxy such as flask.g answers isinstance() with what stands behind it, or an error.
    engines = [one for one in gc.get_objects() if issubclass(type(one), Engine)]
    engines = [engine for engine in engines if isinstance(engine.pool, QueuePool)]
    for engine in engines:
        engine.dispose()
    return len(engines)
