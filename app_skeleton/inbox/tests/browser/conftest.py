"""A real browser in front of a real gunicorn, on loopback."""

import json
import os
import secrets
import socket
import socketserver
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import stamp
from flask_ops.testing import GunicornServer
from inbox import create_app
from inbox.auth import users
from inbox.messages import reports
from inbox.messages.models import Attempt, ImportFile, ImportProblem, Message
from inbox.models import db, now
from sqlalchemy import delete

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD, SECRET = secrets.token_urlsafe(), secrets.token_urlsafe()
ROLES = ("viewer", "operator", "admin")
#: What people may be shown is written by strangers: markup, the other direction, no place to break a line.
TITLES = (
    "push octo/hello refs/heads/main by alice",
    "issues opened octo/hello <script>alert(1)</script> by mallory",
    "pull_request opened octo/hello \u202eemit eht fo tuo si siht by bob",
    "release published octo/" + "a-name-with-no-end" * 7,
    "invoice.paid in_1QxY2 4900 eur Subscription, September",
)
STATUSES = ("done", "pending", "processing", "failed", "dead")


@dataclass
class Site:
    """The app as a browser sees it.

    :param url: where it is.
    :param server: its gunicorn.
    :param app: the same app in this process, for what only its database can tell.
    :param ids: of messages by state, and of imports by state.
    :param secret: of its sources.
    :param password: of the user of every role, ``<role>@example.org``.
    """

    url: str
    server: GunicornServer
    app: Flask
    ids: dict[str, int] = field(default_factory=dict)
    secret: str = SECRET
    password: str = PASSWORD

    def add(self, fill):
        """Put something into the database, and remember its ids."""
        with self.app.app_context():
            self.ids |= fill()
            db.session.commit()


class _Forward(socketserver.BaseRequestHandler):
    """Hand a connection on to a unix socket: browsers know none."""

    def handle(self):
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(str(self.server.path))
            back = threading.Thread(target=self._copy, args=(behind, self.request))
            back.start()
            self._copy(self.request, behind)
            back.join()

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side has had enough


class _Forwarder(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class _StatusPage(BaseHTTPRequestHandler):
    """A provider's status page: GitHub's works, Stripe's says something that is not to be trusted."""

    def do_GET(self):
        status = {
            "/github": {"indicator": "none", "description": "All Systems Operational"},
            "/stripe": {"indicator": "major", "description": "<b>Partial</b> outage"},
        }.get(self.path)
        self.send_response(200 if status else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"status": status}).encode())

    def log_message(self, *args):
        pass


def serve(server):
    """Serve in a thread; return where."""
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A site in the middle of its work: something of every kind."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("github", "stripe"):
        (folder / f"app_webhook_{name}").write_text(SECRET)
    urls = {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/inbox.sqlite",
        "STORAGE_URL": f"file://{folder}/files",
    }
    app = create_app({**urls, "TESTING": True})
    with app.app_context():
        db.create_all()
        stamp()
        for role in ROLES:
            users.add(f"{role}@example.org", PASSWORD, role)
        reports.make_missing()
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), _StatusPage) as status,
        _Forwarder(("127.0.0.1", 0), _Forward) as forwarder,
    ):
        pages = serve(status)
        providers = {"GitHub": f"{pages}/github", "Stripe": f"{pages}/stripe", "Nobody": f"{pages}/nothing"}
        env = {
            "DATABASE_URL": urls["SQLALCHEMY_DATABASE_URI"],
            "STORAGE_URL": urls["STORAGE_URL"],
            "CREDENTIALS_DIRECTORY": str(folder),
            "APP_ENV": "testing",
            "PROVIDER_STATUS_URLS": json.dumps(providers),
        }
        with GunicornServer("inbox.wsgi:app", **env) as server:
            forwarder.path = server.path
            site = Site(serve(forwarder), server, app)
            site.add(_messages)
            site.add(_imports)
            yield site
        for running in (status, forwarder):
            running.shutdown()


@pytest.fixture
def empty_site(site):
    """The same before anybody has sent anything to it."""
    with site.app.app_context():
        db.session.execute(delete(Attempt))
        db.session.execute(delete(Message))
        db.session.commit()
    yield site
    site.add(_messages)


