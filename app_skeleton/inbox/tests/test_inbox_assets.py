"""Static files: an address for each content, answered by the app itself where no nginx stands in front."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import flask_ops
import pytest
from flask import Flask, render_template_string, url_for
from inbox import assets
from werkzeug.middleware.proxy_fix import ProxyFix

CSS = b"a { color: red }\n" * 100
HASHED = f"inbox.{hashlib.sha256(CSS).hexdigest()[:12]}.css"


@pytest.fixture
def source(tmp_path):
    """Return the static folder as it is in the source, which Flask serves."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "inbox.css").write_bytes(CSS)
    (folder / "deep/b.js").write_bytes(b"b")
    return folder


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Return the static folder of a release, which the environment names."""
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("inbox.css", HASHED):
        (folder / name).write_bytes(CSS)
        (folder / f"{name}.gz").write_bytes(gzip.compress(CSS))
    (folder / "icon.svg").write_bytes(b"<svg/>")
    (folder / "manifest.json").write_text(json.dumps({"inbox.css": HASHED}))
    monkeypatch.setenv("RELEASE_STATIC_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_release(monkeypatch):
    monkeypatch.delenv("RELEASE_STATIC_DIR", raising=False)
    monkeypatch.delenv("RELEASE_ID", raising=False)


def make(source: Path, *, debug: bool = False) -> Flask:
    """Return an app as the factory makes one: proxy, static files, flask_ops."""
    app = Flask("small", static_folder=str(source), static_url_path="/static")
    app.debug = debug
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)
    assets.init_app(app)

    @app.get("/page")
    def page() -> str:
        return render_template_string("{{ url_for('static', filename='inbox.css') }} {{ release }}")

    flask_ops.init_app(app)
    return app


def address(app: Flask, filename: str, **values: str) -> str:
    with app.test_request_context():
        return url_for("static", filename=filename, **values)


def test_release_gives_addresses_of_hashed_names(source, released, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "20260901T120000Z-abcdef0")
    app = make(source)
    assert address(app, "inbox.css") == f"/static/{HASHED}"
    # What the build gave no other name, and what is nowhere, keep theirs.
    assert address(app, "icon.svg") == "/static/icon.svg"
    assert address(app, "absent.css") == "/static/absent.css"
    assert app.test_client().get("/page").text == f"/static/{HASHED} 20260901T120000Z-abcdef0"


def test_hashed_name_is_answered_for_ever_and_plain_one_for_an_hour(source, released):
    client = make(source).test_client()
    answer = client.get(f"/static/{HASHED}")
    assert (answer.status_code, answer.data) == (200, CSS)
    assert answer.headers["Content-Type"] == 'text/css; charset="utf-8"'
    assert answer.cache_control.max_age == 31_536_000
    assert answer.cache_control.immutable
    plain = client.get("/static/inbox.css")
    assert (plain.status_code, plain.data, plain.cache_control.max_age) == (200, CSS, 3600)
    assert not plain.cache_control.immutable
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("name", [HASHED, "inbox.css"])
def test_compressed_body_of_the_build_is_sent_to_those_who_can_read_it(source, released, name):
    client = make(source).test_client()
    answer = client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.data == (released / f"{name}.gz").read_bytes()
    assert client.get(f"/static/{name}").data == CSS


def test_file_that_has_not_changed_is_not_sent_again(source, released):
    client = make(source).test_client()
    tag = client.get("/static/inbox.css").headers["ETag"]
    again = client.get("/static/inbox.css", headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")


def test_static_answer_has_a_request_id_and_counts_without_a_route(source, released):
    app = make(source)
    client = app.test_client()
    answer = client.get(f"/static/{HASHED}", headers={"X-Request-ID": "req-1"})
    assert answer.headers["X-Request-ID"] == "req-1"
    assert answer.headers["X-Release"] == "dev"
    client.get("/page")
    metrics = client.get("/metrics", headers={"X-Ops-Internal": "1"}).text
    counted = re.findall(r"request_duration_seconds_count\{(.*)\} (\S+)", metrics)
    assert {(re.search(r'url_rule="([^"]*)"', labels)[1], count) for labels, count in counted} == {
        ("None", "1.0"),
        ("/page", "1.0"),
    }


def test_health_is_answered_in_front_of_static_files(source, released):
    client = make(source).test_client()
    assert client.get("/livez").json["status"] == "alive"
    assert client.get("/readyz").json["status"] == "ready"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../manifest.json",
        "/static/%2e%2e/source/inbox.css",
        "/static/inbox.0123456789ab.css",
        "/static/",
    ],
)
def test_what_is_not_among_the_files_is_not_found(source, released, path):
    assert make(source).test_client().get(path).status_code == 404


def test_nothing_is_written_below_static(source, released):
    assert make(source).test_client().post(f"/static/{HASHED}").status_code == 405


def test_files_are_known_at_the_start_and_none_later(source, released):
    app = make(source)
    (released / "later.css").write_bytes(CSS)
    (released / "manifest.json").write_text(json.dumps({"inbox.css": "later.css"}))
    assert address(app, "inbox.css") == f"/static/{HASHED}"
    assert app.test_client().get("/static/later.css").status_code == 404


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", '{"icons": [{"src": "icon.svg"}]}', '{"inbox.css": "absent.css"}', "\udcff"],
)
def test_manifest_that_is_none_leaves_pages_as_they_are_without_a_release(
    source, released, text, monkeypatch
):
    told = []
    monkeypatch.setattr(assets.log, "warning", lambda words, **_: told.append(words))
    if text is None:
        (released / "manifest.json").unlink()
    else:
        (released / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    app = make(source)
    assert re.fullmatch(r"/static/inbox\.css\?v=[0-9a-f]{12}", address(app, "inbox.css"))
    assert app.test_client().get("/static/inbox.css").data == CSS
    assert told == ["static files have no hashed names"]


def test_folder_that_is_not_there_is_no_reason_not_to_start(source, monkeypatch):
    monkeypatch.setenv("RELEASE_STATIC_DIR", "/nonexistent")
    assert "?v=" in address(make(source), "inbox.css")


def test_without_a_release_the_address_carries_the_hash_as_a_query(source):
    app = make(source)
    assert address(app, "inbox.css") == f"/static/inbox.css?v={hashlib.sha256(CSS).hexdigest()[:12]}"
    assert address(app, "deep/b.js") == f"/static/deep/b.js?v={hashlib.sha256(b'b').hexdigest()[:12]}"
    assert address(app, "absent.css") == "/static/absent.css"
    assert address(app, "inbox.css", v="mine") == "/static/inbox.css?v=mine"
    assert app.test_client().get(address(app, "inbox.css")).data == CSS


def test_file_changed_under_a_running_app_is_seen_while_developing_alone(source):
    running, developed = make(source), make(source, debug=True)
    before = address(running, "inbox.css")
    assert address(developed, "inbox.css") == before
    (source / "inbox.css").write_bytes(b"b{}")
    assert address(running, "inbox.css") == before
    assert address(developed, "inbox.css") == f"/static/inbox.css?v={hashlib.sha256(b'b{}').hexdigest()[:12]}"


def test_app_without_static_files_starts(monkeypatch, released):
    app = Flask("bare", static_folder=None)
    assets.init_app(app)
    assert app.test_client().get(f"/static/{HASHED}").status_code == 404
