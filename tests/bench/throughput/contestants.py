"""Who is measured: each serves the same answers on a unix socket behind the same nginx.

Each is started as its own documentation says for production; what is not the default is named beside it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from .. import APP_PYTHON, PROJECT_DIR, gunicorn

PEERS_VENV = PROJECT_DIR / ".cache/peers-venv"
PEERS_LOCK = PROJECT_DIR / "requirements/peers.txt"
FLASK = "throughput_flask:create_app()"
FLASK_HELPED = "throughput_ops:create_app()"
OPS_WORKER = "flask_ops.gunicorn_worker.OpsWorker"


@dataclass(frozen=True, slots=True)
class Place:
    """What a server is started with.

    :param folder: of this server alone.
    :param source: the folder that flask_ops is imported from.
    :param database: its URL, of psycopg.
    :param peer: the URL of what takes a second.
    :param workers: processes that serve.
    :param pool: connections to the database, of all processes together.
    """

    folder: Path
    source: Path
    database: str
    peer: str
    workers: int
    pool: int

    @property
    def socket(self) -> Path:
        """What it listens on."""
        return self.folder / "app.sock"

    def environment(self, workers: int, **more: str) -> dict[str, str]:
        """Return the environment of a server of so many processes."""
        ours = {
            "BENCH_DATABASE_URL": self.database,
            "BENCH_PEER_URL": self.peer,
            "BENCH_POOL": str(self.pool // workers),
        }
        # Kept from start to start, as installed packages have it: what compiles holds more memory ever after.
        ours["PYTHONPYCACHEPREFIX"] = str(self.folder.parent / "bytecode")
        env = gunicorn.environment(self.source, **ours | more)
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        return env


@dataclass(frozen=True, slots=True)
class Contestant:
    """One deployment.

    :param about: for people.
    :param starts: returns the command; None where nginx answers by itself.
    :param processes: that serve, for each of the run's workers.
    :param env: what its environment has beyond every server's.
    :param is_framework: whether it serves every view; else the one of JSON alone.
    :param is_async: whether it asks the database by asyncpg.
    """

    name: str
    about: str
    starts: Callable[[Place], list[str | Path]] | None
    processes: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    is_framework: bool = True
    is_async: bool = False
    stopped_by: int = signal.SIGQUIT

    def serve(self, place: Place) -> AbstractContextManager[int]:
        """Run it; yield the process id at the head of its family."""
        folders = {name: value.format(folder=place.folder) for name, value in self.env.items()}
        for name in ("credentials", "metrics"):
            (place.folder / name).mkdir(parents=True, exist_ok=True)
        env = place.environment(place.workers * self.processes, **folders)
        if self.is_async:
            env["BENCH_DATABASE_URL"] = place.database.replace("+psycopg", "+asyncpg")
        return gunicorn.serve_by(place.socket, self.starts(place), env, self.stopped_by)


def _gunicorn(*words: str, app: str = FLASK, each: int = 1) -> Callable[[Place], list[str | Path]]:
    def starts(place: Place) -> list[str | Path]:
        command = [APP_PYTHON, "-m", "gunicorn", "--bind", f"unix:{place.socket}"]
        # The control socket lies in the home directory: one for all that run at once.
        command += ["--workers", str(each * place.workers), "--no-control-socket"]
        return [*command, *words, app]

    return starts


# Above nginx's own time for idle upstream connections, as the project has it; gunicorn's default is the same
# as nginx's here, and would lose requests.
_KEPT = ("--keep-alive", "5")


def _ops(place: Place) -> list[str | Path]:
    command = [APP_PYTHON, "-m", "gunicorn", "--config", "python:flask_ops.gunicorn_conf"]
    return [*command, "--workers", str(place.workers)]


def _uvicorn(app: str) -> Callable[[Place], list[str | Path]]:
    def starts(place: Place) -> list[str | Path]:
        command = [PEERS_VENV / "bin/python", "-m", "uvicorn", "--uds", place.socket, "--workers"]
        command += [str(place.workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [*command, app]

    return starts


def _granian(place: Place) -> list[str | Path]:
    # Threads and back pressure are its own defaults: "you should avoid to tune this threadpool size".
    command = [PEERS_VENV / "bin/granian", "--interface", "wsgi", "--workers", str(place.workers)]
    # nginx runs as another user.
    command += ["--uds", place.socket, "--uds-permissions", "666"]
    return [*command, "--factory", "throughput_flask:create_app"]


_OPS = {
    "APP_WSGI": FLASK,
    "GUNICORN_WORKER_CLASS": "flask_ops",
    "GUNICORN_BIND": "unix:{folder}/app.sock",
    "CREDENTIALS_DIRECTORY": "{folder}/credentials",
    "FLASK_OPS_DRAIN_FILE": "{folder}/drain",
    "FLASK_OPS_CONTROL_SOCKET": "{folder}/gunicorn.ctl",
    "FLASK_OPS_SERVICE": "bench-web",
    "PROMETHEUS_MULTIPROC_DIR": "{folder}/metrics",
    "RELEASE_ID": "20260101T000000Z-abc1234",
    "RELEASE_REVISION": "0" * 40,
}
_METRICS = {"PROMETHEUS_MULTIPROC_DIR": "{folder}/metrics"}
_ASYNC = {"is_async": True, "stopped_by": signal.SIGTERM}

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("ops", "this project, everything on", _ops, env=_OPS | {"APP_WSGI": FLASK_HELPED}),
        Contestant("ops-plain", "the same, the app as the others have it", _ops, env=_OPS),
        Contestant(
            "ops-gevent",
            "ops-plain on gunicorn's gevent",
            _ops,
            env=_OPS | {"GUNICORN_WORKER_CLASS": "gevent"},
        ),
        # "a starting value could be CPU * 2": Flask's manual, "Deploying to Production", Gunicorn.
        Contestant("docs", "Flask by its manual: gunicorn -w 4", _gunicorn(each=2), processes=2),
        Contestant("gevent", "Flask, gunicorn -k gevent", _gunicorn("-k", "gevent", *_KEPT)),
        Contestant("worker", "Flask, this project's worker class alone", _gunicorn("-k", OPS_WORKER, *_KEPT)),
        Contestant("fastapi", "FastAPI, uvicorn, nothing on", _uvicorn("throughput_fastapi:app"), **_ASYNC),
        Contestant(
            "fastapi-on",
            "the same with JSON lines and metrics",
            _uvicorn("throughput_fastapi_on:app"),
            env=_METRICS,
            **_ASYNC,
        ),
        Contestant("granian", "Flask, Granian", _granian, stopped_by=signal.SIGTERM),
        Contestant(
            "raw",
            "bare WSGI, this project's worker class alone",
            _gunicorn("-k", OPS_WORKER, *_KEPT, app="bare_wsgi:app"),
            is_framework=False,
        ),
        Contestant("nginx", "nginx alone: return 200", None, is_framework=False),
    )
}
