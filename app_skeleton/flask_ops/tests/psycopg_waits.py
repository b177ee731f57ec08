"""Wait for PostgreSQL in every way that psycopg knows, and print what came of it.

Run by a test, under gevent: `python -m gevent.monkey psycopg_waits.py <URL of libpq>`.
"""

import json
import sys
from time import monotonic

import gevent
import psycopg
from flask_ops import psycopg_wait

LARGE = "x" * (8 * 1024 * 1024)


def connect():
    return psycopg.connect(URL, autocommit=True)


def scalar(statement, *parameters):
    with connect() as connection:
        return connection.execute(statement, parameters).fetchone()[0]


def side_by_side():
    """How often another greenlet ran while one waited, and whether many can wait at once."""
    turns = 0

    def count():
        nonlocal turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    counting = gevent.spawn(count)
    waiting = [gevent.spawn(scalar, "SELECT pg_sleep(0.3), %s", number) for number in range(10)]
    gevent.joinall(waiting, timeout=20)
    counting.kill()
    return {"turns": turns, "answered": sum(one.successful() for one in waiting)}


def much():
    """More than a socket's buffers hold, both ways."""
    with connect() as connection:
        connection.execute("CREATE TEMP TABLE long (words text)")
        with connection.cursor().copy("COPY long FROM STDIN") as copy:
            for _ in range(64):
                copy.write(LARGE[: 128 * 1024] + "\n")
        copied = connection.execute("SELECT sum(length(words)) FROM long").fetchone()[0]
    return {"echoed": scalar("SELECT %s::text", LARGE) == LARGE, "copied": int(copied) == len(LARGE)}


def in_a_row():
    with connect() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(50)]
        return [cursor.fetchone()[0] for cursor in cursors] == list(range(50))


def error_of(statement, then):
    """What a query that never ends raises, once something has happened to its connection."""
    connection = connect()
    asked = gevent.spawn(connection.execute, statement)
    gevent.sleep(0.2)
    began = monotonic()
    then(connection)
    asked.join(timeout=20)
    connection.close()
    return type(asked.exception).__name__, monotonic() - began < 10


def limited():
    """A limit of gevent's own strikes a wait, and the next query is as any other."""
    connection = connect()
    try:
        with gevent.Timeout(0.2):
            connection.execute("SELECT pg_sleep(60)")
    except gevent.Timeout:
        connection.close()
        return scalar("SELECT 1")


def notified():
    with connect() as hears, connect() as says:
        hears.execute("LISTEN news")
        gevent.spawn_later(0.2, says.execute, "NOTIFY news, 'rain'")
        return [news.payload for news in hears.notifies(timeout=10, stop_after=1)]


def in_the_hub():
    """What a query raises that a callback of the hub makes."""
    raised = []
    hub = gevent.get_hub()
    handle_error, hub.handle_error = hub.handle_error, lambda *error: raised.append(error[1].__name__)
    with connect() as connection:
        hub.loop.run_callback(connection.execute, "SELECT 1")
        gevent.sleep(0.2)
        hub.handle_error = handle_error
        connection.close()
    return raised


def main():
    forever = "SELECT pg_sleep(60)"
    psycopg_wait.install()
    told = {
        "waits by": psycopg.waiting.wait.__module__,
        "side by side": side_by_side(),
        "much": much(),
        "in a row": in_a_row(),
        "closed": error_of(forever, lambda connection: connection.close()),
        "ended": error_of(
            forever, lambda connection: scalar("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        ),
        "cancelled": error_of(forever, lambda connection: connection.cancel_safe()),
        "limited": limited(),
        "notified": notified(),
        "in the hub": in_the_hub(),
        "in a thread": gevent.get_hub().threadpool.apply(scalar, ("SELECT 2",)),
        "longer than a look": scalar("SELECT 3 FROM pg_sleep(3.5)"),
    }
    print(json.dumps(told))


URL = sys.argv[1]
main()
