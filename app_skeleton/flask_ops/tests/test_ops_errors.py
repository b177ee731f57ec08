import logging
import secrets
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import flask_ops
import pytest
import sample_apps
import sentry_sdk
import structlog
from flask import Flask
from flask_ops import logs, request_id, sentry_events
from flask_ops.errors import QUEUE_SIZE, TRACES_RATE, _sampler, init_sentry
from flask_ops.settings import SettingError
from flask_ops.testing import GunicornServer
from sentry_ingest import Ingest

# Up here, because a report quotes the lines around the failing one.
QUERY = "the-query"
HERE = str(Path(__file__).parent)


@pytest.fixture
def ingest():
    with Ingest() as server:
        yield server


@pytest.fixture
def sentry(ingest, monkeypatch, tmp_path):
    """A Sentry whose DSN is this process' credential."""
    use(ingest.dsn, monkeypatch, tmp_path)
    yield ingest
    forget()


def use(dsn, monkeypatch, folder):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    (folder / "app_sentry_dsn").write_text(f"{dsn}\n")


def forget():
    sentry_sdk.get_client().close(0)
    sentry_sdk.init(auto_enabling_integrations=False)  # would import whatever is installed


def crashing():
    app = Flask("shop")

    @app.route("/boom", methods=["GET", "POST"])
    def boom():
        password = sample_apps.SECRET
        raise ValueError(f"wrong length {len(password)}")

    flask_ops.init_app(app)
    return app.test_client()


def test_without_a_dsn_nothing_is_sent():
    assert init_sentry() is False


def test_error_is_reported_with_release_and_request_id_and_no_secret(sentry, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "r1")
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("FLASK_OPS_SERVICE", "shop-web")
    crashing().post(
        f"/boom?code={QUERY}",
        headers={
            "X-Request-ID": "req-1",
            "Authorization": "Bearer the-token",
            "X-Nobody-Knows": "the-other-token",
            "Cookie": "session=the-cookie",
        },
        environ_base={"REMOTE_ADDR": "192.0.2.77"},
        data=b"the-body",
    )
    (event,) = sentry.wait_for("event")
    assert (event["release"], event["environment"]) == ("r1", "production")
    assert event["tags"] == {"request_id": "req-1", "service": "shop-web"}
    assert event["exception"]["values"][-1]["value"].startswith("wrong length")
    for secret in ("the-token", "the-other-token", "the-cookie", "the-body", QUERY, "192.0.2.77"):
        assert secret.encode() not in b"".join(sentry.raw)
    assert sample_apps.SECRET.encode() not in b"".join(sentry.raw)


def test_error_outside_a_request_has_no_request_id(sentry):
    request_id.end_request()
    assert init_sentry() is True
    sentry_sdk.capture_message("started")
    (event,) = sentry.wait_for("event")
    assert (event["message"], event["tags"]) == ("started", {"service": "app"})


def test_logged_error_is_reported_by_its_words_and_fields(sentry):
    init_sentry()
    logging.config.dictConfig(logs.dict_config("info"))
    structlog.get_logger("shop").info("sold", price=3)
    structlog.get_logger("shop").error("sold out", article="tea", password="hunter2-hunter2")
    (event,) = sentry.wait_for("event")
    assert event["logentry"]["message"] == "sold out"
    assert event["extra"]["article"] == "tea"
    assert "sold" in [crumb["message"] for crumb in event["breadcrumbs"]["values"]]
    assert b"hunter2" not in b"".join(sentry.raw)


def test_second_app_of_a_process_keeps_the_client(sentry):
    assert init_sentry() is True
    client = sentry_sdk.get_client()
    assert init_sentry() is True
    assert sentry_sdk.get_client() is client


def test_library_that_sentry_cannot_look_into_stops_nothing(sentry, monkeypatch):
    monkeypatch.setitem(sys.modules, "huey", ModuleType("huey"))  # one that lacks what is looked for
    assert init_sentry() is True
    assert "flask" in sentry_sdk.get_client().integrations


@pytest.mark.parametrize("rate", ["2", "-1", "often"])
def test_rate_of_traces_that_is_no_rate_is_refused(sentry, monkeypatch, rate):
    monkeypatch.setenv(TRACES_RATE, rate)
    with pytest.raises(SettingError, match=TRACES_RATE):
        init_sentry()


def test_operators_pages_are_never_traced_and_callers_decide_for_their_own_traces(monkeypatch):
    monkeypatch.setenv("FLASK_OPS_PREFIX", "/-")
    sample = _sampler(0.25)
    page = {"wsgi_environ": {"PATH_INFO": "/-/readyz"}, "parent_sampled": True}
    assert sample(page) == 0
    assert sample({"wsgi_environ": {"PATH_INFO": "/readyz"}, "parent_sampled": None}) == 0.25
    assert sample({"parent_sampled": True}) == 1
    assert sample({"parent_sampled": False}) == 0


