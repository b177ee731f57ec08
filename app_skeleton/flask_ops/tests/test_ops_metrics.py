"""What is measured, in one process."""

import gc
import re
import socket
import struct
import weakref

import flask_ops
import metrics_apps
import pytest
from flask import Flask, abort, request
from flask_ops import backlog, process_metrics
from flask_ops.backlog import BacklogUnknown, listen_backlog
from flask_ops.deadline import DeadlineExceeded
from flask_ops.metrics import METHODS, OTHER_METHOD, STATUSES, WsgiMetrics
from flask_sqlalchemy import SQLAlchemy
from metrics_pages import OPENMETRICS, samples, total
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from werkzeug.test import EnvironBuilder


@pytest.fixture
def shop():
    app = Flask("shop")
    app.add_url_rule("/items/<int:item>", "item", lambda item: str(item), methods=["GET", "POST"])
    flask_ops.init_app(app)
    return app


def page_of(app):
    return app.extensions["flask_ops"].metrics.render(None)[0]


def test_one_process_shows_the_same_labels_and_both_formats(shop, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "r7")
    monkeypatch.setenv("FLASK_OPS_SERVICE", "shop-web")
    shop.test_client().get("/items/1")
    page = page_of(shop)
    assert total(page, "flask_http_request_total", release="r7", service="shop-web") == 1
    assert (
        total(page, "flask_http_request_duration_seconds_bucket", le="+Inf", url_rule="/items/<int:item>")
        == 1
    )
    assert total(page, "python_info", release="r7") == 1
    openmetrics, _ = shop.extensions["flask_ops"].metrics.render(OPENMETRICS)
    assert total(page, "flask_http_request_total") == 1
    assert {at for at in samples(openmetrics, parse_openmetrics) if at[0].startswith("flask_")} == {
        at for at in samples(page) if at[0].startswith("flask_")
    }


def test_release_and_revision_are_a_metric(monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "r7")
    monkeypatch.setenv("RELEASE_REVISION", "c0ffee")
    app = Flask("shop")
    ops = flask_ops.init_app(app)
    ops.metrics.exporter.info("app_info", "An app's own, by the same name", edition="small")
    page = page_of(app)
    assert total(page, "app_info", release="r7", revision="c0ffee", service="app") == 1
    assert total(page, "app_info", edition="small") == 1


def test_random_paths_methods_hosts_and_statuses_stay_within_the_bound():
    app = Flask("shop")
    app.add_url_rule("/status/<int:code>", "status", lambda code: ("", code), methods=["GET", "POST"])
    flask_ops.init_app(app)
    client = app.test_client()
    for number in range(2500):
        code = (100, 199, 204, 299, 404, 418, 599, 600, 999, 7)[number % 10]
        client.get(f"/status/{code}?{number}", headers={"Host": f"host-{number}.example"})
        client.open(f"/no/{number}", method=f"VERB{number}" if number % 2 else "PUT")
    page = page_of(app)
    assert total(page, "flask_http_request_total") == 5000
    counts = "flask_http_request_duration_seconds_count"
    durations = [dict(at) for name, *at in samples(page) if name == counts]
    assert {at["url_rule"] for at in durations} == {"/status/<int:code>", "None"}
    assert {at["method"] for at in durations} == {"GET", "PUT", OTHER_METHOD}
    statuses = {at["status"] for at in durations}
    assert statuses == {"100", "1xx", "204", "2xx", "404", "418", "5xx", "other"}
    bound = 2 * (len(METHODS) + 1) * (len(STATUSES) + 6)
    assert len(durations) == 10 <= bound
    lines = [at for at in samples(page) if at[0].startswith("flask_http_request_duration_seconds")]
    assert len(lines) == 10 * (15 + 2)


def test_exporters_decorators_and_exclusions_keep_working():
    app = Flask("shop")
    ops = flask_ops.init_app(app)
    exporter = ops.metrics.exporter

    @app.get("/sold")
    @exporter.counter("sold", "Sold", labels={"status": lambda response: response.status_code})
    def sold():
        return "sold"

    @app.get("/untracked")
    @exporter.do_not_track()
    @exporter.counter("seen", "Seen")
    def untracked():
        raise ValueError

    @app.get("/left-out")
    @exporter.exclude_all_metrics()
    def left_out():
        return "x"

    exporter.excluded_paths = [re.compile("/private/")]
    app.add_url_rule("/private/<name>", "private", lambda name: name)
    exporter.register_default(exporter.histogram("view_seconds", "Views"))
    client = app.test_client()
    for path in ("/sold", "/sold", "/untracked", "/left-out", "/private/a"):
        client.get(path)
    page = page_of(app)
    assert total(page, "sold_total", status="200") == total(page, "flask_http_request_total") == 2
    assert total(page, "seen_total") == 1
    assert total(page, "flask_http_request_exceptions_total") == 0
    assert total(page, "view_seconds_count") == 3
    assert total(page, "flask_exporter_info") == 1


def test_request_is_counted_however_it_ends():
    app = Flask("shop")

    @app.get("/boom")
    def boom():
        raise ValueError

    @app.get("/refused")
    def refused():
        abort(403)

    @app.get("/killed")
    def killed():
        raise SystemExit

    @app.get("/too-late")
    def too_late():
        raise DeadlineExceeded

    @app.errorhandler(403)
    def forbidden(error):
        return "no", 403

    flask_ops.init_app(app)
    client = app.test_client()
    for path in ("/boom", "/refused"):
        client.get(path)
    app.testing = True
    for path, kind in (("/boom", ValueError), ("/killed", SystemExit), ("/too-late", DeadlineExceeded)):
        with pytest.raises(kind):
            client.get(path)
    page = page_of(app)
    by_rule = {
        dict(at)["url_rule"]: (dict(at)["status"], value)
        for (name, *at), value in samples(page).items()
        if name == "flask_http_request_duration_seconds_count"
    }
    assert by_rule == {
        "/boom": ("500", 2),
        "/refused": ("403", 1),
        "/killed": ("500", 1),
        "/too-late": ("503", 1),
    }
    assert total(page, "flask_http_request_exceptions_total", method="GET", status="500") == 2


