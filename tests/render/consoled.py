"""A Prometheus that remembers a day of an app's life, and its consoles."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator

from testbed import consoles
from testbed.consoles import Answer
from watching import Tools

MINUTE, HOUR, DAY = 60, 3600, 86400
# What is remembered: enough for an hour's increase two hours and a day ago.
SPANS = ((-DAY - 2 * HOUR, -DAY + 10 * MINUTE), (-3 * HOUR - 20 * MINUTE, 0))
APP, WEB, DATA = (
    {"app": "inbox"},
    {"app": "inbox", "instance": "www-12"},
    {"app": "inbox", "instance": "data-13"},
)
OLD, NEW = "20260101T000000Z-abc1234", "20260102T000000Z-def5678"
# Bounds of a histogram, and the share that is below each.
BOUNDS = {0.005: 0.4, 0.025: 0.7, 0.1: 0.9, 0.25: 0.97, 0.5: 0.995, 1.0: 0.999, 5.0: 1.0}
LOG = "/tmp/queries.log"
Series = tuple[str, dict[str, str], Callable[[float], float]]


def grows(rate: float) -> Callable[[float], float]:
    """Return a counter that grows by `rate` a second on average, by more and by less in turn."""
    swing = 2 * math.pi / (100 * MINUTE)
    return lambda t: rate * (t + 0.6 / swing * math.sin(swing * t))


def level(value: float) -> Callable[[float], float]:
    """Return a gauge about `value`."""
    return lambda t: value * (1 + 0.2 * math.sin(t / 900))


def still(value: float) -> Callable[[float], float]:
    return lambda _t: value


def histogram(name: str, labels: dict[str, str], rate: float) -> Iterator[Series]:
    """Yield the series of a histogram."""
    for bound, share in BOUNDS.items():
        yield f"{name}_bucket", {**labels, "le": str(bound)}, grows(rate * share)
    yield f"{name}_bucket", {**labels, "le": "+Inf"}, grows(rate)
    yield f"{name}_count", labels, grows(rate)
    yield f"{name}_sum", labels, grows(rate * 0.08)


def of_app(now: float) -> Iterator[Series]:
    """Yield what an app, releasectl and the prober tell."""
    for release, part in ((OLD, 0.9), (NEW, 0.1)):
        at = {**WEB, "job": "app", "release": release, "service": "inbox-web"}
        for status, route, rate in (
            ("200", "/", 12.0),
            ("200", "/messages/<int:message>", 4.0),
            ("500", "/", 0.02),
        ):
            labels = {**at, "method": "GET", "status": status}
            name = "flask_http_request_duration_seconds"
            yield from histogram(name, {**labels, "url_rule": route}, rate * part)
        yield "flask_http_request_total", {**at, "method": "GET", "status": "200"}, grows(16 * part)
        yield "flask_http_request_total", {**at, "method": "GET", "status": "500"}, grows(0.02 * part)
        yield "flask_ops_requests_timed_out_total", at, grows(0.001)
        yield "flask_ops_workers", at, still(4)
        yield "flask_ops_worker_start_time_seconds", {**at, "worker": "0"}, still(now - 3 * DAY * part)
        yield "flask_ops_in_flight_requests", at, level(3 * part)
        yield "flask_ops_in_flight_limit", at, still(8)
        yield "flask_ops_listen_backlog", at, level(100)
        yield "flask_ops_listen_backlog_max", at, still(128)
        yield "flask_ops_pool_connections", {**at, "pool": "default", "state": "checked_out"}, level(3)
        yield "flask_ops_pool_connections", {**at, "pool": "default", "state": "limit"}, still(15)
        yield from histogram("flask_ops_event_loop_lag_seconds", at, 4)
    worker = {**WEB, "job": "app", "release": OLD, "service": "inbox-worker"}
    for task, rate in (("inbox.deliver", 0.4), ("inbox.import_file", 0.02)):
        for state, part in (("success", 0.95), ("failure", 0.01), ("retry", 0.04)):
            yield "flask_ops_tasks_total", {**worker, "task": task, "state": state}, grows(rate * part)
        yield from histogram("flask_ops_task_duration_seconds", {**worker, "task": task}, rate)
    for queue, waiting in (("inbox", 3), ("inbox.slow", 0)):
        at = {"app": WEB["app"], "queue": queue}
        yield "app:queue_tasks:max", at, level(waiting)
        yield "app:queue_oldest_age_seconds:max", at, level(2.5 * waiting)
        yield from histogram("flask_ops_task_wait_seconds", {**worker, "queue": queue}, 0.3)
    ticked = {**WEB, "job": "app", "release": OLD, "service": "inbox-beat"}
    yield "flask_ops_beat_last_tick_timestamp_seconds", ticked, lambda t: now - 2 * DAY + t - 7
    at = {**WEB, "job": "releasectl"}
    yield "releasectl_active_release_info", {**at, "release": OLD}, still(1)
    for command, exit_code, ago in (("activate", 0, 2 * DAY), ("deploy", 3, HOUR)):
        labels = {**at, "command": command}
        yield "releasectl_last_command_timestamp_seconds", labels, still(now - ago)
        yield "releasectl_last_command_exit_code", labels, still(exit_code)
        yield "releasectl_last_command_duration_seconds", labels, still(41.5)
        yield "releasectl_last_command_phase_seconds", {**labels, "phase": "drain"}, still(30)
        yield "releasectl_commands_total", {**labels, "result": "done"}, grows(0.0001)
    yield "releasectl_maintenance", at, still(0)
    yield "probe_success", {**WEB, "job": "site"}, still(1)


def of_hosts(now: float) -> Iterator[Series]:
    """Yield what node exporters tell of two hosts, and Prometheus of whom it asks."""
    for host, job in ((WEB, "app"), (WEB, "releasectl"), (WEB, "node"), (DATA, "node"), (DATA, "postgres")):
        yield "up", {**host, "job": job}, still(1)
    # An app of which nothing is known but that it is asked.
    yield "up", {"app": "board", "instance": "www-13", "job": "node"}, still(0)
    for at in ({**WEB, "job": "node"}, {**DATA, "job": "node"}):
        for cpu in "01":
            for mode, rate in (("idle", 0.55), ("user", 0.45)):
                yield "node_cpu_seconds_total", {**at, "cpu": cpu, "mode": mode}, grows(rate)
        yield "node_load1", at, level(1.1)
        yield "node_memory_MemTotal_bytes", at, still(8e9)
        yield "node_memory_MemAvailable_bytes", at, level(1.9e9)
        yield "node_vmstat_pswpin", at, grows(0.1)
        yield "node_vmstat_pswpout", at, grows(0.2)
        yield "node_boot_time_seconds", at, still(now - 40 * DAY)
        for mountpoint, device, free in (("/", "/dev/vda1", 0.06), ("/srv", "/dev/vdb", 0.6)):
            labels = {**at, "device": device, "fstype": "ext4", "mountpoint": mountpoint}
            yield "node_filesystem_size_bytes", labels, still(5e10)
            yield "node_filesystem_avail_bytes", labels, still(5e10 * free)
        for name, rate in (
            ("io_time_seconds", 0.3), ("io_time_weighted_seconds", 0.9), ("read_bytes", 2e5),
            ("written_bytes", 3e6),
        ):  # fmt: skip
            yield f"node_disk_{name}_total", {**at, "device": "vda"}, grows(rate)
        for way in ("receive", "transmit"):
            for name, rate in (("bytes", 1e6), ("drop", 0.01), ("errs", 0.0)):
                yield f"node_network_{way}_{name}_total", {**at, "device": "eth0"}, grows(rate)
        for unit, failed in (("logrotate.service", 1), ("nginx.service", 0)):
            for state, on in (("failed", failed), ("active", 1 - failed)):
                labels = {**at, "name": unit, "state": state, "type": "simple"}
                yield "node_systemd_unit_state", labels, still(on)
    dropped = {**WEB, "job": "node", "unit": "inbox-web@.service"}
    yield "journal_dropped_messages_total", dropped, grows(0.5)
    yield "journal_last_drop_timestamp_seconds", dropped, still(now - 10 * MINUTE)
    yield "journal_unshipped_age_seconds", {**WEB, "job": "node"}, still(0.0)
    for origin, status, rate in (("app", "200", 16.0), ("edge", "200", 4.0), ("edge", "502", 0.01)):
        answered = {**WEB, "job": "node", "site": "inbox", "origin": origin, "status": status}
        yield "nginx_http_responses_total", answered, grows(rate)
    labels = {
        **WEB,
        "job": "node",
        "name": f"inbox-worker@{OLD}.service",
        "state": "active",
        "type": "simple",
    }
    yield "node_systemd_unit_state", labels, still(1)


def of_data(now: float) -> Iterator[Series]:
    """Yield what the exporters of PostgreSQL and Redis tell."""
    at = {**DATA, "job": "postgres"}
    yield "pg_up", at, still(1)
    yield "pg_settings_max_connections", at, still(100)
    yield "pg_stat_activity_max_tx_duration", {**at, "datname": "inbox", "state": "active"}, level(0.4)
    yield "pg_stat_activity_count", {**at, "datname": "inbox", "state": "idle in transaction"}, still(1)
    for database, rate in (("inbox", 30.0), ("postgres", 0.2)):
        one = {**at, "datname": database}
        yield "pg_stat_database_numbackends", one, level(rate)
        yield "pg_database_size_bytes", one, still(rate * 1e7)
        yield "pg_locks_count", {**one, "mode": "accesssharelock"}, still(2)
        for name, part in (
            ("xact_commit", 1.0), ("xact_rollback", 0.01), ("blks_hit", 90), ("blks_read", 1),
            ("deadlocks", 0.00001), ("temp_bytes", 100), ("tup_fetched", 20), ("tup_inserted", 1),
            ("tup_updated", 0.5), ("tup_deleted", 0.1),
        ):  # fmt: skip
            yield f"pg_stat_database_{name}", one, grows(rate * part)
    at = {**DATA, "job": "redis"}
    yield "redis_up", at, still(1)
    yield "redis_memory_used_bytes", at, level(5e7)
    yield "redis_memory_max_bytes", at, still(2.5e8)
    yield "redis_db_keys", {**at, "db": "db0"}, level(800)
    yield "redis_connected_clients", at, level(12)
    yield "redis_blocked_clients", at, still(2)
    yield "redis_uptime_in_seconds", at, lambda t: 30 * DAY + t
    yield "redis_rdb_last_save_timestamp_seconds", at, lambda t: now - 2 * DAY + t - t % HOUR
    for name, rate in (
        ("commands_processed", 90.0), ("commands_duration_seconds", 0.004), ("keyspace_hits", 40.0),
        ("keyspace_misses", 4.0), ("evicted_keys", 0.0), ("rejected_connections", 0.0),
    ):  # fmt: skip
        yield f"redis_{name}_total", at, grows(rate)


def history(now: float) -> str:
    """Return all of it up to now, as OpenMetrics; counters began two days ago."""
    lines = []
    for name, labels, value in (*of_app(now), *of_hosts(now), *of_data(now)):
        told = ",".join(f'{key}="{word}"' for key, word in labels.items())
        for first, last in SPANS:
            for ago in range(first, last + 1, MINUTE):
                lines.append(f"{name}{{{told}}} {value(2 * DAY + ago):.6f} {now + ago:.0f}")
    return "\n".join([*lines, "# EOF", ""])


class Consoled(Tools):
    """Prometheus as a host's unit starts it, with a history and a log of what it is asked; it asks nobody."""

    def __enter__(self) -> Consoled:
        super().__enter__()
        try:
            self.begin_prometheus()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin_prometheus(self) -> None:
        (self.folder / "history.om").write_text(history(time.time()))
        settings = {"global": {"evaluation_interval": "2s", "query_log_file": LOG}}
        settings["rule_files"] = ["/etc/prometheus/rules/*.yml"]
        (self.folder / "prometheus.yml").write_text(json.dumps(settings))
        blocks = "promtool tsdb create-blocks-from openmetrics /tests/history.om /tmp/data"
        self.output("sh", "-c", f"{blocks} && cp /tests/prometheus.yml /tmp/")
        command = self.command().replace("/etc/prometheus/prometheus.yml", "/tmp/prometheus.yml")
        command = command.replace("/var/lib/prometheus/metrics2", "/tmp/data")
        self.output("sh", "-c", f"({command} >/tmp/prometheus.log 2>&1 &)")
        # A rule that compares recordings has data two rounds after them.
        wanted = 'app:slo_errors:ratio_avg3d{slo="tasks"} and on (app) ALERTS{alertname="ReleaseFailed"}'
        deadline = time.monotonic() + 60
        while not self.has(wanted):
            assert time.monotonic() < deadline, self.output("tail", "-n", "50", "/tmp/prometheus.log")
            time.sleep(1)

    def command(self) -> str:
        """Return the unit's command line."""
        unit = self.host.read("/etc/systemd/system/prometheus.service.d/50-monitoring.conf").replace(
            "\\\n", ""
        )
        return re.findall(r"^ExecStart=(/.*)$", unit, re.MULTILINE)[0]

    def get(self, *pages: str) -> list[Answer]:
        """Return what Prometheus answers to each of these pages' addresses."""
        (self.folder / "pages.json").write_text(json.dumps(pages))
        return consoles.answers(self.output("python3", "-c", consoles.ASK, "/tests/pages.json"))

    def empty(self, *expressions: str) -> list[str]:
        """Return the expressions that yield nothing now."""
        return consoles.empty(expressions, self.get(*consoles.queries(expressions)))

    def has(self, expression: str) -> bool:
        """Tell whether Prometheus answers, with data."""
        try:
            return not self.empty(expression)
        except AssertionError:
            return False
