import importlib
import os
import time

import flask_ops.gunicorn_logger  # noqa: F401 - gunicorn imports it by name
import pytest
from flask_ops import drain
from flask_ops.settings import SettingError, boolean, credential, integer, release, setting


def test_setting_falls_back_only_when_told(monkeypatch):
    monkeypatch.setenv("APP_COLOUR", "green")
    assert setting("APP_COLOUR") == "green"
    monkeypatch.setenv("APP_COLOUR", "")
    assert setting("APP_COLOUR", None) is None
    with pytest.raises(SettingError, match=r"APP_COLOUR is not set\. Set it"):
        setting("APP_COLOUR")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2.5", "not a whole number. Set it to one from 1 to 9"),
        ("0", "out of range"),
        ("10", "out of range. Set it to a whole number from 1 to 9"),
    ],
)
def test_integer_names_variable_and_range(monkeypatch, text, said):
    monkeypatch.setenv("APP_SIZE", text)
    with pytest.raises(SettingError, match=f"APP_SIZE=.*{said}"):
        integer("APP_SIZE", 3, minimum=1, maximum=9)


def test_integer_and_boolean_defaults(monkeypatch):
    assert (integer("APP_SIZE", 3), boolean("APP_FLAG", True)) == (3, True)
    monkeypatch.setenv("APP_FLAG", "Off")
    monkeypatch.setenv("APP_SIZE", "7")
    assert (integer("APP_SIZE", 3), boolean("APP_FLAG", True)) == (7, False)
    monkeypatch.setenv("APP_FLAG", "maybe")
    with pytest.raises(SettingError, match=r"APP_FLAG='maybe' is not a switch\. Set it to 1 or 0"):
        boolean("APP_FLAG", True)


def test_credential_comes_from_its_file_and_never_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("secret_key", "wrong")
    monkeypatch.setenv("SECRET_KEY", "wrong")
    with pytest.raises(SettingError, match=r"'secret_key' is missing: \$CREDENTIALS_DIRECTORY is not set"):
        credential("secret_key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingError, match="no file app_secret_key"):
        credential("secret_key")
    assert credential("secret_key", None) is None
    (tmp_path / "app_secret_key").write_text("  s3cret \n")
    assert credential("secret_key") == "  s3cret "
    (tmp_path / "app_secret_key").write_bytes(b"\xff")
    with pytest.raises(SettingError, match="cannot be read: UnicodeDecodeError"):
        credential("secret_key")


def test_release_and_drain_follow_the_environment(monkeypatch, tmp_path):
    assert (release(), drain.draining()) == ("dev", False)
    monkeypatch.setenv("RELEASE_ID", "r1")
    monkeypatch.setenv("FLASK_OPS_DRAIN_FILE", str(tmp_path / "drain"))
    assert (release(), drain.draining()) == ("r1", False)
    (tmp_path / "drain").touch()
    assert drain.draining()


def test_drain_that_is_asked_for_on_each_request_is_looked_for_seldom(monkeypatch, tmp_path):
    monkeypatch.setenv("FLASK_OPS_DRAIN_FILE", str(tmp_path / "drain"))
    monkeypatch.setattr(drain, "_look_again", 0.0)
    (tmp_path / "drain").touch()
    asked = time.monotonic()
    assert drain.draining_lately()
    (tmp_path / "drain").unlink()
    while drain.draining_lately():
        pass
    assert drain.LOOK_SECONDS <= time.monotonic() - asked < 100 * drain.LOOK_SECONDS


@pytest.fixture
def conf(monkeypatch):
    """Load the gunicorn configuration in this process, which must not be patched: without gevent."""
    monkeypatch.setenv("APP_WSGI", "shop:app")
    monkeypatch.setenv("GUNICORN_WORKER_CLASS", "gthread")

    def load(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        import flask_ops.gunicorn_conf

        return importlib.reload(flask_ops.gunicorn_conf)

    return load


def test_gunicorn_defaults_agree_with_nginx_and_systemd(conf):
    found = conf()
    # nginx's upstream keepalive_timeout 2 s < keepalive < graceful_timeout < TimeoutStopSec 40 s
    assert 2 < found.keepalive < found.graceful_timeout < 40
    assert found.workers >= 2
    assert found.preload_app is True
    assert found.bind == ["127.0.0.1:8000"]
    assert found.control_socket_disable is True
    assert (found.worker_class, found.threads) == ("gthread", 8)
    assert (found.max_requests, found.max_requests_jitter) == (0, 0)


def test_gunicorn_settings_follow_the_environment(conf):
    found = conf(
        GUNICORN_WORKER_CLASS="shop.workers.FastWorker",
        GUNICORN_WORKERS="3",
        GUNICORN_MAX_REQUESTS="5000",
        GUNICORN_BIND="127.0.0.1:1,unix:/run/x",
        FLASK_OPS_CONTROL_SOCKET="/run/shop/ctl",
        GUNICORN_LOG_LEVEL="DEBUG",
    )
    assert (found.worker_class, found.threads, found.workers) == ("shop.workers.FastWorker", 1, 3)
    assert (found.max_requests, found.max_requests_jitter) == (5000, 500)
    assert found.bind == ["127.0.0.1:1", "unix:/run/x"]
    assert (found.control_socket, found.control_socket_disable) == ("/run/shop/ctl", False)
    assert found.loglevel == "debug"


def test_gunicorn_binds_nothing_itself_when_systemd_hands_over_a_socket(conf):
    assert conf(LISTEN_FDS="1", LISTEN_PID=str(os.getpid())).bind == []
    assert conf(LISTEN_FDS="1", LISTEN_PID="1").bind == ["127.0.0.1:8000"]


@pytest.mark.parametrize(
    "env",
    [
        {"GUNICORN_WORKER_CLASS": "eventlet"},
        {"GUNICORN_LOG_LEVEL": "loud"},
        {"GUNICORN_KEEPALIVE_SECONDS": "0"},
        {"GUNICORN_KEEPALIVE_SECONDS": "30"},
        {"GUNICORN_PRELOAD": "perhaps"},
    ],
)
def test_gunicorn_refuses_what_it_does_not_understand_by_name(conf, env):
    conf()
    with pytest.raises(SettingError, match=next(iter(env))):
        conf(**env)