def test_what_an_app_did_before_an_error_is_told_without_its_secrets():
    secret = secrets.token_urlsafe(12)
    event = {
        "user": {"id": 7, "ip_address": "192.0.2.77"},
        "extra": {"order": {"api_key": secret}},
        "breadcrumbs": {
            "values": [
                {"category": "httplib", "data": {"url": "http://x/", "http.query": secret, "status": 200}},
                {"category": "subprocess", "message": f"curl {secret}", "data": {}},
                {"category": "query", "message": "SELECT 1", "data": {"db.params": [secret]}},
                {"category": "log", "message": f"Authorization: Bearer {secret}"},
            ]
        },
        "spans": [
            {"op": "http.client", "description": f"GET http://x/?token={secret}"},
            {"op": "subprocess", "description": f"curl {secret}"},
        ],
        "_meta": {"request": {"headers": {"Cookie": {"": {"rem": []}}}}},
    }
    told = sentry_events.scrubbed(event, {}, {"request_id": None})
    assert secret not in str(told)
    assert told["user"] == {"id": 7}
    assert [crumb.get("message") for crumb in told["breadcrumbs"]["values"]][1:3] == ["curl", "SELECT 1"]
    assert told["breadcrumbs"]["values"][0]["data"] == {"url": "http://x/", "status": 200}


@pytest.mark.parametrize("how", ["answers 429", "answers 500", "refuses", "never answers"])
def test_sentry_in_trouble_costs_neither_a_request_nor_the_end(monkeypatch, tmp_path, how):
    status = {"answers 429": 429, "answers 500": 500, "never answers": None}.get(how, 200)
    with Ingest(status) as ingest:
        if how == "refuses":
            ingest.stop()
        use(ingest.dsn, monkeypatch, tmp_path)
        client = crashing()
        longest = longest_of(30, lambda: client.get("/boom").status_code)
        began = time.monotonic()
        sentry_sdk.get_client().close()  # as the end of the process does
        took = time.monotonic() - began
        forget()
    assert longest < 3  # where it waits, it waits for five seconds
    assert took < 10


def test_sentry_that_is_away_is_told_of_once(monkeypatch, tmp_path):
    with Ingest() as ingest:
        ingest.stop()
        use(ingest.dsn, monkeypatch, tmp_path)
        settings = {TRACES_RATE: "1", "PYTHONPATH": HERE}
        with GunicornServer("tracing_apps:app", **settings) as server:
            longest_of(20, lambda: server.get("/boom")[0].status)
            assert server.stop(signal.SIGTERM) == 0
            lines = server.logs()
    assert [line["event"] for line in lines if "retry" in str(line).lower()] == []
    told = [line for line in lines if line["event"] == "reports do not reach Sentry and are dropped"]
    assert [line["reason"] for line in told] == ["network"]


def longest_of(count, get):
    """Return how long the longest of so many requests took; each must fail by its own fault alone."""
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        assert get() == 500
        longest = max(longest, time.monotonic() - began)
    return longest


def test_sentry_that_never_answers_delays_no_request_under_gevent_and_the_end_by_two_seconds(
    monkeypatch, tmp_path
):
    with Ingest(None) as ingest:
        use(ingest.dsn, monkeypatch, tmp_path)
        with GunicornServer("tracing_apps:app", PYTHONPATH=HERE) as server:
            # More than its queue holds.
            longest = longest_of(QUEUE_SIZE + 10, lambda: server.get("/boom")[0].status)
            assert ingest.raw  # it did take the first
            began = time.monotonic()
            assert server.stop(signal.SIGTERM) == 0
            stopped_after = time.monotonic() - began
            (waited,) = [line for line in server.logs() if line["event"].startswith("waiting for Sentry")]
    assert longest < 3
    assert stopped_after < 10
    assert waited["at_most_seconds"] == 2


def test_unmodified_app_is_traced_and_its_health_pages_are_not(ingest, monkeypatch, tmp_path):
    use(ingest.dsn, monkeypatch, tmp_path)
    settings = {TRACES_RATE: "1", "RELEASE_ID": "r1", "FLASK_OPS_SERVICE": "shop-web", "PYTHONPATH": HERE}
    with GunicornServer("tracing_apps:app", **settings) as server:
        server.get("/readyz")
        server.get("/boom?x=1", {"X-Request-ID": "req-1"})
        server.get("/metrics")
        server.get("/", {"X-Request-ID": "req-2"})
        transactions = ingest.wait_for("transaction", 2)
        (event,) = ingest.wait_for("event")
    found = {(one["transaction"], one["tags"]["request_id"], one["release"]) for one in transactions}
    assert found == {("boom", "req-1", "r1"), ("index", "req-2", "r1")}
    assert event["tags"] == {"service": "shop-web", "request_id": "req-1"}
    # Nobody's request: the sender was started by one, and must not go on in its name.
    assert not any(b"x-request-id" in raw.partition(b"\n\n")[0].lower() for raw in ingest.raw)
