import pytest
from flask_ops.settings import SettingError
from inbox import config, create_app

URL = "postgresql+psycopg:///inbox?host=/run/postgresql"


@pytest.fixture
def production(monkeypatch, tmp_path):
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "app_secret_key").write_text("k" * 40 + "\n")
    return tmp_path


def test_development_needs_nothing(tmp_path):
    values = config.load(str(tmp_path / "instance"), {})
    assert str(values["SQLALCHEMY_DATABASE_URI"]) == f"sqlite:///{tmp_path}/instance/inbox.sqlite"
    assert values["SECRET_KEY"] != config.load(str(tmp_path), {})["SECRET_KEY"]
    assert values["SESSION_COOKIE_SECURE"] is False


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
    [("DATABASE_URL", "DATABASE_URL is not set"), ("secret_key", "'secret_key' is missing")],
)
def test_production_names_what_is_missing(production, monkeypatch, missing, said):
    monkeypatch.delenv(missing, raising=False)
    (production / f"app_{missing}").unlink(missing_ok=True)
    monkeypatch.setenv("SECRET_KEY", "an environment variable is no place for it")
    with pytest.raises(SettingError, match=said):
        create_app()


def test_every_mistake_is_named_at_once(monkeypatch):
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg:///inbox")
    monkeypatch.setenv("DATABASE_POOL_SIZE", "many")
    monkeypatch.setenv("DATABASE_POOL_TIMEOUT_SECONDS", "0")
    with pytest.raises(SettingError, match=r"(?s)'secret_key'.*DATABASE_POOL_SIZE.*POOL_TIMEOUT"):
        create_app()


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
