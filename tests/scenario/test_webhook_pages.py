"""Flower for admins alone and for reading alone; the API is what its document says."""

from __future__ import annotations

import secrets
import subprocess

import pytest
from target_host.shell import PROJECT_DIR
from testbed.sites import until

APP_PYTHON = PROJECT_DIR / ".cache/app-venv/bin/python"
CONFORMANCE = PROJECT_DIR / "app_skeleton/inbox/tests/conformance.py"
CONFORMANCE_SECONDS = 40
# Names below localhost are nobody's to resolve on every machine; the host's ports are on the loopback.
RUN = """
import runpy, socket, sys

resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **options: resolve("127.0.0.1", *more, **options)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What changes something, as Flower's own API has it.
COMMANDS = (
    "worker/shutdown",
    "worker/pool/grow",
    "worker/queue/cancel-consumer",
    "task/revoke",
    "task/send-task",
)


@pytest.fixture(scope="module")
def inbox(inboxes):
    return inboxes["redis"]


@pytest.fixture(scope="module")
def admin(inbox):
    """Return the header of an admin's session."""
    return inbox.signed_in()


def test_operator_lets_somebody_in_by_the_apps_own_command(inbox):
    """With the settings, secrets and account of the units; the password goes by the standard input alone."""
    run = f"releasectl --app {inbox.app.name} run flask --app inbox users"
    password = secrets.token_hex(16)
    add = f"{run} add viewer@example.org --role viewer --password-file -"
    assert "viewer@example.org" in inbox.site.sudo(add, stdin=f"{password}\n".encode())
    listed = inbox.site.sudo(f"{run} list")
    assert {"viewer@example.org", "admin@localhost"} <= set(listed.split()), listed
    refused = inbox.site.sudo(f"{run} disable admin@localhost || echo exit $?")
    assert "exit 1" in refused, refused


def test_flower_sends_strangers_to_the_sign_in(inbox):
    for path in ("/flower/", "/flower/workers", "/flower/api/workers"):
        answer = inbox.app.web.get(path)
        assert answer.status == 302, answer.text[:500]
        sign_in = f"https://{inbox.app.web.host_header}/auth/sign-in?next=/flower/"
        assert answer.headers["Location"] == sign_in


def test_flower_shows_an_admin_the_worker(inbox, admin):
    answer = inbox.app.web.get("/flower/workers", headers=admin)
    assert answer.status == 200, answer.text[:500]
    name = f"{inbox.app.name}-{inbox.app.active}@"
    assert until(30, lambda: name in inbox.app.web.get("/flower/workers", headers=admin).text, 1), (
        inbox.app.web.get("/flower/workers", headers=admin).text[-3000:]
    )


def test_flower_changes_nothing_for_an_admin(inbox, admin):
    before = inbox.processes("worker")
    for command in COMMANDS:
        answer = inbox.app.web.request(
            "POST", f"/flower/api/{command}/{inbox.app.name}", headers=admin, body=b"n=1"
        )
        assert answer.status in (403, 405), (command, answer.status, answer.text[:500])
    assert inbox.processes("worker") == before


def test_flower_is_not_for_viewers(inbox, admin):
    inbox.query("update user_account set role = 'viewer'")
    try:
        assert inbox.app.web.get("/flower/", headers=admin).status == 403
    finally:
        inbox.query("update user_account set role = 'admin'")
    assert inbox.app.web.get("/flower/", headers=admin).status == 200


def test_deployed_api_answers_as_its_document_says(inbox, tmp_path):
    """Schemathesis asks it whatever the document allows, and what it does not."""
    assert APP_PYTHON.exists(), "make test-fast makes the app's environment"
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(inbox.sender.bearer()["Authorization"].removeprefix("Bearer "))
    url = f"https://{inbox.app.web.name}:{inbox.app.web.https_port}"
    words = [APP_PYTHON, "-c", RUN, CONFORMANCE, url, f"--seconds={CONFORMANCE_SECONDS}"]
    words += ["--token-file", token, "--ca-file", inbox.app.web.ca_path]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=3 * CONFORMANCE_SECONDS, cwd=tmp_path
    )
    inbox.site.say(f"{inbox.site.name} conformance: {done.stdout.strip()[-500:]}")
    assert done.returncode == 0, f"{done.stderr[-8000:]}"
