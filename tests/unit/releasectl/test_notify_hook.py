"""The hook that comes with the project tells those it has a credential for, and shows no secret."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

NOTIFY = Path(__file__).parents[3] / "roles/app/files/hooks/notify"
TOKEN = "k" + os.urandom(8).hex()


@pytest.fixture
def tools():
    """A server that stands for all of them: what it was sent, and the status it answers with."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.got.append((self.path, self.headers["Authorization"], body))
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.status = [], 200
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def notify(tools, tmp_path):
    def run(point, credentials, **settings):
        for name, value in credentials.items():
            (tmp_path / f"app_{name}").write_text(value + "\n")
        told = {
            "POINT": point,
            "APP": "shop",
            "RELEASE": "r2",
            "PREVIOUS": "r1",
            "BY": "ada",
            "CAUSE": "boom",
        }
        return subprocess.run(
            [sys.executable, NOTIFY],
            env={
                "CREDENTIALS_DIRECTORY": str(tmp_path),
                **{f"RELEASECTL_{name}": value for name, value in told.items()},
                **settings,
            },
            capture_output=True,
            text=True,
            timeout=30,
        )

    return run


def test_each_tool_is_told_of_a_deploy_in_its_own_form(tools, notify):
    held = {"slack_webhook_url": f"{tools.url}/{TOKEN}", "sentry_auth_token": TOKEN, "grafana_token": TOKEN}
    settings = {
        "SENTRY_URL": tools.url,
        "SENTRY_ORG": "acme",
        "SENTRY_PROJECT": "web",
        "GRAFANA_URL": tools.url,
    }
    assert notify("deployed", held, **settings).returncode == 0
    line, bearer = "shop: r2 serves, before: r1, by ada", f"Bearer {TOKEN}"
    assert tools.got == [
        (f"/{TOKEN}", None, {"text": line}),
        ("/api/0/organizations/acme/releases/", bearer, {"version": "r2", "projects": ["web"]}),
        ("/api/0/organizations/acme/releases/r2/deploys/", bearer, {"environment": "production"}),
        ("/api/annotations", bearer, {"text": line, "tags": ["deploy", "shop", "deployed"]}),
    ]


@pytest.mark.parametrize(
    ("point", "line"),
    [
        ("failed", "shop: r2 failed, tried by ada: boom"),
        ("rolled_back", "shop: back on r2 from r1, by ada"),
    ],
)
def test_other_ends_are_told_in_other_words(tools, notify, point, line):
    notify(point, {"slack_webhook_url": tools.url})
    assert [body["text"] for _, _, body in tools.got] == [line]


def test_who_has_no_credential_is_not_told(tools, notify):
    assert notify("deployed", {}).returncode == 0
    assert tools.got == []


def test_one_that_refuses_keeps_no_other_from_being_told_and_no_secret_is_shown(tools, notify):
    tools.status = 403
    held = {"slack_webhook_url": f"{tools.url}/{TOKEN}", "sentry_auth_token": TOKEN, "grafana_token": TOKEN}
    done = notify("deployed", held, GRAFANA_URL=f"http://127.0.0.1:1/{TOKEN}")
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "slack: HTTP status 403",
        "sentry: KeyError",
        "grafana: URLError",
    ]
    assert TOKEN not in done.stdout + done.stderr


def test_address_that_is_none_is_not_opened(notify):
    done = notify("deployed", {"slack_webhook_url": "file:///etc/hostname"})
    assert (done.returncode, done.stdout) == (1, "slack: ValueError\n")
