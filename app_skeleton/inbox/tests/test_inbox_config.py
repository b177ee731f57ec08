import secrets

import pytest
from flask_ops.settings import SettingError
from inbox import config, create_app
from redis import Redis

URL = "postgresql+psycopg:///inbox?host=/run/postgresql"
REDIS = "unix:///run/redis/redis.sock?db=3"


@pytest.fixture
def production(monkeypatch, tmp_path):
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("REDIS_URL", REDIS)
    monkeypatch.setenv("STORAGE_URL", f"file://{tmp_path}/files")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "app_secret_key").write_text("k" * 40 + "\n")
    return tmp_path


def test_development_needs_nothing(tmp_path):
    values = config.load(str(tmp_path / "instance"), {})
    assert str(values["SQLALCHEMY_DATABASE_URI"]) == f"sqlite:///{tmp_path}/instance/inbox.sqlite"
    assert values["SECRET_KEY"] != config.load(str(tmp_path), {})["SECRET_KEY"]
    assert values["SESSION_COOKIE_SECURE"] is False
    assert (values["REDIS_CLIENT"], values["BROKER_URL"]) == (None, None)
    assert values["RATELIMIT_STORAGE_URI"] == "memory://"


def test_production_is_strict_about_cookies_and_connections(production, monkeypatch):
    monkeypatch.setenv("DATABASE_POOL_SIZE", "7")
    values = create_app().config
    assert values["SECRET_KEY"] == "k" * 40
    assert values["SESSION_COOKIE_NAME"].startswith("__Host-")
    assert (values["SESSION_COOKIE_SECURE"], values["SESSION_COOKIE_HTTPONLY"]) == (True, True)
    options = values["SQLALCHEMY_ENGINE_OPTIONS"]
    assert (options["pool_size"], options["max_overflow"], options["pool_pre_ping"]) == (7, 0, True)
    assert options["connect_args"]["options"] == "-c statement_timeout=20000"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("DATABASE_URL", "DATABASE_URL is not set"),
        ("REDIS_URL", "REDIS_URL is not set"),
        ("STORAGE_URL", "STORAGE_URL is not set"),
        ("secret_key", "'secret_key' is missing"),
    ],
)
def test_production_names_what_is_missing(production, monkeypatch, missing, said):
    monkeypatch.delenv(missing, raising=False)
    (production / f"app_{missing}").unlink(missing_ok=True)
    monkeypatch.setenv("SECRET_KEY", "an environment variable is no place for it")
    with pytest.raises(SettingError, match=said):
        create_app()


def test_every_mistake_is_named_at_once(monkeypatch):
    wrong = {
        "APP_ENV": "production",
        "DATABASE_URL": "postgresql+psycopg:///inbox",
        "DATABASE_POOL_SIZE": "many",
        "DATABASE_POOL_TIMEOUT_SECONDS": "0",
        "REDIS_URL": "localhost:6379",
        "API_RATE_LIMIT": "often",
        "SIGN_IN_RATE_LIMIT": "10",
        "TASK_SOFT_SHUTDOWN_SECONDS": "-1",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as raised:
        create_app()
    for name in ["'secret_key'", *wrong]:
        assert name in str(raised.value) or name in ("APP_ENV", "DATABASE_URL"), name


def test_misspelt_environment_is_refused(monkeypatch):
    monkeypatch.setenv("APP_ENV", "prodution")
    with pytest.raises(SettingError, match="APP_ENV='prodution'"):
        create_app()


def test_database_password_comes_from_its_credential_and_is_never_shown(production, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://inbox@db.example/inbox")
    (production / "app_database_password").write_text("hunter2\n")
    url = config.load("", {})["SQLALCHEMY_DATABASE_URI"]
    assert url.password == "hunter2"
    assert "hunter2" not in str(url)
    monkeypatch.setenv("DATABASE_URL", "inbox:hunter2@db.example")
    with pytest.raises(SettingError, match="DATABASE_URL is not a database URL") as error:
        config.load("", {})
    assert "hunter2" not in str(error.value)


def test_mistaken_address_of_redis_is_not_quoted(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@redis.example")
    with pytest.raises(SettingError, match="REDIS_URL is not an address of Redis") as error:
        config.load("", {})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("broker", "wanted"),
    [
        (None, "redis+socket://:pw@/run/redis/redis.sock?virtual_host=3"),
        ("amqp://me@queue:5672/inbox", "amqp://me:q@queue:5672/inbox"),
    ],
)
def test_broker_is_redis_unless_another_is_named(production, monkeypatch, broker, wanted):
    monkeypatch.setenv("REDIS_URL", REDIS)
    (production / "app_redis_password").write_text("pw\n")
    if broker:
        monkeypatch.setenv("BROKER_URL", broker)
        (production / "app_broker_password").write_text("q\n")
    assert config.load("", {})["BROKER_URL"] == wanted


def test_redis_is_asked_with_its_credential_and_not_for_long(production, monkeypatch):
    (production / "app_redis_password").write_text("hunter2\n")
    values = config.load("", {})
    known = values["REDIS_CLIENT"].connection_pool.connection_kwargs
    assert isinstance(values["REDIS_CLIENT"], Redis)
    assert (known["path"], known["db"], known["password"]) == ("/run/redis/redis.sock", 3, "hunter2")
    assert known["socket_timeout"] == known["socket_connect_timeout"] == config.REDIS_TIMEOUT_SECONDS
    assert known["retry"].get_retries() == 1
    assert values["RATELIMIT_STORAGE_URI"] == "redis+unix:///run/redis/redis.sock?db=3"
    assert values["RATELIMIT_STORAGE_OPTIONS"]["password"] == "hunter2"
    assert "hunter2" not in values["RATELIMIT_STORAGE_URI"] + values["REDIS_URL"]


def test_tokens_are_signed_with_another_key_than_sessions_and_the_same_one_everywhere(production):
    one, two = config.load("", {}), config.load("", {})
    assert one["JWT_SECRET_KEY"] == two["JWT_SECRET_KEY"] != one["SECRET_KEY"]
    (production / "app_secret_key").write_text("x" * 40)
    assert config.load("", {})["JWT_SECRET_KEY"] != one["JWT_SECRET_KEY"]
    for length in (1, 64, 200):
        assert config.load("", {"SECRET_KEY": "k" * length})["JWT_SECRET_KEY"]


def test_what_is_given_wins_over_everything(production, monkeypatch, tmp_path):
    monkeypatch.setenv("API_RATE_LIMIT", "5 per hour")
    assert config.load("", {})["API_LIMIT"] == "5 per hour"
    key = secrets.token_hex()
    given = {
        "SECRET_KEY": key, "API_LIMIT": "1 per day", "SIGN_IN_LIMIT": "2 per day", "BROKER_URL": "memory://",
        "JWT_ALGORITHM": "HS512", "RATELIMIT_STRATEGY": "fixed-window", "SESSION_COOKIE_SECURE": False,
        "STORAGE_URL": f"file://{tmp_path}", "SQLALCHEMY_ENGINE_OPTIONS": {},
    }  # fmt: skip
    values = config.load("", given)
    assert {name: values[name] for name in given} == given


def test_app_without_redis_can_be_asked_for_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("REDIS_URL", REDIS)
    assert config.load(str(tmp_path), {"REDIS_URL": None})["REDIS_CLIENT"] is None
