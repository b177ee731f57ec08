"""An app with a page of its own at /version: the operators' pages stand behind a prefix, and hide nothing."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def app(hostile):
    return hostile.app


def test_app_keeps_its_own_page(app):
    assert app.web.get("/version").text == "the app's own version"
    assert app.web.get("/readyz").status == 404


def test_operators_pages_stand_behind_the_prefix(app):
    assert app.web.get("/-/version").json()["release"] == app.active
    assert app.web.get("/-/readyz").json() == {"status": "ready", "release": app.active}
    assert app.web.get("/-/metrics").status == 404


def test_internal_listener_has_the_same_names_for_every_app(app):
    assert json.loads(app.internal("version"))["release"] == app.active
    assert json.loads(app.internal("readyz"))["status"] == "ready"
    assert "flask_http_request_duration_seconds" in app.internal("metrics")


def test_load_balancer_may_ask_without_tls(app):
    assert app.web.get("/-/readyz", plain=True).status == 200
    assert app.web.get("/-/livez", plain=True).status == 200
    redirect = app.web.get("/version?a=1", plain=True)
    assert (redirect.status, redirect.headers["Location"]) == (
        308,
        f"https://{app.web.host_header}/version?a=1",
    )