def ask(app, method="GET"):
    """Ask a WSGI app and return its body, piece by piece."""
    return app({"REQUEST_METHOD": method, "PATH_INFO": "/"}, lambda *answer: None)


def test_wsgi_app_is_measured_without_routes_and_before_the_client_sees_the_answer():
    measures = WsgiMetrics()
    body = iter(ask(measures.measure(metrics_apps.late), "FROB"))
    assert next(body) == b"late"
    labels = {"method": OTHER_METHOD, "status": "202"}
    assert total(measures.render(None)[0], "flask_http_request_total", **labels) == 1
    assert list(body) == []
    assert (
        total(measures.render(None)[0], "flask_http_request_duration_seconds_count", url_rule="", **labels)
        == 1
    )


def test_wsgi_app_that_fails_in_its_body_is_counted_and_closed():
    closed = []

    class Body:
        def __iter__(self):
            raise LookupError("no body")

        def close(self):
            closed.append(True)

    measures = WsgiMetrics()
    answer = ask(measures.measure(lambda environ, start_response: Body()))
    with pytest.raises(LookupError):
        list(answer)
    answer.close()
    assert closed == [True]
    assert list(ask(measures.measure(lambda environ, start_response: []))) == []
    assert total(measures.render(None)[0], "flask_http_request_total", status="500") == 2


def test_request_through_two_measured_layers_is_counted_by_the_inner_one(shop):
    outer = WsgiMetrics()
    shop.wsgi_app = outer.measure(shop.wsgi_app)
    shop.test_client().get("/items/1")
    assert total(page_of(shop), "flask_http_request_total") == 1
    assert total(outer.render(None)[0], "flask_http_request_total") == 0


def test_answer_of_a_layer_around_the_app_is_counted_without_a_route(shop):
    def refuse(environ, start_response):
        start_response("403 Forbidden", [])
        return []

    measures = shop.extensions["flask_ops"].metrics
    ask(measures.measure(refuse))
    shop.test_request_context("/items/1")
    counts = "flask_http_request_duration_seconds_count"
    assert total(page_of(shop), counts, url_rule="None", status="403") == 1


def test_measured_request_is_freed_without_the_garbage_collector(shop):
    seen = []
    shop.before_request(lambda: seen.append(weakref.ref(request._get_current_object())))
    gc.disable()
    try:
        answer = shop.wsgi_app(EnvironBuilder("/items/1").get_environ(), lambda *answer: None)
        answer.close()
        del answer
        assert [kept() for kept in seen] == [None]
    finally:
        gc.enable()


def test_two_apps_keep_two_sets_of_metrics(shop):
    other = Flask("other")
    flask_ops.init_app(other)
    shop.test_client().get("/items/1")
    assert total(page_of(shop), "flask_http_request_total") == 1
    assert total(page_of(other), "flask_http_request_total") == 0


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_listen_queue_and_its_limit_are_the_kernels(family, tmp_path):
    address = str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0)
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen(7)
        assert listen_backlog(listener) == (0, 7)
        clients = [socket.socket(family) for _ in range(3)]
        for client in clients:
            client.connect(listener.getsockname())
        assert listen_backlog(listener) == (3, 7)
        for client in clients:
            client.close()


def test_listen_queue_that_cannot_be_seen_is_absent(tmp_path, monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as no_listener, pytest.raises(BacklogUnknown):
        listen_backlog(no_listener)
    with pytest.raises(BacklogUnknown, match="type 2"):  # an error: no socket has this inode
        backlog._unix(1)
    with pytest.raises(BacklogUnknown, match="no queue length"):
        backlog._queue_in(struct.pack("=IHHIIxxxxIIIHHI", 40, 20, 0, 1, 0, 0, 0, 0, 8, 9, 0))
    with socket.socket(socket.AF_UNIX) as listener:
        # What a unit without AF_NETLINK in RestrictAddressFamilies gets: no such family.
        monkeypatch.setattr(backlog.socket, "AF_NETLINK", socket.AF_APPLETALK)
        with pytest.raises(BacklogUnknown):
            listen_backlog(listener)
        settings = type("Settings", (), {"threads": 1})
        worker = type("Worker", (), {"sockets": [listener], "cfg": settings})
        monkeypatch.setattr(process_metrics, "registry", CollectorRegistry())
        sampler = process_metrics.Sampler(worker, gevent=False)
        sampler.sample()
        sampler.sample()
        names = {metric.name for metric in process_metrics.registry.collect()}
    assert "flask_ops_in_flight_requests" in names
    assert "flask_ops_listen_backlog" not in names


def test_pool_use_is_seen_for_every_database_with_a_pool(tmp_path):
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    app.config["SQLALCHEMY_BINDS"] = {
        "big": {"url": f"sqlite:///{tmp_path}/big.sqlite", "pool_size": 3, "max_overflow": 2},
        "memory": "sqlite://",
    }
    db.init_app(app)
    with app.app_context(), db.engines["big"].connect():
        use = {(pool, state): number for pool, state, number in process_metrics.pool_use(app)}
    assert use[("big", "checked_out")] == 1
    assert (use[("big", "size")], use[("big", "limit")], use[("default", "idle")]) == (3, 5, 0)
    assert not any(pool == "memory" for pool, _ in use)
    assert list(process_metrics.pool_use(Flask("none"))) == []
