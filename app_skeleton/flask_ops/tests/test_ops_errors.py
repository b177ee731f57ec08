import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import flask_ops
import pytest
import sample_apps
import sentry_sdk
from flask import Flask
from flask_ops import logs
from flask_ops.errors import init_sentry

# Up here, because a report quotes the lines around the failing one.
QUERY = "the-query"


@pytest.fixture
def sentry(monkeypatch, tmp_path):
    """A server that takes what Sentry's client sends; return the received bodies."""
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "app_sentry_dsn").write_text(f"http://key@127.0.0.1:{server.server_port}/1\n")
    yield received
    sentry_sdk.get_client().close()
    sentry_sdk.init()
    server.shutdown()


def test_without_a_dsn_nothing_is_sent():
    assert init_sentry() is False


def test_error_is_reported_with_release_and_request_id_and_no_secret(sentry, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "r1")
    monkeypatch.setenv("APP_ENV", "production")
    app = Flask("shop")

    @app.post("/boom")
    def boom():
        password = sample_apps.SECRET
        raise ValueError(f"wrong length {len(password)}")

    flask_ops.init_app(app)
    app.test_client().post(
        f"/boom?code={QUERY}",
        headers={
            "X-Request-ID": "req-1",
            "Authorization": "Bearer the-token",
            "Cookie": "session=the-cookie",
        },
        data=b"the-body",
    )
    sentry_sdk.flush(5)
    # The other kind tells of reports left out: the same error arrives by way of the log as well.
    (report,) = [body for body in sentry if b'"type":"event"' in body]
    for expected in (
        b'"request_id":"req-1"',
        b'"release":"r1"',
        b'"environment":"production"',
        b"wrong length",
    ):
        assert expected in report
    for secret in (sample_apps.SECRET.encode(), b"the-token", b"the-cookie", b"the-body", QUERY.encode()):
        assert secret not in report


def test_error_outside_a_request_has_no_request_id(sentry):
    logs.end_request()
    assert init_sentry() is True
    sentry_sdk.capture_message("started")
    sentry_sdk.flush(5)
    event = json.loads(sentry[0].splitlines()[-1])
    assert (event["message"], "request_id" in event.get("tags", {})) == ("started", False)
