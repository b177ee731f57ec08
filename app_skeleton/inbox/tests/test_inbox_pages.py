"""The frame of the pages: signing in, navigation, errors, health, the API's documentation."""

import re
from dataclasses import replace

import pytest
from flask_ops.health import Check, Readiness
from inbox.api import docs
from markup import Page, faults

POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
}


def directives(answer):
    return {part.strip() for part in answer.headers["Content-Security-Policy"].split(";")}


@pytest.mark.parametrize("path", ["/auth/sign-in", "/api/docs", "/nothing", "/admin/health"])
def test_page_can_be_used_by_everybody_and_loads_nothing_but_its_own(client, sign_in, path):
    if path.startswith("/admin"):
        sign_in("viewer")
    answer = client.get(path)
    assert faults(answer.text) == []
    assert directives(answer) == POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert '<html lang="en">' in answer.text
    assert 'class="skip" href="#content"' in answer.text


@pytest.mark.parametrize("path", ["/", "/auth/sign-in", "/nothing", "/api/v1/messages", "/static/inbox.css"])
def test_no_other_site_loads_what_is_answered(client, path):
    assert client.get(path).headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/admin/health"])
def test_nobody_is_asked_to_sign_in_and_led_back(client, path):
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/auth/sign-in?next={path}"


def test_sign_in_ties_each_error_to_its_field(client):
    answer = client.post("/auth/sign-in", data={"email": "somebody@example.org"})
    page = Page(answer.text)
    assert faults(answer.text) == []
    fields = {field.get("id"): field for field in page.all("input")}
    password, email = fields["password"], fields["email"]
    assert (password["aria-invalid"], password["aria-describedby"]) == ("true", "password-error")
    assert "aria-invalid" not in email
    assert email["value"] == "somebody@example.org"
    assert '<a href="#password">Password: This field is required.</a>' in answer.text
    assert 'role="alert"' in answer.text
    assert "<title>Error: Sign in · Inbox</title>" in answer.text


def test_wrong_password_is_said_and_never_sent_back(client, add_user):
    add_user("viewer")
    typed = "not the right password"
    answer = client.post("/auth/sign-in", data={"email": "viewer@example.org", "password": typed})
    assert answer.status_code == 401
    assert "The address or the password is wrong." in answer.text
    assert typed not in answer.text


def test_navigation_says_where_one_is(client, sign_in):
    sign_in("viewer")
    (here,) = [link for link in Page(client.get("/admin/health").text).all("a") if "aria-current" in link]
    assert here == {"href": "/admin/health", "aria-current": "page"}


def test_error_is_a_page_that_names_the_request(client):
    answer = client.get("/nothing", headers={"X-Request-ID": "req-1"})
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "<code>req-1</code>" in answer.text


def test_form_without_a_token_does_nothing_and_says_what_to_do(make_app):
    client = make_app(WTF_CSRF_ENABLED=True).test_client()
    answer = client.post("/auth/sign-in", data={"email": "a@example.org", "password": "p"})
    assert answer.status_code == 400
    assert faults(answer.text) == []


def test_footer_shows_the_release_and_leads_to_the_documentation(client, monkeypatch):
    monkeypatch.setenv("RELEASE_ID", "20260901T120000Z-abcdef0")
    page = client.get("/auth/sign-in").text
    assert "<code>20260901T120000Z-abcdef0</code>" in page
    assert '<a href="/api/docs">API</a>' in page


def test_health_says_in_words_what_works_and_what_does_not(app, client, sign_in):
    def fail():
        raise ConnectionError("of no interest to a viewer")

    sign_in("viewer")
    checks = [Check("database", lambda: None), Check("billing", fail)]
    app.extensions["flask_ops"] = replace(app.extensions["flask_ops"], readiness=Readiness(checks))
    page = client.get("/admin/health").text
    assert "Not ready for requests" in page
    assert re.search(r'"row">database</th>\s*<td><span class="state state-done">Works</span>', page)
    assert re.search(r'state-dead">Failed</span>\s*<span class="quiet">ConnectionError</span>', page)
    assert "of no interest" not in page
    app.extensions["flask_ops"] = replace(app.extensions["flask_ops"], readiness=Readiness(checks[:1]))
    assert "Ready for requests" in client.get("/admin/health").text


def test_documentation_shows_every_operation_with_all_it_takes_and_gives(app, client):
    document = client.get("/api/v1/openapi.json").json
    page = client.get("/api/docs").text
    shown = set(re.findall(r'<span class="method">(\w+)</span> ([^<]+)</code></h3>', page))
    described = {
        (m.upper(), path) for path, item in document["paths"].items() for m in item if m in docs.METHODS
    }
    assert shown == described
    assert len(shown) >= 3
    for operation in docs.operations(document):
        section = page.partition(f'id="{operation.anchor}"')[2].partition("</article>")[0]
        for parameter in operation.parameters:
            assert f"<code>{parameter.name}</code>" in section
        for status, _, content in operation.answers:
            assert f"Answer {status}" in section
            if content and content[1].schema:
                assert f'href="#schema-{content[1].schema}"' in section
        assert operation.answers
    assert page.count("The request cannot be understood.") == 1
    assert "PaginationMetadata" not in page


def test_documentation_needs_no_sign_in_and_names_this_site(client):
    forwarded = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "in.example",
    }
    page = client.get("/api/docs", headers=forwarded).text
    assert "https://in.example/api/v1/tokens" in page


@pytest.mark.parametrize(
    ("schema", "words", "link"),
    [
        ({"$ref": "#/components/schemas/Message"}, "Message", "Message"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Message"}}, "list of Message", "Message"),
        ({"anyOf": [{"$ref": "#/components/schemas/Day"}, {"type": "null"}]}, "Day or null", "Day"),
        ({"type": ["string", "null"], "format": "date-time"}, "string or null, date-time", ""),
        ({"enum": ["a", None, "b"]}, "one of a, b", ""),
        ({}, "anything", ""),
    ],
)
def test_types_are_said_in_words(schema, words, link):
    assert docs.type_of(schema) == docs.Type(words, link)


def test_limits_of_values_are_said_in_words():
    given = {
        "a": {"type": "integer", "minimum": 1, "default": 0},
        "b": {"maxLength": 3},
        "c": {"minItems": 1, "maxItems": 2},
    }
    (a, b, c) = docs.fields({"properties": given, "required": ["b"]})
    assert (a.limits, b.limits, c.limits) == (
        "at least 1; default 0",
        "at most 3 characters",
        "1 to 2 of them",
    )
    assert [value.required for value in (a, b, c)] == [False, True, False]
