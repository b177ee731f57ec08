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
app_allowed_networks: [192.0.2.0/24]
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

    Ansible runs with all the words it has: what it hides must stay hidden then too, and where it fails.
    """
    # Every name that a secret of an inventory can have a meaning under.
    names = ("secret_key", "database_password", "redis_password", "broker_password")
    planted = {name: planting.token() for name in ("environment", "DSN", "former key", "older key", *names)}
    more = {
        "app_source": str(Path(__file__).parent / "hostile"),
        "app_secrets": {
            **{name: planted[name] for name in names},
            "payment_key": planted["environment"],
            "sentry_dsn": f"http://{planted['DSN']}@127.0.0.1:{planting.INGEST_PORT}/7",
            "secret_key_fallbacks": [planted["former key"], planted["older key"]],
        },
    }
    app = further_apps.declare(spare, HOSTILE, more)
    words = ("-vvv", "--diff")
    plays = {"site": app.provision(*words), "deploy": app.play("deploy", *words).ok()}
    folder = f"/etc/{app.name}/credentials.encrypted"
    spare.sudo(f"mv {folder} {folder}.kept && touch {folder}")
    plays["failure"] = app.play(
        "site", *words, "--tags=app", label="site.yml that cannot write its credentials"
    )
    spare.sudo(f"rm -rf {folder} && mv {folder}.kept {folder}")
    return SimpleNamespace(app=app, plays=plays, planted=planted)


@pytest.fixture(scope="session")
def inboxes(spare, request) -> dict[str, relaying.Inbox]:
    """Provision the sample app with each broker, RabbitMQ with `--long` alone; return all, by broker."""
    brokers = ("redis", "rabbitmq") if request.config.getoption("--long") else ("redis",)
    found = {broker: relaying.declare(spare, broker) for broker in brokers}
    for inbox in found.values():
        inbox.app.provision()
        inbox.start_service()
    return found
