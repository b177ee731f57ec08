import base64
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jwt as pyjwt
import probe
import pytest
from flask_ops.testing import eventually
from inbox import config
from inbox.auth import tokens, users
from inbox.auth.models import User
from inbox.extensions import limiter
from inbox.models import db
from people import PASSWORD
from redis_server import RedisServer
from sqlalchemy import select

ANY = probe.PATH


@pytest.fixture(scope="module")
def redis_server():
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def app(request, make_app):
    if request.param == "memory":
        return probe.put_into(make_app())
    server = request.getfixturevalue("redis_server")
    server.client.flushall()
    return probe.put_into(make_app(REDIS_URL=server.url))


@pytest.fixture
def email(add_user):
    return add_user("admin")


def sign_in(client, email, password=PASSWORD):
    return client.post("/api/v1/tokens", json={"email": email, "password": password})


def ask(client, token, path=ANY, method="GET"):
    return client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})


def refresh(client, token):
    return ask(client, token, "/api/v1/tokens/refresh", "POST")


def is_refused(answer):
    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), answer.text
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json["detail"]
    return True


def end(app, change):
    with app.app_context():
        change(db.session.scalar(select(User).filter_by(email="admin@example.org")))


def test_tokens_are_given_for_a_password_and_let_their_role_in(client, email):
    answer = sign_in(client, email)
    assert (answer.status_code, answer.json["token_type"], answer.json["expires_in"]) == (201, "Bearer", 900)
    assert ask(client, answer.json["access_token"]).status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"


def test_wrong_password_gets_none_and_is_not_told_why(client, email):
    answers = [sign_in(client, email, "wrong"), sign_in(client, "nobody@example.org", "wrong")]
    assert all(is_refused(answer) for answer in answers)
    assert len({answer.json["detail"] for answer in answers}) == 1


@pytest.mark.parametrize("odd", ["\ud800", "a\0b", "\ud800@example.org"])
def test_what_no_database_holds_is_just_wrong(client, email, odd):
    assert is_refused(sign_in(client, email, odd))
    assert is_refused(sign_in(client, odd, PASSWORD))


def test_refresh_token_gives_the_next_pair_once(client, email):
    first = sign_in(client, email).json
    second = refresh(client, first["refresh_token"])
    assert second.status_code == 201
    assert ask(client, second.json["access_token"]).status_code == 200
    assert refresh(client, second.json["refresh_token"]).status_code == 201


def test_refresh_token_used_twice_revokes_all_of_its_sign_in_and_nothing_else(client, email):
    other = sign_in(client, email).json
    first = sign_in(client, email).json
    second = refresh(client, first["refresh_token"]).json
    assert is_refused(refresh(client, first["refresh_token"]))
    for token in (first["access_token"], second["access_token"]):
        assert is_refused(ask(client, token))
    assert is_refused(refresh(client, second["refresh_token"]))
    assert ask(client, other["access_token"]).status_code == 200
    assert refresh(client, other["refresh_token"]).status_code == 201


def test_of_refreshes_sent_at_once_one_succeeds(app, client, email):
    token = sign_in(client, email).json["refresh_token"]

    def renew(_):
        # Each in its own app context, without the database: SQLite in memory is for one thread.
        with app.test_request_context(headers={"Authorization": f"Bearer {token}"}):
            claims = pyjwt.decode(token, options={"verify_signature": False})
            return tokens.store.current().add(f"token:{claims['jti']}", 60)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(renew, range(8))) == 1
    assert is_refused(refresh(client, token))


def test_revoked_sign_in_is_over_at_once(client, email):
    given = sign_in(client, email).json
    assert ask(client, given["refresh_token"], "/api/v1/tokens/revoke", "POST").status_code == 204
    assert is_refused(ask(client, given["access_token"]))
    assert is_refused(refresh(client, given["refresh_token"]))


@pytest.mark.parametrize(
    "change",
    [
        users.disable,
        lambda user: users.set_password(user, secrets.token_urlsafe()),
        lambda user: users.set_role(user, "viewer"),
    ],
    ids=["disable", "password", "role"],
)
def test_every_token_ends_with_the_password_or_the_rights_of_its_user(app, client, email, add_user, change):
    add_user("admin", "other@example.org")  # the last one who may sign in could not be disabled
    given = sign_in(client, email).json
    end(app, change)
    assert is_refused(ask(client, given["access_token"]))
    assert is_refused(refresh(client, given["refresh_token"]))


