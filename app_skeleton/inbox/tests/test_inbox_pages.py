import re

import pytest
from inbox import assets, create_app
from inbox.pages import PAGE_SIZE


def fill(client, count, body="order"):
    for number in range(count):
        client.post("/api/v1/messages", json={"source": f"shop-{number}", "body": body})


def test_empty_inbox_says_how_to_fill_it(client):
    page = client.get("/", base_url="https://inbox.example", headers={"X-Forwarded-For": "203.0.113.9"}).text
    assert "https://inbox.example/api/v1/messages" in page


def test_address_shown_is_the_one_nginx_was_asked_for(client):
    forwarded = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "in.example",
    }
    assert "https://in.example/api/v1/messages" in client.get("/", headers=forwarded).text


def test_what_strangers_wrote_is_shown_as_text(client):
    fill(client, 1, "<script>alert(1)</script>")
    for path in ("/", "/messages/1"):
        answer = client.get(path)
        assert "&lt;script&gt;" in answer.text
        assert "<script" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_pages_lead_to_older_messages_and_back(client):
    fill(client, PAGE_SIZE + 1)
    first = client.get("/").text
    older = re.search(r'href="([^"]+)" rel="next"', first)[1]
    assert "shop-0<" not in first
    second = client.get(older).text
    assert "shop-0<" in second
    assert "Newest" in second
    assert "older than these" in client.get("/?cursor=1").text


@pytest.mark.parametrize(("path", "status"), [("/messages/9", 404), ("/nothing", 404), ("/?cursor=x", 400)])
def test_error_is_a_page_that_names_the_request(client, path, status):
    answer = client.get(path, headers={"X-Request-ID": "req-1"})
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert "<code>req-1</code>" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_footer_shows_the_release(client, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "20260901T120000Z-abcdef0")
    assert "<code>20260901T120000Z-abcdef0</code>" in client.get("/").text


def test_static_address_changes_with_the_content(app, client):
    address = re.search(r'href="(/static/inbox.css\?v=[0-9a-f]{12})"', client.get("/").text)[1]
    assert client.get(address).status_code == 200
    with app.test_request_context():
        assert app.url_for("static", filename="absent.css") == "/static/absent.css"
    assert assets._digest(__import__("pathlib").Path(__file__)) != address.split("=")[1]


def test_page_works_without_scripts_and_names_its_language(client):
    fill(client, 1)
    page = client.get("/").text
    assert "<script" not in page
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    assert 'class="skip"' in page


def test_readiness_needs_the_migrations(tmp_path):
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/empty.sqlite"})
    answer = app.test_client().get("/readyz", headers={"X-Ops-Internal": "1"})
    assert (answer.status_code, answer.json["checks"][0]["error"]) == (503, "PendingMigrations")
    assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
    app.extensions["flask_ops"].readiness._fresh_until = 0.0
    assert app.test_client().get("/readyz").json["status"] == "ready"
    assert app.test_cli_runner().invoke(args=["db", "check"]).exit_code == 0, "models and migrations differ"
    assert app.test_cli_runner().invoke(args=["db", "downgrade", "base"]).exit_code == 0
