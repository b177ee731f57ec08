"""Configure gunicorn from the environment: ``gunicorn --config python:flask_ops.gunicorn_conf``.

The names below are gunicorn's settings, see its "Settings" page. The variables are listed in the README
beside this package.
"""

import os
import sys

if any(
    on in (os.environ.get("GUNICORN_WORKER_CLASS") or "flask_ops").lower() for on in ("gevent", "flask_ops")
):
    # Before every other import: psycopg, for one, decides at import whether to wait cooperatively, and with
    # preload_app that import happens in the arbiter, long before the worker would patch.
    from . import patching

    patching.patch_all()

    from . import psycopg_wait

    psycopg_wait.install()

from . import (
    async_views,
    boot,
    deadline,
    declared_checks,
    drain,
    errors,
    forking,
    garbage,
    in_flight,
    logs,
    multiproc,
    operators_pages,
    propagation,
    request_id,
)
from .settings import Reader, SettingError, boolean, choice, integer, service, setting

if "gunicorn.app.wsgiapp" in sys.modules:
    # From here on, so that gunicorn's words about a wrong setting are JSON too; not where a test or a tool
    # only reads these settings.
    logs.take_over()
    garbage.look_seldom()


def _worker_class(name: str, default: str) -> str:
    found = setting(name, default)
    if found == "flask_ops":
        return "flask_ops.gunicorn_worker.OpsWorker"
    if found not in ("gevent", "gthread", "sync") and "." not in found:
        raise SettingError(
            f"{name}={found!r} is not known. "
            "Set it to flask_ops, gevent, gthread, sync, or a dotted path to a class."
        )
    return found


def _bind() -> list[str]:
    # systemd's sockets replace bind whole; the one here is for a developer's shell.
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and integer("LISTEN_FDS", 0):
        return []
    return setting("GUNICORN_BIND", "127.0.0.1:8000").split(",")


# Every setting is read before any mistake is raised, so that one start names them all.
read = Reader()
worker_class = read(_worker_class, "GUNICORN_WORKER_CLASS", "flask_ops")
workers = read(integer, "GUNICORN_WORKERS", max(2, len(os.sched_getaffinity(0))), minimum=1)
threads = read(integer, "GUNICORN_THREADS", 8, minimum=1) if worker_class == "gthread" else 1
worker_connections = read(integer, "GUNICORN_WORKER_CONNECTIONS", 1000, minimum=1)
# Above nginx's upstream keepalive_timeout: whoever closes an idle connection first must be the one that knows
# whether a request is on its way.
keepalive = read(integer, "GUNICORN_KEEPALIVE_SECONDS", 5, minimum=1)
graceful_timeout = read(integer, "GUNICORN_GRACEFUL_TIMEOUT_SECONDS", 30, minimum=1)
timeout = read(integer, "GUNICORN_TIMEOUT_SECONDS", 60, minimum=1)
max_requests = read(integer, "GUNICORN_MAX_REQUESTS", 0)
max_requests_jitter = read(integer, "GUNICORN_MAX_REQUESTS_JITTER", max_requests // 10)
preload_app = read(boolean, "GUNICORN_PRELOAD", True)
loglevel = read(choice, "GUNICORN_LOG_LEVEL", "info", allowed=logs.LEVELS)
read.require(
    keepalive < graceful_timeout,
    f"GUNICORN_KEEPALIVE_SECONDS={keepalive} must be below "
    f"GUNICORN_GRACEFUL_TIMEOUT_SECONDS={graceful_timeout}: "
    "an idle connection holds a stopping worker for the whole keep-alive time.",
)
# Read where they are used; a mistake in one stops the start here.
read(setting, "APP_WSGI")
deadline.require_order(read, graceful_timeout=graceful_timeout, timeout=timeout)
for check in (
    operators_pages.prefix,
    declared_checks.read,
    boot.secret_environment,
    async_views.threads_at_most,
    errors.traces_rate,
    propagation.in_sql,
    propagation.in_outgoing_calls,
):
    read.check(check)
read.finish()

wsgi_app = "flask_ops.wsgi:app"
bind = _bind()
proc_name = service()
# The heartbeat file must never wait for a disk.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - made by mkstemp, mode 0600

control_socket = setting("FLASK_OPS_CONTROL_SOCKET", "")
control_socket_mode = 0o600
control_socket_disable = not control_socket

# nginx accepts a line of 8 KiB (large_client_header_buffers); a smaller limit here would answer 400 to what
# it let by.
limit_request_line = 8190
limit_request_field_size = 8190

# A peer on a unix socket is always trusted: it is nginx, which sets X-Forwarded-Proto itself. Over TCP only
# the same machine is. The other scheme headers gunicorn knows by default come from clients, and contradict
# it.
forwarded_allow_ips = "127.0.0.1,::1"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""

logger_class = "flask_ops.gunicorn_logger.OpsLogger"

# Withheld until there is an arbiter: --check-config loads the app beside a server that owns this directory.
_metrics_dir = os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


def nworkers_changed(server, new, old):
    """Prepare the metrics directory.

    With ``old`` None this is the only hook that runs before ``preload_app`` loads the app; ``on_starting``
    comes after.
    """
    if old is None:
        multiproc.prepare(_metrics_dir)


def when_ready(server):
    """Import what workers need, close what they must not share, hide the rest from the garbage collector.

    No worker is forked yet. Imported in each, the watchdog with its ctypes took most of a worker's start.
    """
    if preload_app:
        from . import process_metrics, watchdog  # noqa: F401

        forking.settle()
        forking.close_pools()
    garbage.leave_alone()


def pre_fork(server, worker):
    """Give the worker the lowest slot that no living worker has."""
    worker.flask_ops_slot = multiproc.lowest_free_slot(w.flask_ops_slot for w in server.WORKERS.values())
    multiproc.forget_gauges(worker.flask_ops_slot)


def post_fork(server, worker):
    """Write metrics to the worker's slot, before a worker without preload makes its first one."""
    multiproc.use_slot(worker.flask_ops_slot)


def child_exit(server, worker):
    """Remove the dead worker's gauges: it has no request in flight any more."""
    multiproc.forget_gauges(worker.flask_ops_slot)


def post_worker_init(worker):
    """Put the app's logging right once more; sample the worker's gauges; watch its deadlines."""
    # Not at the top: prometheus_client must not be imported before the metrics directory is prepared.
    from . import process_metrics, watchdog

    process_metrics.start_sampler(worker)
    logs.settle()
    watchdog.start(worker)


def pre_request(worker, req):
    """While draining, close the connection with this very answer.

    Not by setting ``keepalive`` to 0: a request in flight at that moment has promised keep-alive, and
    gunicorn would then close the connection nginx is about to use again.
    """
    in_flight.begins(id(req))
    if drain.draining_lately():
        req.force_close()


def post_request(worker, req, environ, resp):
    """Forget the request id: the next lines on this greenlet or thread are about the connection."""
    in_flight.ends(id(req))
    request_id.end_request()