def test_each_kind_of_token_is_good_for_its_own_purpose_alone(client, email):
    given = sign_in(client, email).json
    assert is_refused(ask(client, given["refresh_token"]))
    assert is_refused(refresh(client, given["access_token"]))
    assert is_refused(ask(client, given["access_token"], "/api/v1/tokens/revoke", "POST"))


def test_expired_token_is_refused_and_says_so(make_app):
    app = probe.put_into(make_app(JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=-1)))
    with app.app_context():
        email = users.add("a@example.org", PASSWORD, "admin").email
    client = app.test_client()
    answer = ask(client, sign_in(client, email).json["access_token"])
    assert is_refused(answer)
    assert "expired" in answer.json["detail"]


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_token_that_was_not_signed_here_is_refused(app, client, email):
    token = sign_in(client, email).json["access_token"]
    head, body, signature = token.split(".")
    claims = pyjwt.decode(token, options={"verify_signature": False})
    key = app.config["JWT_SECRET_KEY"]
    forged = [
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{part({'alg': 'None', 'typ': 'JWT'})}.{body}.{signature}",
        f"{head}.{part({**claims, 'role': 'admin', 'sub': '7'})}.{signature}",
        pyjwt.encode(claims, secrets.token_hex(), "HS256"),
        pyjwt.encode(claims, app.config["SECRET_KEY"], "HS256"),
        pyjwt.encode(claims, key, "HS512"),
        pyjwt.encode({**claims, "iss": "another app"}, key, "HS256"),
        pyjwt.encode({name: value for name, value in claims.items() if name != "sub"}, key, "HS256"),
        token[:-1],
        token + "x",
        ".",
        "..",
        "a.b.c",
        "é",
        "x" * 5000,
        "",
    ]
    for token in forged:
        assert is_refused(ask(client, token)), token
    assert is_refused(client.get(ANY))
    for header in ("Basic YTpi", "Bearer", f"bearer{token}", token):
        assert is_refused(client.get(ANY, headers={"Authorization": header}))


def test_token_without_a_role_may_do_nothing(app, client, email):
    claims = pyjwt.decode(sign_in(client, email).json["access_token"], options={"verify_signature": False})
    del claims["role"]
    answer = ask(client, pyjwt.encode(claims, app.config["JWT_SECRET_KEY"], "HS256"))
    assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")


def test_token_is_nothing_to_pages_nor_a_session_to_the_api(client, email):
    token = sign_in(client, email).json["access_token"]
    assert ask(client, token, "/admin/health").status_code == 302
    client.post("/auth/sign-in", data={"email": email, "password": PASSWORD})
    assert client.get("/admin/health").status_code == 200
    assert is_refused(client.get(ANY))


def test_user_asks_so_often_and_is_told_when_again(make_app, monkeypatch):
    app = probe.put_into(make_app(RATELIMIT_ENABLED=True, API_LIMIT="3 per minute"))
    monkeypatch.setattr(limiter, "enabled", True)
    client = app.test_client()
    headers = []
    for name in ("a", "b"):
        with app.app_context():
            users.add(f"{name}@example.org", PASSWORD, "viewer")
        token = sign_in(client, f"{name}@example.org").json["access_token"]
        headers.append({"Authorization": f"Bearer {token}"})
    codes = [client.get(path, headers=headers[0]).status_code for path in (ANY, ANY, f"{ANY}?number=0", ANY)]
    assert codes == [200, 200, 422, 429], "all addresses together"
    answer = client.get(ANY, headers=headers[0])
    assert (answer.mimetype, answer.json["title"]) == ("application/problem+json", "Too Many Requests")
    assert 0 < int(answer.headers["Retry-After"]) <= 120
    assert client.get(ANY, headers=headers[1]).status_code == 200, "others are not slowed down"
    assert is_refused(client.get(ANY))


# Redis goes away, and comes back


@pytest.fixture
def flaky(monkeypatch):
    # What is waited for is shown by the shorter time as well.
    monkeypatch.setattr(config, "REDIS_TIMEOUT_SECONDS", 0.5)
    with RedisServer() as server:
        yield server


