"""How long a session is good, and what it holds of the database meanwhile."""

import secrets
import time

import probe
import psycopg
import pytest
from inbox.auth import sessions, users
from inbox.auth.models import User
from inbox.models import db
from people import PASSWORD
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

HOUR = 3600
#: Answers without a look at who asks; Flask signs the cookie anew nevertheless.
NOWHERE = "/no-such-page"


class Clock:
    """The time, and how far it was put forward."""

    def __init__(self, patch):
        self.ahead = 0
        for name in ("time", "monotonic"):
            patch.setattr(time, name, self._reading(getattr(time, name)))

    def _reading(self, real):
        return lambda: real() + self.ahead


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def is_signed_in(client):
    return client.get("/admin/health").status_code == 200


def cookie_of(client):
    cookie = client.get_cookie("session")
    return cookie.value if cookie else None


# How long


def test_copied_cookie_is_never_good_again_after_signing_out(app, client, sign_in, clock):
    sign_in()
    thief, kept = app.test_client(), cookie_of(client)
    client.post("/auth/sign-out")
    for _ in range(30):
        thief.set_cookie("session", kept)
        thief.get(NOWHERE)
        kept = cookie_of(thief)
        assert not is_signed_in(thief), f"{clock.ahead / HOUR:.0f} h after signing out"
        # A thief keeps what is taken away.
        kept = cookie_of(thief) or kept
        clock.ahead += HOUR


def test_session_ends_twelve_hours_after_signing_in_however_much_is_asked(client, sign_in, clock):
    sign_in()
    for _ in range(12):
        assert is_signed_in(client), f"{clock.ahead / HOUR:.0f} h after signing in"
        clock.ahead += HOUR
    assert not is_signed_in(client)
    assert client.post("/auth/sign-in", data={"email": "admin@example.org", "password": PASSWORD}).location
    assert is_signed_in(client)


def test_session_that_does_not_say_since_when_is_refused(client, sign_in):
    sign_in()
    with client.session_transaction() as session:
        session.pop("since", None)
    assert not is_signed_in(client)


def test_refused_session_is_emptied_and_another_is_not(app, client, sign_in):
    sign_in()
    with app.app_context():
        users.set_password(db.session.scalar(select(User)), PASSWORD)
    assert not is_signed_in(client)
    assert cookie_of(client) is None
    with client.session_transaction() as session:
        session["csrf_token"] = "of a form that is open"
    assert not is_signed_in(client)
    with client.session_transaction() as session:
        assert session["csrf_token"] == "of a form that is open"


# What it holds


@pytest.fixture
def with_one(make_app, postgresql_database):
    """An app whose pool is one connection."""
    one = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.5, "pool_pre_ping": True}
    app = make_app(SQLALCHEMY_DATABASE_URI=postgresql_database, SQLALCHEMY_ENGINE_OPTIONS=one)
    yield app
    with app.app_context():
        db.engine.dispose()


def signed_in(app):
    """Return a client of the app that has signed in."""
    with app.app_context():
        users.add("admin@example.org", PASSWORD, "admin")
    client = app.test_client()
    answer = client.post("/auth/sign-in", data={"email": "admin@example.org", "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


def test_signed_in_page_leaves_the_pool_to_what_it_asks_for_itself(with_one):
    """As an export does, which reads piece by piece while the client takes its time."""

    @with_one.get("/export")
    @sessions.requires("viewer")
    def export():
        with db.engine.connect() as connection:
            return str(connection.scalar(text("SELECT 7")))

    answer = signed_in(with_one).get("/export")
    assert (answer.status_code, answer.text) == (200, "7"), answer.text


def test_no_connection_is_held_while_the_store_is_asked(with_one, monkeypatch):
    client, held = signed_in(with_one), []

    def asked(*_keys):
        held.append(db.engine.pool.checkedout())
        return False

    monkeypatch.setattr(with_one.extensions["store"], "has_any", asked)
    assert client.get("/").status_code == 302
    assert held == [0]


@pytest.fixture
def close(postgresql, postgresql_database):
    """Have the app's database end every connection and take no new one."""

    def close():
        name = postgresql_database.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ended, [name])

    return close


@pytest.mark.parametrize("is_begun", [True, False], ids=["in-a-transaction", "before-one"])
def test_database_that_goes_away_in_a_page_is_a_page_that_says_so(with_one, close, is_begun):
    seen = []

    @with_one.get("/adding")
    @sessions.requires("viewer")
    def adding():
        if is_begun:
            db.session.execute(text("SELECT 1"))
        close()
        db.session.add(User(email="b@example.org", password_hash="", role="viewer"))
        try:
            db.session.flush()
        except OperationalError as error:
            seen.append(error)
            raise

    answer = signed_in(with_one).get("/adding")
    assert len(seen) == 1
    assert (answer.status_code, answer.mimetype) == (503, "text/html"), answer.text
    assert answer.headers["Retry-After"] == "5"
    assert "The database does not answer." in answer.text
    assert "admin@example.org" in answer.text, "and still says who is signed in"


# A changed secret key


@pytest.fixture
def with_keys(make_app, monkeypatch, tmp_path):
    """Return a function that makes the app with a key, and keys of before; users are the same ones."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    database = f"sqlite:///{tmp_path}/one.sqlite"

    def with_keys(key, *former):
        (tmp_path / "app_secret_key_fallbacks").write_text("\n".join(former))
        return probe.put_into(make_app(SECRET_KEY=key, SQLALCHEMY_DATABASE_URI=database))

    return with_keys


def test_nobody_is_signed_out_by_a_change_of_the_secret_key(with_keys):
    old, new = (secrets.token_hex() for _ in range(2))
    before = with_keys(old)
    with before.app_context():
        email = users.add("ann@example.org", PASSWORD, "admin").email
    browser = before.test_client()
    browser.post("/auth/sign-in", data={"email": email, "password": PASSWORD})
    tokens = browser.post("/api/v1/tokens", json={"email": email, "password": PASSWORD}).json
    cookie = cookie_of(browser)

    def seen_by(app):
        visitor = app.test_client()
        visitor.set_cookie("session", cookie)
        asked = {
            name: visitor.open(path, method=method, headers={"Authorization": f"Bearer {tokens[name]}"})
            for name, method, path in (
                ("access_token", "GET", probe.PATH),
                ("refresh_token", "POST", "/api/v1/tokens/refresh"),
            )
        }
        return is_signed_in(visitor), {name: answer.status_code for name, answer in asked.items()}

    assert seen_by(with_keys(new)) == (False, {"access_token": 401, "refresh_token": 401})
    assert seen_by(with_keys(new, old)) == (True, {"access_token": 200, "refresh_token": 201})
