"""A host that is switched off and on comes back by itself."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from observing import failed_units, status_of, units_of, units_up
from testbed import durations
from testbed.sites import until

pytestmark = pytest.mark.every_release


@pytest.fixture(scope="module")
def restarted(site):
    """Restart the host and return what was before."""
    word = f"before the restart {secrets.token_hex(6)}"
    site.sudo(f"logger -t tests-scenario '{word}'; journalctl --sync")
    before = status_of(site)["active"]
    with durations.measured(f"{site.name} restart until the app is ready"):
        site.restart()
        assert until(30, lambda: site.web.get("/readyz").status == 200), site.web.get("/readyz")
    return SimpleNamespace(active=before, word=word)


def test_restarted_host_serves_the_active_release(site, restarted):
    assert site.web.get("/readyz").json() == {"status": "ready", "release": restarted.active}
    assert site.web.get("/auth/sign-in").status == 200


def test_restarted_host_has_no_failed_unit(site, restarted):
    assert failed_units(site) == ""
    assert site.host.run("systemctl is-system-running").stdout.strip() == "running"


def test_restarted_host_runs_the_active_release_alone(site, restarted):
    assert units_up(site) == units_of(site.app, restarted.active)
    assert status_of(site)["problems"] == []


def test_restarted_host_still_has_its_journal(site, restarted):
    assert restarted.word in site.sudo("journalctl --no-pager --output=cat -t tests-scenario")


def test_restarted_host_has_its_kernel_settings(site, restarted):
    assert str(site.host.sysctl("net.core.somaxconn")) == "4096"
