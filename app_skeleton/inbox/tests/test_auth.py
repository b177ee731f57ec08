import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

import probe
import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from inbox.auth import sessions, users
from inbox.auth.models import User
from inbox.models import db
from people import PASSWORD
from redis import Redis
from sqlalchemy import select

import roles

SIGN_IN = "/auth/sign-in"
#: What a stranger may ask for, each for a reason: to sign in or out, how the API is used, the question nginx
#: asks for Flower, files that are no secret.
PUBLIC = {
    "auth.sign_in", "auth.take_sign_in", "auth.sign_out", "tokens.sign_in", "docs.show",
    "api-docs.openapi_json", "admin.authorize", "static",
}  # fmt: skip
#: What is the frame's; a domain has tests of its own for what is its.
FRAME = {"", "admin", "api-docs", "auth", "docs", "probe", "tokens"}


def attempt(client, email="admin@example.org", password=PASSWORD, address="192.0.2.1", **options):
    environ = {"REMOTE_ADDR": address, **options}
    forwarded = {"X-Forwarded-For": address}
    data = {"email": email, "password": password}
    return client.post(SIGN_IN, data=data, headers=forwarded, environ_base=environ)


def is_signed_in(client):
    return client.get("/admin/health").status_code == 200


def the_user(role="admin"):
    return db.session.scalar(select(User).filter_by(role=role))


# Signing in


def test_right_password_begins_a_session_and_leads_to_the_first_page(client, add_user):
    answer = attempt(client, add_user())
    assert (answer.status_code, answer.location) == (303, "/")
    assert is_signed_in(client)
    assert client.get(SIGN_IN).location == "/", "who is signed in is not asked again"


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("admin@example.org", "wrong"),
        ("admin@example.org", ""),
        ("admin@example.org", PASSWORD + "x"),
        ("nobody@example.org", PASSWORD),
        ("", PASSWORD),
        ("a\0b@example.org", PASSWORD),
        ("x" * 300 + "@example.org", PASSWORD),
        ("admin@example.org", "x" * 5000),
    ],
    # Without the password, which is another one in each of pytest's workers.
    ids=["wrong", "empty", "longer", "unknown", "nobody", "nul", "long-address", "long-password"],
)
def test_anything_else_does_not_and_does_not_tell_who_is_a_user(client, add_user, email, password):
    add_user()
    answer = attempt(client, email, password)
    assert answer.status_code == 401
    assert "password" in answer.text.lower()
    assert "unknown" not in answer.text.lower()
    assert not is_signed_in(client)


def test_case_and_spaces_of_an_address_do_not_matter(client, add_user):
    add_user()
    assert attempt(client, " Admin@Example.ORG ").status_code == 303


def test_unknown_address_costs_a_hash_as_a_wrong_password_does(app, client, add_user, monkeypatch):
    verified = []
    verify = PasswordHasher.verify

    def counting(self, hashed, password):
        verified.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", counting)
    attempt(client, add_user(), "wrong password")
    attempt(client, "nobody@example.org", "wrong password")
    assert len(verified) == 2
    parameters = {hashed.rpartition("$")[0].rpartition("$")[0] for hashed in verified}
    assert len(parameters) == 1, "both with the same work"


def test_disabled_user_is_refused(app, client, add_user):
    email = add_user("viewer")
    with app.app_context():
        users.disable(the_user("viewer"))
    assert attempt(client, email).status_code == 401


def test_hash_of_an_earlier_release_is_made_anew_when_it_is_used(app, client, add_user):
    email = add_user()
    with app.app_context():
        the_user().password_hash = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
        db.session.commit()
        old = the_user().password_hash
    assert attempt(client, email, "wrong password").status_code == 401
    with app.app_context():
        assert the_user().password_hash == old
    assert attempt(client, email).status_code == 303
    with app.app_context():
        new = the_user().password_hash
        assert new != old
        assert "m=8,t=1" in new
    assert attempt(client, email).status_code == 303


def test_production_hashes_with_the_parameters_owasp_names(make_app):
    with make_app(TESTING=False).app_context():
        assert users.add("a@example.org", PASSWORD, "viewer").password_hash.startswith(
            "$argon2id$v=19$m=19456,t=2,p=1$"
        )


def test_password_changed_while_the_old_one_is_looked_at_is_not_signed_in_with(app, add_user, monkeypatch):
    email = add_user()
    verify = PasswordHasher.verify

    def slow(self, hashed, password):
        users.set_password(the_user(), secrets.token_urlsafe())
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    with app.app_context():
        assert users.authenticate(email, PASSWORD) is None


# Guessing


@pytest.fixture
def throttled(make_app, add_user_to):
    app = make_app(SIGN_IN_LIMIT="3 per minute")
    add_user_to(app)
    return app.test_client()


@pytest.fixture
def add_user_to():
    def add(app, role="admin"):
        with app.app_context():
            users.add(f"{role}@example.org", PASSWORD, role)

    return add


def guess(client, times, address="192.0.2.1", email="admin@example.org"):
    return [attempt(client, email, "wrong password", address).status_code for _ in range(times)]


