"""A secret key is replaced and nobody is signed out; once the old one is gone, what it signed is too."""

import secrets

import flask_ops
import pytest
from flask import Flask, session
from flask_ops import scrub
from flask_wtf import CSRFProtect

FORMS = {"WTF_CSRF_TIME_LIMIT": None, "WTF_CSRF_SSL_STRICT": False}


def make_app(key, **config):
    app = Flask("shop")
    app.config.update(SECRET_KEY=key, **FORMS, **config)
    CSRFProtect(app)

    @app.get("/sign-in")
    def sign_in():
        from flask_wtf.csrf import generate_csrf

        session["user"] = "ann"
        return generate_csrf()

    @app.get("/")
    def look():
        return session.get("user", "nobody")

    @app.post("/")
    def change():
        return "changed"

    flask_ops.init_app(app)
    return app


@pytest.fixture
def rotate(monkeypatch, tmp_path):
    """Return a function that gives the app its keys of before; and makes it with a key."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    def rotate(key, *former, **config):
        (tmp_path / "app_secret_key_fallbacks").write_text("\n".join(former))
        return make_app(key, **config)

    return rotate


def visitor(app, cookie):
    client = app.test_client()
    client.set_cookie("session", cookie)
    return client


def test_session_and_open_form_outlive_the_key_they_were_signed_with(rotate):
    old, new, older = (secrets.token_hex() for _ in range(3))
    before = rotate(old).test_client()
    form, cookie = before.get("/sign-in").text, before.get_cookie("session").value

    between = visitor(rotate(new, older, old), cookie)
    assert between.get("/").text == "ann"
    assert between.post("/", data={"csrf_token": form}).text == "changed"
    # What is signed from now on is the new key's.
    fresh = rotate(new, old).test_client()
    fresh.get("/sign-in")
    assert visitor(rotate(new), fresh.get_cookie("session").value).get("/").text == "ann"

    after = visitor(rotate(new), cookie)
    assert after.get("/").text == "nobody"
    assert after.post("/", data={"csrf_token": form}).status_code == 400


def test_app_that_has_former_keys_of_its_own_keeps_them(rotate):
    own = [secrets.token_hex()]
    app = rotate(secrets.token_hex(), secrets.token_hex(), SECRET_KEY_FALLBACKS=own)
    assert app.config["SECRET_KEY_FALLBACKS"] == own


def test_former_key_is_logged_nowhere(rotate):
    keys = [secrets.token_hex(), secrets.token_hex()]
    rotate(secrets.token_hex(), *keys)
    for key in keys:
        assert key not in scrub.text(f"cannot read {key}")
