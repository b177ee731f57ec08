"""Workers and beats as their units start them, with everything they need, all of it real."""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
from flask_ops.testing import eventually
from inbox import create_app
from inbox.messages.sources import Source
from inbox.models import db
from redis_server import RedisServer

SECRET = secrets.token_hex()


class Downstream:
    """The service at RELAY_URL; while it is told to hold, it answers nobody."""

    def __init__(self):
        self.keys, self.go = [], threading.Event()
        self.go.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.keys.append(self.headers["Idempotency-Key"])
                outer.go.wait(60)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()


class Unit:
    """A worker or a beat, started as its unit does."""

    def __init__(self, stack, *arguments):
        self.folder = Path(tempfile.mkdtemp(dir=stack.folder))
        self.output = self.folder / "output"
        command = [sys.executable, "-m", "celery", "--app", "inbox.worker", *arguments]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **stack.env, "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics")},
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )

    def logs(self):
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]

    def said(self, words):
        return [line for line in self.logs() if words in line["event"]]

    def wait_for(self, words, seconds=60):
        def said():
            assert self.process.poll() is None, self.output.read_text()
            return self.said(words)

        try:
            return eventually(said, seconds)
        except AssertionError as error:
            raise AssertionError(self.output.read_text()) from error

    def kill(self):
        """End it and its children at once, as the kernel does without asking."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


class Stack:
    """Everything the app needs, and the app itself in this process."""

    def __init__(self, database, redis, downstream, folder):
        self.database, self.redis, self.downstream, self.folder = database, redis, downstream, folder
        self.env = {
            "APP_ENV": "development",
            "DATABASE_URL": database,
            "REDIS_URL": redis.url,
            "STORAGE_URL": f"file://{folder}/files",
            "RELAY_URL": downstream.url,
            "RELAY_TIMEOUT_SECONDS": "60",
            "GUNICORN_LOG_LEVEL": "info",
        }
        source = Source("github", "github", (SECRET,))
        self.app = create_app(
            {
                "SQLALCHEMY_DATABASE_URI": database,
                "REDIS_URL": redis.url,
                "STORAGE_URL": f"file://{folder}/files",
                "WEBHOOK_SOURCES": {"github": source},
                "TESTING": True,
            }
        )
        done = self.app.test_cli_runner().invoke(args=["prepare"])
        assert done.exit_code == 0, done.output
        self.units, self._worker = [], None

    def start(self, *arguments):
        unit = Unit(self, *arguments)
        self.units.append(unit)
        return unit

    def worker(self):
        """Return the worker that runs, a new one if there is none."""
        if self._worker is None or self._worker.process.poll() is not None:
            self._worker = self.start("worker", "--concurrency", "1", "--loglevel", "info")
            self._worker.wait_for("ready.")
        return self._worker

    def close(self):
        for unit in self.units:
            unit.kill()
        with self.app.app_context():
            db.engine.dispose()

    def receive(self, name, **headers):
        """Take a webhook."""
        body = json.dumps({"ref": name}).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        signed = {
            "X-Hub-Signature-256": f"sha256={signature}",
            "X-GitHub-Delivery": name,
            "X-GitHub-Event": "push",
        }
        answer = self.app.test_client().post(
            "/hooks/github", data=body, content_type="application/json", headers={**signed, **headers}
        )
        assert answer.status_code == 202, answer.text
        return answer.json["id"]

    def ask(self, statement, *values):
        with psycopg.connect(self.database.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else None

    def status(self, message_id):
        return self.ask("SELECT status FROM message WHERE id = %s", message_id)[0][0]

    def counted(self):
        return self.ask("SELECT coalesce(sum(count), 0)::int FROM tally")[0][0]

    def is_done(self, message_id):
        return self.status(message_id) == "done"

    def hold(self):
        """Have the other side answer nobody, until it is told to go on."""
        self.downstream.go.clear()

    def asked(self, message_id):
        """Return how often the other side was asked about a message."""
        ((delivery_id,),) = self.ask("SELECT delivery_id FROM message WHERE id = %s", message_id)
        return self.downstream.keys.count(f"github:{delivery_id}:0")

    def dispatch(self):
        """Have everything that is due handed out, as beat does every few seconds."""
        with self.app.app_context():
            self.app.extensions["celery"].tasks["messages.dispatch_due"].apply().get()

    def make_due(self):
        """Have the time pass that a worker is waited for before it counts as lost."""
        self.ask("UPDATE message SET next_attempt_at = now() WHERE status <> 'done'")


@contextmanager
def running(server):
    """Start everything but workers and beats; end all of it.

    :param server: the tests' PostgreSQL.
    """
    with ExitStack() as cleanup:
        name = f"celery_{secrets.token_hex(6)}"
        admin = cleanup.enter_context(psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True))
        admin.execute(f"CREATE DATABASE {name}")
        cleanup.callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)")
        redis = cleanup.enter_context(RedisServer())
        downstream = Downstream()
        cleanup.callback(downstream.close)
        folder = Path(tempfile.mkdtemp(prefix="app-celery-"))
        cleanup.callback(shutil.rmtree, folder)
        stack = Stack(server.url.replace("@/inbox?", f"@/{name}?"), redis, downstream, folder)
        cleanup.callback(stack.close)
        yield stack
