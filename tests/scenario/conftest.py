"""What scenarios deploy: copies of the sample app, each with a change, and apps of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import further_apps
import planting
import pytest
import relaying
from target_host.shell import PROJECT_DIR

APP_DIR = PROJECT_DIR / "app_skeleton/inbox"
HOSTILE = """
app_name: hostile
app_server_names: [hostile.localhost]
app_wsgi: app:app
app_ops_prefix: /-
app_secret_environment: {PAYMENT_KEY: payment_key}
app_required_secrets: [payment_key, sentry_dsn]
app_sentry_traces_sample_rate: 1.0
"""


@pytest.fixture(scope="session")
def copied_app(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that copies the sample app and changes one of its files.

    It takes the file's path in the app, a text in it, and what to put in that text's place.
    """

    def copy(path: str, old: str, new: str) -> Path:
        folder = tmp_path_factory.mktemp("app") / "inbox"
        shutil.copytree(
            APP_DIR, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "build")
        )
        file = folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new))
        return folder

    return copy


@pytest.fixture(scope="session")
def hostile(spare) -> SimpleNamespace:
    """Provision an app that says whatever it is given, with secrets; return it with what Ansible said.

    Ansible runs with all the words it has: what it hides must stay hidden then too.
    """
    planted = {"environment": planting.token(), "DSN": planting.token()}
    more = {
        "app_source": str(Path(__file__).parent / "hostile"),
        "app_secrets": {
            "payment_key": planted["environment"],
            "sentry_dsn": f"http://{planted['DSN']}@127.0.0.1:{planting.INGEST_PORT}/7",
        },
    }
    app = further_apps.declare(spare, HOSTILE, more)
    play = app.provision("-vvv", "--diff")
    return SimpleNamespace(app=app, play=play, planted=planted)


@pytest.fixture(scope="session")
def inboxes(spare) -> dict[str, relaying.Inbox]:
    """Provision the sample app twice, once with each broker; return both by broker, each with its service."""
    found = {broker: relaying.declare(spare, broker) for broker in ("redis", "rabbitmq")}
    for inbox in found.values():
        inbox.app.provision()
        inbox.start_service()
    return found
