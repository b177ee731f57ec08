import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import jwt as pyjwt
import probe
import pytest
from inbox import create_app
from inbox.auth import users
from inbox.auth.models import User
from inbox.models import db
from inbox.store import MemoryStore
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError


@pytest.fixture
def app(make_app):
    return probe.put_into(make_app())


@pytest.fixture
def run(app):
    def run(*arguments, **options):
        return app.test_cli_runner().invoke(args=list(arguments), **options)

    return run


@pytest.fixture
def password_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{secrets.token_urlsafe()}\n")
    return file


def sign_in(client, email, password):
    return client.post("/auth/sign-in", data={"email": email, "password": password}).status_code == 303


def test_user_signs_in_with_the_password_that_was_shown(client, run):
    done = run("users", "add", "Jo@Example.org", "--role", "operator")
    assert done.exit_code == 0, done.output
    assert "jo@example.org may sign in as operator." in done.output
    assert sign_in(client, "jo@example.org", done.output.split()[-1])


@pytest.mark.parametrize("given", ["file", "stdin"])
def test_password_of_a_file_is_taken_and_not_shown(client, run, password_file, given):
    text = password_file.read_text()
    if given == "file":
        done = run("users", "add", "jo@example.org", "--password-file", str(password_file))
    else:
        done = run("users", "add", "jo@example.org", "--password-file", "-", input=text)
    assert done.exit_code == 0, done.output
    assert text.strip() not in done.output
    assert sign_in(client, "jo@example.org", text.strip())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["not-an-address"], "no e-mail address"),
        (["a@" + "b" * 300], "no e-mail address"),
        (["a\n@example.org"], "no e-mail address"),
        (["jo@example.org", "--role", "king"], "king"),
    ],
)
def test_user_that_cannot_be_is_not_made(run, arguments, said):
    done = run("users", "add", *arguments)
    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output
    assert run("users", "list").output == ""


@pytest.mark.parametrize("password", ["short", "x" * 257])
def test_password_that_is_too_short_or_long_is_refused(run, password):
    done = run("users", "add", "jo@example.org", "--password-file", "-", input=password)
    assert (done.exit_code, "12 to 256" in done.output) == (1, True)
    assert password not in done.output


def test_address_belongs_to_one_user_whoever_is_faster(app, run, monkeypatch):
    assert run("users", "add", "jo@example.org").exit_code == 0
    done = run("users", "add", "JO@example.org")
    assert (done.exit_code, "a user already" in done.output) == (1, True)
    # As if the other had not been there a moment ago.
    monkeypatch.setattr(users, "by_email", lambda email: None)
    done = run("users", "add", "jo@example.org")
    assert (done.exit_code, "a user already" in done.output) == (1, True)
    assert not isinstance(done.exception, IntegrityError)


def test_password_is_changed_and_the_old_one_is_no_good(client, run, password_file):
    old = run("users", "add", "jo@example.org").output.split()[-1]
    new = run("users", "password", "jo@example.org").output.split()[-1]
    assert not sign_in(client, "jo@example.org", old)
    assert sign_in(client, "jo@example.org", new)
    done = run("users", "password", "jo@example.org", "--password-file", str(password_file))
    assert done.output == "The password is changed.\n"
    assert sign_in(client, "jo@example.org", password_file.read_text().strip())


def test_disabled_user_is_listed_as_such_and_let_in_no_more(client, run):
    password = run("users", "add", "jo@example.org").output.split()[-1]
    run("users", "add", "al@example.org", "--role", "admin")
    assert run("users", "disable", "jo@example.org").exit_code == 0
    assert run("users", "list").output == "al@example.org\tadmin\njo@example.org\tviewer\tdisabled\n"
    assert not sign_in(client, "jo@example.org", password)


def tokens_of(client, email, password):
    answer = client.post("/api/v1/tokens", json={"email": email, "password": password})
    assert answer.status_code == 201, answer.text
    return answer.json


def asked(client, given):
    """Return what is answered to an access token, and to the refresh token beside it."""
    bearer = [{"Authorization": f"Bearer {given[name]}"} for name in ("access_token", "refresh_token")]
    asks = client.get(probe.PATH, headers=bearer[0]), client.post("/api/v1/tokens/refresh", headers=bearer[1])
    return tuple(answer.status_code for answer in asks)


def test_enabled_user_signs_in_again_and_what_was_ended_stays_ended(client, run):
    password = run("users", "add", "jo@example.org").output.split()[-1]
    given = tokens_of(client, "jo@example.org", password)
    assert sign_in(client, "jo@example.org", password)
    assert run("users", "disable", "jo@example.org").exit_code == 0
    done = run("users", "enable", "JO@example.org")
    assert (done.exit_code, done.output) == (0, "jo@example.org may sign in as viewer.\n")
    assert run("users", "list").output == "jo@example.org\tviewer\n"
    assert asked(client, given) == (401, 401)
    assert client.get("/admin/health").status_code == 302
    assert sign_in(client, "jo@example.org", password)
    assert run("users", "enable", "jo@example.org").output == done.output
    assert client.get("/admin/health").status_code == 200, "who may sign in anyway loses nothing"


