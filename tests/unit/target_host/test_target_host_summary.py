"""The summary says what a person needs, whether or not the app answers."""

from __future__ import annotations

import dataclasses

import pytest
from target_host import summary
from target_host.inventory import Host, Inventory


@pytest.fixture
def inventory(tmp_path):
    host = Host("app1", 2201, ("8443:8443",), url="https://inbox.localhost:8443/")
    return Inventory(tmp_path / "t-one", (host,), tmp_path / "state")


def ready(monkeypatch, inventory, status, body):
    (inventory.state_dir / "ca").mkdir(parents=True)
    (inventory.state_dir / "ca/ca.crt").write_text("")
    monkeypatch.setattr(summary, "fetch", lambda url, ca_path: (status, body))


def test_summary_names_the_next_commands_with_the_inventory(inventory):
    said = summary.text(inventory)
    for words in (
        "https://inbox.localhost:8443/",
        f"make down INVENTORY={inventory.path}",
        "make logs",
        "make deploy",
    ):
        assert words in said


def test_ready_app_shows_its_release(inventory, monkeypatch):
    ready(monkeypatch, inventory, 200, b'{"status": "ready", "release": "20260101T000000Z-abcdef0"}')
    assert "ready (HTTP 200), release 20260101T000000Z-abcdef0" in summary.text(inventory)


def test_health_is_asked_for_under_the_apps_prefix(inventory, monkeypatch):
    ready(monkeypatch, inventory, 200, b"{}")
    asked = []
    monkeypatch.setattr(summary, "fetch", lambda url, ca_path: asked.append(url) or (200, b"{}"))
    host = dataclasses.replace(inventory.hosts[0], ops_prefix="/-")
    summary.text(dataclasses.replace(inventory, hosts=(host,)))
    assert asked == ["https://inbox.localhost:8443/-/readyz"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_answer_that_is_not_the_apps_is_shown_by_its_status(inventory, monkeypatch, body):
    ready(monkeypatch, inventory, 502, body)
    assert "no status (HTTP 502)" in summary.text(inventory)


def test_no_answer_is_said_with_the_cause(inventory, monkeypatch):
    def refuse(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    ready(monkeypatch, inventory, 200, b"")
    monkeypatch.setattr(summary, "fetch", refuse)
    assert "no answer: [Errno 111] Connection refused" in summary.text(inventory)


def test_before_the_first_deploy_health_is_not_known(inventory):
    assert "not known" in summary.text(inventory)