def test_guesses_from_one_place_are_stopped_whatever_account_they_are_for(throttled):
    emails = [f"user{number}@example.org" for number in range(4)]
    answers = [guess(throttled, 1, email=email)[0] for email in emails]
    assert answers == [401, 401, 401, 429]
    assert attempt(throttled).status_code == 429, "the right password too: it may be the next guess"
    assert attempt(throttled, address="192.0.2.2").status_code == 303, "elsewhere nobody notices"


def test_whoever_is_stopped_is_told_until_when(throttled):
    guess(throttled, 3)
    answer = attempt(throttled)
    assert (answer.status_code, answer.mimetype) == (429, "text/html")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    answer = throttled.post(
        "/api/v1/tokens",
        json={"email": "admin@example.org", "password": "x"},
        headers={"X-Forwarded-For": "192.0.2.1"},
    )
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_guesses_at_one_account_from_many_places_are_stopped(throttled):
    answers = [guess(throttled, 1, f"192.0.2.{number}")[0] for number in range(1, 5)]
    assert answers == [401, 401, 401, 429]
    assert attempt(throttled, address="192.0.2.99").status_code == 429, "it may be the right guess"


def test_strangers_who_guess_do_not_keep_the_owner_out(throttled):
    assert attempt(throttled, address="198.51.100.1").status_code == 303
    throttled.post("/auth/sign-out")
    for number in range(1, 30):
        guess(throttled, 1, f"192.0.2.{number}")
    assert attempt(throttled, address="192.0.2.99").status_code == 429
    assert attempt(throttled, address="198.51.100.1").status_code == 303
    assert guess(throttled, 4, "198.51.100.1") == [401, 401, 401, 429], (
        "nor is the owner's place a way around"
    )


def test_many_addresses_of_one_ipv6_network_are_one_place(throttled):
    emails = [f"user{number}@example.org" for number in range(4)]
    answers = [
        guess(throttled, 1, f"2001:db8::{number}:1", email)[0] for number, email in enumerate(emails, start=1)
    ]
    assert answers == [401, 401, 401, 429]
    assert guess(throttled, 1, "2001:db8:0:1::1", "another@example.org") == [401]


def test_only_failures_count(throttled):
    assert [attempt(throttled).status_code for _ in range(10)] == [303] * 10
    assert guess(throttled, 2) == [401, 401]
    assert attempt(throttled).status_code == 303
    assert guess(throttled, 2) == [401, 429], "nor does a success forgive the guesses before it"


def test_guesses_sent_all_at_once_are_not_more(make_app, add_user_to, tmp_path, monkeypatch):
    app = make_app(SIGN_IN_LIMIT="3 per minute")
    tried = []
    monkeypatch.setattr(users, "authenticate", lambda *given: tried.append(given))
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: attempt(app.test_client(), "a@b", "wrong").status_code, range(20)))
    assert (len(tried), codes.count(429)) == (3, 17)


def test_guesses_are_counted_while_redis_is_away(make_app, add_user_to):
    app = make_app(SIGN_IN_LIMIT="3 per minute", REDIS_URL="redis://127.0.0.1:1/0", BROKER_URL=None)
    assert isinstance(app.config["REDIS_CLIENT"], Redis)
    add_user_to(app)
    client = app.test_client()
    assert attempt(client, address="198.51.100.1").status_code == 303
    assert is_signed_in(client)
    assert guess(client, 4) == [401, 401, 401, 429]
    assert attempt(client, address="198.51.100.1").status_code == 303
    assert client.post("/auth/sign-out").status_code == 303


# Sessions


def test_session_ends_with_signing_out_and_so_does_a_copy_of_its_cookie(app, client, sign_in):
    sign_in()
    thief, copied = app.test_client(), client.get_cookie("session").value
    thief.set_cookie("session", copied)
    assert is_signed_in(thief)
    client.post("/auth/sign-out")
    assert not is_signed_in(client)
    thief.set_cookie("session", copied)
    assert not is_signed_in(thief)
    assert attempt(client).status_code == 303
    assert is_signed_in(client)


@pytest.mark.parametrize(
    "end",
    [
        users.disable,
        lambda user: users.set_password(user, secrets.token_urlsafe()),
        lambda user: users.set_role(user, "viewer"),
    ],
    ids=["disable", "password", "role"],
)
def test_every_session_of_a_user_ends_with_their_password_or_their_rights(
    app, client, sign_in, add_user, end
):
    email = sign_in()
    add_user("admin", "another@example.org")  # the last one would not be let go
    other = app.test_client()
    attempt(other, email)
    bystander = app.test_client()
    with app.app_context():
        users.add("bystander@example.org", PASSWORD, "viewer")
    attempt(bystander, "bystander@example.org")
    with app.app_context():
        end(users.by_email(email))
    assert not is_signed_in(client)
    assert not is_signed_in(other)
    assert is_signed_in(bystander)