@pytest.mark.parametrize(("before", "after"), [("admin", "viewer"), ("viewer", "operator")])
def test_what_was_given_out_under_the_former_role_ends_with_it(client, run, before, after):
    run("users", "add", "al@example.org", "--role", "admin")
    password = run("users", "add", "jo@example.org", "--role", before).output.split()[-1]
    given = tokens_of(client, "jo@example.org", password)
    assert sign_in(client, "jo@example.org", password)
    done = run("users", "role", "jo@example.org", after)
    assert (done.exit_code, done.output) == (0, f"jo@example.org has the role {after}.\n")
    assert f"jo@example.org\t{after}\n" in run("users", "list").output
    assert asked(client, given) == (401, 401)
    assert client.get("/admin/health").status_code == 302
    new = tokens_of(client, "jo@example.org", password)["access_token"]
    assert pyjwt.decode(new, options={"verify_signature": False})["role"] == after


def test_role_somebody_has_already_ends_nothing(client, run):
    password = run("users", "add", "jo@example.org", "--role", "admin").output.split()[-1]
    given = tokens_of(client, "jo@example.org", password)
    assert run("users", "role", "jo@example.org", "admin").output == "jo@example.org has the role admin.\n"
    assert asked(client, given)[1] == 201


def test_role_that_is_none_is_refused_with_those_there_are(run):
    run("users", "add", "jo@example.org")
    done = run("users", "role", "jo@example.org", "king")
    assert (done.exit_code, "'viewer', 'operator', 'admin'" in done.output) == (2, True)
    assert run("users", "list").output == "jo@example.org\tviewer\n"


TAKEN_AWAY = [("disable", "al@example.org"), ("role", "al@example.org", "operator")]


@pytest.mark.parametrize("taking", TAKEN_AWAY, ids=["disable", "role"])
def test_last_admin_who_may_sign_in_is_not_taken_away(client, run, taking):
    password = run("users", "add", "al@example.org", "--role", "admin").output.split()[-1]
    run("users", "add", "former@example.org", "--role", "admin")
    assert run("users", "disable", "former@example.org").exit_code == 0
    given = tokens_of(client, "al@example.org", password)
    done = run("users", *taking)
    assert (done.exit_code, "the only admin who may sign in" in done.output) == (1, True)
    assert "change the password" in done.output
    assert run("users", "list").output == "al@example.org\tadmin\nformer@example.org\tadmin\tdisabled\n"
    assert asked(client, given)[1] == 201, "nothing has ended"
    assert run("users", "enable", "former@example.org").exit_code == 0
    assert run("users", *taking).exit_code == 0


def test_admin_who_is_disabled_already_may_become_something_else(run):
    for name in ("al", "jo"):
        run("users", "add", f"{name}@example.org", "--role", "admin")
    run("users", "disable", "jo@example.org")
    assert run("users", "role", "jo@example.org", "viewer").exit_code == 0


class Slow(MemoryStore):
    """A store that leaves the other operator time to look before the change is written."""

    def keep(self, key, seconds):
        time.sleep(0.3)
        super().keep(key, seconds)


def test_two_operators_do_not_take_away_each_others_admin(make_app, postgresql_database):
    app = make_app(SQLALCHEMY_DATABASE_URI=postgresql_database)
    app.extensions["store"] = Slow()
    names = [f"{name}@example.org" for name in ("al", "jo")]
    with app.app_context():
        for name in names:
            users.add(name, secrets.token_urlsafe(), "admin")
    both = Barrier(2)

    def take_away(name):
        with app.app_context():
            user = users.by_email(name)
            both.wait(10)
            try:
                users.disable(user)
            except users.InvalidUser:
                return "refused"
            return "disabled"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(take_away, names)) == ["disabled", "refused"]
    with app.app_context():
        assert [user.disabled_at is None for user in db.session.scalars(select(User))].count(True) == 1
        db.session.remove()
        db.engine.dispose()


@pytest.mark.parametrize("command", ["password", "disable", "enable", "role"])
def test_unknown_user_is_named_with_the_next_command(run, command):
    done = run("users", command, "nobody@example.org", *(["viewer"] if command == "role" else []))
    assert (done.exit_code, "users list" in done.output) == (1, True)


def test_prepare_brings_the_schema_and_a_first_admin_once(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret = secrets.token_urlsafe()
    (tmp_path / "app_admin_password").write_text(f"{secret}\n")
    overrides = {"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/inbox.sqlite", "TESTING": True}
    app = create_app({**overrides, "STORAGE_URL": f"file://{tmp_path}/files", "WTF_CSRF_ENABLED": False})

    def prepare():
        return app.test_cli_runner().invoke(args=["prepare"])

    done = prepare()
    assert done.exit_code == 0, done.output
    assert "admin@localhost may sign in as admin." in done.output
    assert secret not in done.output
    assert sign_in(app.test_client(), "admin@localhost", secret)
    (tmp_path / "app_admin_password").write_text(secrets.token_urlsafe())
    assert prepare().output == ""
    with app.app_context():
        assert [user.email for user in db.session.scalars(select(User))] == ["admin@localhost"]
    assert sign_in(app.test_client(), "admin@localhost", secret), "a later password changes nothing"


def test_prepare_says_when_the_first_admins_password_is_no_good(monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "app_admin_password").write_text("short")
    overrides = {"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/inbox.sqlite", "TESTING": True}
    app = create_app({**overrides, "STORAGE_URL": f"file://{tmp_path}/files"})
    done = app.test_cli_runner().invoke(args=["prepare"])
    assert (done.exit_code, "12 to 256" in done.output) == (1, True)
