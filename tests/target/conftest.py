"""One provisioned host of each Debian release, looked at and left as it is."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def host(site):
    """Return the host as Testinfra sees it, as root."""
    return site.host


@pytest.fixture
def app(site):
    return site.app


@pytest.fixture
def web(site):
    return site.web


@pytest.fixture
def status(site):
    """Return releasectl's own words about the host."""
    return json.loads(site.sudo(f"releasectl --app {site.app} --json status"))


@pytest.fixture
def active(status):
    """Return the id of the active release."""
    assert status["active"], status
    return status["active"]