def on(redis):
    return {"REDIS_URL": redis.url, "BROKER_URL": None, "RATELIMIT_ENABLED": True}


@pytest.fixture
def on_flaky(flaky, make_app, monkeypatch):
    app = probe.put_into(make_app(**on(flaky), API_LIMIT="1000 per minute"))
    monkeypatch.setattr(limiter, "enabled", True)
    monkeypatch.setattr(limiter, "_storage_dead", False)
    with app.app_context():
        users.add("admin@example.org", PASSWORD, "admin")
    return app.test_client()


@pytest.mark.parametrize("away", ["pause", "kill"])
def test_while_redis_is_away_tokens_are_neither_good_nor_bad_and_pages_go_on(flaky, on_flaky, away):
    client = on_flaky
    given = sign_in(client, "admin@example.org").json
    client.post("/auth/sign-in", data={"email": "admin@example.org", "password": PASSWORD})
    assert ask(client, given["access_token"]).status_code == 200
    getattr(flaky, away)()
    begin = time.monotonic()
    for answer in (ask(client, given["access_token"]), refresh(client, given["refresh_token"])):
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
        assert answer.headers["Retry-After"] == "2"
    assert client.get("/admin/health").status_code == 200
    assert client.post("/auth/sign-out").status_code == 303
    # Five questions to Redis, each of which may take its half second here.
    assert time.monotonic() - begin < 4
    flaky.resume() if away == "pause" else flaky.start()
    assert ask(client, given["access_token"]).status_code == 200
    assert refresh(client, given["refresh_token"]).status_code == 201


def test_users_are_not_changed_while_their_tokens_cannot_be_ended(flaky, on_flaky):
    given = sign_in(on_flaky, "admin@example.org").json
    runner = on_flaky.application.test_cli_runner()
    runner.invoke(args=["users", "add", "other@example.org", "--role", "admin"])
    flaky.kill()
    done = runner.invoke(args=["users", "disable", "admin@example.org"])
    assert (done.exit_code, "nothing was changed" in done.output) == (1, True), done.output
    flaky.start()
    assert ask(on_flaky, given["access_token"]).status_code == 200
    done = runner.invoke(args=["users", "disable", "admin@example.org"])
    assert done.exit_code == 0
    assert is_refused(ask(on_flaky, given["access_token"]))


@pytest.mark.parametrize("away", ["pause", "kill"])
def test_limits_hold_in_each_process_while_redis_is_away_and_in_redis_again_after(
    flaky, make_app, monkeypatch, away
):
    app = probe.put_into(make_app(**on(flaky), API_LIMIT="3 per hour"))
    for name, value in {"enabled": True, "_storage_dead": False, "_Limiter__check_backend_count": 0}.items():
        monkeypatch.setattr(limiter, name, value)
    # Tokens are told by Redis too; here it is the limit that is looked at.
    monkeypatch.setattr(tokens, "verify_jwt_in_request", lambda refresh: None)
    monkeypatch.setattr(tokens, "get_jwt", lambda: {"sub": "1", "role": "viewer"})
    client = app.test_client()
    assert client.get(ANY).status_code == 200
    getattr(flaky, away)()
    begin = time.monotonic()
    assert [client.get(ANY).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert time.monotonic() - begin < 4
    flaky.resume() if away == "pause" else flaky.start()
    # Where two were left: the one before is remembered there.
    eventually(lambda: client.get(ANY).status_code == 200, 40)
    assert eventually(lambda: client.get(ANY).status_code == 429, 5)
    assert limiter._storage_dead is False


def test_requests_that_wait_for_redis_when_it_goes_are_all_answered(flaky, make_app, monkeypatch):
    app = probe.put_into(make_app(**on(flaky), API_LIMIT="1000 per hour"))
    for name, value in {"enabled": True, "_storage_dead": False}.items():
        monkeypatch.setattr(limiter, name, value)
    monkeypatch.setattr(tokens, "verify_jwt_in_request", lambda refresh: None)
    monkeypatch.setattr(tokens, "get_jwt", lambda: {"sub": "1", "role": "viewer"})
    path = f"{ANY}?number=0"
    assert app.test_client().get(path).status_code == 422
    flaky.pause()
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda _: app.test_client().get(path).status_code, range(6)))
    assert codes == [422] * 6
