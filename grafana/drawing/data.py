"""PostgreSQL and Redis, as their exporters tell."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from drawing import frame
from drawing.consoles import HOSTS, Ask, column, figure, named
from drawing.panels import (
    BYTES,
    BYTES_A_SECOND,
    COUNT,
    EVENTS,
    GOOD,
    HOT,
    SECONDS,
    SHARE,
    TASKS,
    WARM,
    curves,
)
from drawing.panels import figure as shown

DATABASE, HOST = "{{datname}}", "{{instance}}"


def postgresql() -> Dashboard:
    """Return the dashboard of PostgreSQL."""
    says = "Connections, transactions, what is read from where, and each database."
    parts = {"Now": _cluster(), "Connections and transactions": _sessions(), "Databases": _databases()}
    return frame.board("postgresql", "Flask app: PostgreSQL", says, "pg_up", parts)


def _pg(name: str) -> Ask:
    return figure("postgresql", name)


def _cluster() -> list:
    up = named("up", f"min(pg_up{{{HOSTS}}})")
    # PostgresConnectionsHigh: rules/data.yml.
    nearly = ((0.7, WARM), (0.8, HOT))
    return [
        shown(
            "Answers", COUNT, "1 while PostgreSQL answers its exporter.", up, limits=((1, GOOD),), below=HOT
        ),
        shown("Connections", COUNT, "To all databases.", _pg("Connections")),
        shown(
            "Of those it allows",
            SHARE,
            "Red: PostgresConnectionsHigh.",
            _pg("Of those it allows"),
            limits=nearly,
        ),
        shown(
            "Longest transaction", SECONDS, "That goes on.", _pg("Longest transaction"), limits=((60, WARM),)
        ),
        shown("Read from memory", SHARE, "Of all blocks read.", _pg("Read from memory")),
        shown(
            "Deadlocks, 1 h", COUNT, "One of each two was ended.", _pg("Deadlocks, 1 h"), limits=((1, WARM),)
        ),
    ]


def _sessions() -> list:
    states = f"sum by (state) (pg_stat_activity_count{{{HOSTS}}})"
    ratio = named(HOST, f"instance:postgresql_connections:ratio{{{HOSTS}}}")
    return [
        curves(
            "Connections, of those allowed",
            SHARE,
            "Past them sign-ins are refused. The line: PostgresConnectionsHigh.",
            ratio,
            wide=8,
            limits=((0.8, HOT),),
        ),
        curves(
            "Sessions by state",
            COUNT,
            "Idle in transaction: holds its locks.",
            named("{{state}}", states),
            wide=8,
        ),
        curves(
            "Idle in transaction",
            COUNT,
            "Each holds its locks and keeps old rows from being cleared.",
            _pg("Idle in transaction"),
            wide=8,
        ),
        curves("Transactions", TASKS, "That ended, by how.", _pg("Commits"), _pg("Rollbacks"), wide=8),
        curves("Longest transaction", SECONDS, "That goes on.", _pg("Longest transaction"), wide=8),
        curves(
            "Sorted on disk",
            BYTES_A_SECOND,
            "What did not fit into work_mem.",
            _pg("Sorted on disk"),
            wide=8,
        ),
    ]


def _databases() -> list:
    return [
        curves(title, unit, says, column("postgresql", name, DATABASE), wide=wide)
        for title, unit, says, name, wide in (
            ("Size", BYTES, "With indexes.", "databases", 8),
            ("Connections", COUNT, "To each database.", "backends", 8),
            ("Locks held", COUNT, "Of all modes.", "locks", 8),
            ("Rows fetched", EVENTS, "By index or by scan of a bitmap.", "read", 12),
            ("Rows written", EVENTS, "Inserted, updated or deleted.", "written", 12),
        )
    ]


def redis() -> Dashboard:
    """Return the dashboard of Redis."""
    says = "Memory, commands, clients, and when it was last saved."
    parts = {"Now": _store(), "Memory and keys": _memory(), "Commands and clients": _commands()}
    return frame.board("redis", "Flask app: Redis", says, "redis_up", parts)


def _redis(name: str) -> Ask:
    return figure("redis", name)


def _store() -> list:
    up = named("up", f"min(redis_up{{{HOSTS}}})")
    # RedisMemoryHigh: rules/data.yml.
    nearly = ((0.7, WARM), (0.9, HOT))
    return [
        shown("Answers", COUNT, "1 while Redis answers its exporter.", up, limits=((1, GOOD),), below=HOT),
        shown("Memory used", BYTES, "For data.", _redis("Memory used")),
        shown(
            "Of what it may use", SHARE, "Red: RedisMemoryHigh.", _redis("Of what it may use"), limits=nearly
        ),
        shown("Keys", COUNT, "In all databases.", _redis("Keys")),
        shown("Last saved whole", SECONDS, "Since then to disk.", _redis("Last saved whole")),
        shown("Up for", SECONDS, "Since its last start.", _redis("Up for")),
    ]


def _memory() -> list:
    keys = f"sum by (db) (redis_db_keys{{{HOSTS}}})"
    return [
        curves(
            "Memory, of what it may use",
            SHARE,
            "Past it writes are refused, new tasks among them. The line: RedisMemoryHigh.",
            _redis("Of what it may use"),
            wide=8,
            limits=((0.9, HOT),),
        ),
        curves("Keys", COUNT, "Of each database.", named("{{db}}", keys), wide=8),
        curves(
            "Keys evicted, 1 h",
            COUNT,
            "Thrown away for want of memory.",
            _redis("Keys evicted, 1 h"),
            wide=8,
        ),
    ]


def _commands() -> list:
    return [
        curves("Commands", TASKS, "Of all clients.", _redis("Commands"), wide=8),
        curves(
            "Time in commands",
            SHARE,
            "Of one CPU: Redis runs one command after another.",
            _redis("Time in commands"),
            wide=8,
        ),
        curves(
            "Looked up and found",
            SHARE,
            "Of keys that were asked for.",
            _redis("Looked up and found"),
            wide=8,
        ),
        curves(
            "Clients",
            COUNT,
            "Connected, and of those that wait for work.",
            _redis("Clients"),
            _redis("Of those, waiting for work"),
        ),
        curves(
            "Connections refused, 1 h",
            COUNT,
            "Past maxclients.",
            _redis("Connections refused, 1 h"),
        ),
    ]
