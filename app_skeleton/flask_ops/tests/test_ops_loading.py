"""Apps of any shape, as they come: wrapped, behind a prefix, with routes of the operators' names."""

import json

import flask
import pytest
from flask_ops import extension, loading, operators_pages
from flask_ops.health import Check
from flask_ops.middleware import OpsMiddleware
from flask_ops.settings import SettingError
from structlog.testing import capture_logs
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client


def plain_app(**routes):
    app = flask.Flask("plain")
    app.add_url_rule("/", "index", lambda: "plain")
    for name, rule in routes.items():
        app.add_url_rule(rule, name, lambda **_: "the app's own")
    return app


def closure(app):
    def layer(environ, start_response):
        return app(environ, start_response)

    return layer


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: app,
        lambda app: app.wsgi_app,
        ProxyFix,
        closure,
        lambda app: DispatcherMiddleware(ProxyFix(app)),
        lambda app: DispatcherMiddleware(closure(raw), {"/shop": closure(app)}),
    ],
)
def test_flask_app_is_found_through_its_layers(wrap):
    app = plain_app()
    assert loading.find_flask(wrap(app)) is app


def raw(environ, start_response):
    start_response("200 OK", [])
    return [b"raw"]


def test_no_app_is_chosen_where_there_is_none_or_more_than_one():
    assert loading.find_flask(raw) is None
    assert loading.find_flask(DispatcherMiddleware(plain_app(), {"/other": plain_app()})) is None


def test_wrapped_app_is_served_with_its_layers_and_measured_by_its_routes():
    app = plain_app()
    operable = loading.make_operable(DispatcherMiddleware(raw, {"/shop": app}))
    assert isinstance(operable, OpsMiddleware)
    client = Client(operable)
    assert client.get("/").text == "raw"
    assert client.get("/shop/").text == "plain"
    assert client.get("/livez").json["status"] == "alive"
    assert 'url_rule="/"' in client.get("/metrics").text


def test_app_that_is_operable_already_is_served_as_it_is():
    app = plain_app()
    extension.init_app(app)
    layered = ProxyFix(app)
    assert loading.make_operable(layered) is layered
    assert loading.make_operable(app) is app


def test_pages_move_behind_the_prefix_and_free_their_names(monkeypatch):
    monkeypatch.setenv(operators_pages.VARIABLE, "/-/ops")
    client = Client(loading.make_operable(plain_app(livez="/livez")))
    assert client.get("/livez").text == "the app's own"
    assert client.get("/-/ops/livez").json["status"] == "alive"
    assert client.get("/-/ops/metrics").status_code == 200
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("text", ["ops", "/ops/", "/", "/a b", "/a//b", "/%2e"])
def test_prefix_that_is_no_path_is_refused(monkeypatch, text):
    monkeypatch.setenv(operators_pages.VARIABLE, text)
    with pytest.raises(SettingError, match=operators_pages.VARIABLE):
        operators_pages.prefix()


def test_hidden_route_is_reported_with_the_setting_that_frees_it():
    with capture_logs() as lines:
        loading.make_operable(plain_app(state="/metrics", page="/<name>", item="/items/<int:item>"))
    hidden = next(line for line in lines if line["log_level"] == "warning")
    assert hidden["routes"] == {"/metrics": "state"}
    assert operators_pages.VARIABLE in hidden["advice"]
    assert next(line for line in lines if "also match" in line["event"])["routes"] == ["/<name>"]


def test_app_without_clashes_reports_none():
    with capture_logs() as lines:
        loading.make_operable(plain_app(item="/items/<int:item>"))
    assert not [line for line in lines if "operators' pages" in line["event"]]


def test_app_sees_its_clients_address_over_the_unix_socket():
    app = flask.Flask("address")
    app.add_url_rule("/", "index", lambda: str(flask.request.remote_addr))
    client = Client(loading.make_operable(app))
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    assert client.get("/", headers=forwarded, environ_base={"REMOTE_ADDR": ""}).text == "198.51.100.7"
    # Over TCP the peer may be anybody, and what it claims is no evidence.
    assert client.get("/", headers=forwarded, environ_base={"REMOTE_ADDR": "192.0.2.1"}).text == "192.0.2.1"


def test_pages_answer_whatever_the_host_and_scheme(monkeypatch):
    app = plain_app()
    app.config.update(TRUSTED_HOSTS=["www.example.org"], SERVER_NAME="www.example.org")
    app.before_request(
        lambda: flask.redirect("https://www.example.org/") if flask.request.scheme == "http" else None
    )
    client = Client(loading.make_operable(app))
    for base in ("http://10.0.0.9", "https://elsewhere.example", "http://www.example.org"):
        for page in ("livez", "readyz", "startupz", "version"):
            assert client.get(f"/{page}", base_url=base).status_code == 200, (base, page)


def test_declared_checks_join_those_of_the_app(monkeypatch):
    monkeypatch.setenv("FLASK_OPS_CHECKS", '[{"check": "disk", "path": "/", "minimum_free_percent": 0}]')
    app = plain_app()
    extension.init_app(app, checks=[Check("mine", lambda: None)])
    answer = Client(app).get("/readyz", environ_base={"REMOTE_ADDR": "", "HTTP_X_OPS_INTERNAL": "1"})
    assert [check["id"] for check in json.loads(answer.text)["checks"]] == ["mine", "disk"]
    assert answer.status_code == 200