def _messages():
    ids = {}
    for number in range(30):
        status = STATUSES[number % 5] if number >= 25 else "done"
        body = {"ref": "refs/heads/main", "number": number, "commits": [{"id": secrets.token_hex(20)}] * 3}
        message = Message(
            source="stripe" if number % 5 == 4 else "github",
            delivery_id=secrets.token_hex(16),
            event=TITLES[number % 5].split()[0],
            title=TITLES[number % 5],
            body=json.dumps(body | {"long": "word " * 300}),
            status=status,
            attempt_count={"pending": 0, "processing": 1}.get(status, number % 3 + 1),
            received_at=now() - timedelta(days=1, minutes=number),
            processed_at=now() if status == "done" else None,
            next_attempt_at=now() + timedelta(minutes=20) if status in ("failed", "pending") else None,
            request_id=secrets.token_hex(16),
        )
        db.session.add(message)
        db.session.flush()
        ids[status] = message.id
        for attempt in range(1, message.attempt_count + 1):
            last = attempt == message.attempt_count
            outcome = {"done": "done", "processing": "running"}.get(status, "failed") if last else "failed"
            db.session.add(
                Attempt(
                    message_id=message.id,
                    number=attempt,
                    outcome=outcome,
                    worker="celery@app1.example.org",
                    began_at=now() - timedelta(minutes=10 - attempt),
                    ended_at=None if outcome == "running" else now() - timedelta(minutes=9 - attempt),
                    error="The service at RELAY_URL answered 503." if outcome == "failed" else None,
                )
            )
    return ids


def _imports():
    ids = {}
    total = 96 * 1024 * 1024
    for status, read, imported, refused in (
        ("done", total, 81_204, 132),
        ("failed", 100, 0, 0),
        ("reading", total * 42 // 100, 34_001, 3),
    ):
        file = ImportFile(
            name=f"messages-{status}.csv",
            storage_key=f"imports/{status}.csv",
            status=status,
            bytes_total=total,
            bytes_read=read,
            line=imported + refused,
            imported=imported,
            refused=refused,
            duplicates=17,
            created_at=now() - timedelta(hours=1),
            ended_at=None if status == "reading" else now(),
            claimed_until=now() + timedelta(hours=1),
            error="The first line does not name the columns source, delivery_id."
            if status == "failed"
            else None,
        )
        db.session.add(file)
        db.session.flush()
        ids[f"import-{status}"] = file.id
        for line in range(2, 2 + min(refused, 5)):
            db.session.add(
                ImportProblem(import_file_id=file.id, line=line * 7, error="The body is not JSON.")
            )
    return ids


@pytest.fixture(scope="session")
def browser():
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is not installed, and CI must not skip what needs it")
        pytest.skip(f"{CHROMIUM} is not installed (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(browser):
    """Return the cookies of somebody who has signed in, by site and role."""
    known = {}

    def signed_in(site, role):
        if (site.url, role) not in known:
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{site.url}/auth/sign-in")
            page.get_by_label("E-mail").fill(f"{role}@example.org")
            page.get_by_label("Password").fill(site.password)
            page.keyboard.press("Enter")
            page.wait_for_url(f"{site.url}/messages")
            known[site.url, role] = context.storage_state()
            context.close()
        return known[site.url, role]

    return signed_in


@pytest.fixture
def visit(browser, signed_in):
    """Open a page as somebody; at the end its console must be silent: it tells what a policy blocked."""
    contexts, said = [], []

    def visit(site, path="/", role="operator", **options):
        state = signed_in(site, role) if role else None
        context = browser.new_context(storage_state=state, base_url=site.url, **options)
        contexts.append(context)
        context.set_default_timeout(8000)
        page = context.new_page()

        def heard(message):
            # That a page is an error page is told there too, and is no fault of the page.
            if not (message.text.startswith("Failed to load") and message.location["url"] == page.url):
                said.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="session")
def screenshots():
    """Return where pictures of the pages are kept, to be looked at; None without SCREENSHOTS=<folder>."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) if folder else None