def test_what_stood_in_the_session_before_signing_in_is_gone(client, add_user):
    with client.session_transaction() as session:
        session["planted"] = session["user"] = "an attacker's"
        session["csrf_token"] = "an attacker's"
    before = client.get_cookie("session").value
    attempt(client, add_user())
    with client.session_transaction() as session:
        assert set(session) <= {"user", "stamp", "id", "since", "_permanent"}
    assert client.get_cookie("session").value != before


def test_forged_cookie_is_nobodys(app, client, sign_in):
    sign_in()
    value = client.get_cookie("session").value
    client.set_cookie("session", value[:-4] + "AAAA")
    assert not is_signed_in(client)
    with client.session_transaction() as session:
        session["user"] = 10**30
    assert not is_signed_in(client)


def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(client, add_user):
    cookie = attempt(client, add_user()).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/admin/health").headers["Cache-Control"] == "no-store"


# Where signing in leads


def test_whoever_is_asked_to_sign_in_arrives_where_they_wanted_to(client, add_user):
    asked = client.get("/admin/health?source=github&q=a+b")
    assert asked.status_code == 302
    email = add_user()
    answer = client.post(asked.location, data={"email": email, "password": PASSWORD})
    assert answer.location == "/admin/health?source=github&q=a+b"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
        "\t//evil.example", "javascript:alert(1)", "evil.example", "/\r\nSet-Cookie: a=b", "///evil.example",
        "",
    ],
)  # fmt: skip
def test_signing_in_leads_nowhere_else(client, add_user, address):
    answer = client.post(
        SIGN_IN, query_string={"next": address}, data={"email": add_user(), "password": PASSWORD}
    )
    assert (answer.status_code, answer.location) == (303, "/")


def as_a_browser_reads(address):
    """https://url.spec.whatwg.org/#concept-basic-url-parser, as far as it decides about the host."""
    address = re.sub(r"[\t\n\r]", "", address.strip("".join(map(chr, range(33)))))
    head, mark, tail = address.partition("?")
    return head.replace("\\", "/") + mark + tail


@given(st.text(st.sampled_from("/\\.:@?#%a\t\n\r \0é[]"), max_size=12) | st.text())
def test_next_is_never_another_site(address):
    allowed = sessions.safe_next(address)
    if allowed is not None:
        assert allowed == address
        read = as_a_browser_reads(allowed)
        assert not read.startswith("//")
        assert urlsplit(urljoin("https://inbox.example/auth/sign-in", read)).netloc == "inbox.example"


# Forms


def test_no_form_is_taken_without_its_token(make_app, add_user_to):
    app = make_app(WTF_CSRF_ENABLED=True)
    add_user_to(app)
    client = app.test_client()
    page = client.get(SIGN_IN).text
    token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)[1]
    data = {"email": "admin@example.org", "password": PASSWORD}
    assert client.post(SIGN_IN, data=data).status_code == 400
    assert client.post(SIGN_IN, data={**data, "csrf_token": token}).status_code == 303
    refused = {}
    for rule in posts(app):
        answer = client.post(roles.address_of(rule))
        refused[rule.endpoint] = (answer.status_code, "reload the page" in answer.text)
    assert refused
    assert set(refused.values()) == {(400, True)}, refused
    assert is_signed_in(client)


def posts(app):
    return [
        rule
        for rule in app.url_map.iter_rules()
        if "POST" in rule.methods and not rule.rule.startswith(("/api/", "/hooks/"))
    ]


def test_program_needs_no_csrf_token(make_app, add_user_to):
    app = make_app(WTF_CSRF_ENABLED=True)
    add_user_to(app)
    credentials = {"email": "admin@example.org", "password": PASSWORD}
    assert app.test_client().post("/api/v1/tokens", json=credentials).status_code == 201


# Who may what


def test_list_of_what_is_public_names_what_there_is(app):
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= PUBLIC


def guarded(app):
    of_frame = [rule for rule in app.url_map.iter_rules() if rule.endpoint.rpartition(".")[0] in FRAME]
    return [rule for rule in of_frame if rule.endpoint not in PUBLIC]


def test_nobody_sees_or_does_anything_that_is_not_public(app):
    rules = guarded(probe.put_into(app))
    assert len(rules) >= 6
    roles.refuses_nobody(app, rules)


def test_viewer_sees_what_there_is_and_changes_nothing(app, add_user):
    rules = guarded(probe.put_into(app))
    assert roles.refused(app, rules, add_user("viewer")) == {"page", "probe.change"}
    assert roles.refused(app, rules, add_user("operator")) == set()


@pytest.mark.parametrize(
    ("role", "status"), [(None, 401), ("viewer", 403), ("operator", 403), ("admin", 204)]
)
def test_flower_is_for_admins(client, sign_in, role, status):
    if role:
        sign_in(role)
    answer = client.get("/admin/authorize")
    assert (answer.status_code, answer.data) == (status, b"")


def test_async_page_and_async_resource_answer(app, client, sign_in, bearer):
    probe.put_into(app)
    answer = client.get(probe.PATH, headers=bearer("viewer"))
    assert (answer.status_code, answer.json) == (200, {"number": 1})
    sign_in("operator")
    assert client.get(probe.PAGE).text == "seen"
