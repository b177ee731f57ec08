import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask_ops import addresses, boot
from flask_ops.settings import Mistakes


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    """A folder of secrets as systemd makes it; write one by name."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    def write(name, value):
        (tmp_path / f"app_{name}").write_text(value)
        return str(tmp_path / f"app_{name}")

    return write


def test_app_finds_its_secrets_where_it_has_always_looked(monkeypatch, credentials):
    key, settings = os.urandom(8).hex(), credentials("settings", "DEBUG = False\n")
    credentials("secret_key", key + "\n")
    monkeypatch.setenv(boot.VALUES, '{"SHOP_KEY": "secret_key"}')
    monkeypatch.setenv(boot.FILES, '{"SHOP_SETTINGS": "settings"}')
    assert boot.secret_environment() == {"SHOP_KEY": key, "SHOP_SETTINGS": settings}


@pytest.mark.parametrize(
    ("told", "passwords", "found"),
    [
        ("unix:///run/redis.sock?db=3", {}, "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix:///run/redis.sock", {}, "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///r.sock?db=3", {"redis": "p@s/s"}, "redis+socket://:p%40s%2Fs@/r.sock?virtual_host=3"),
        ("redis+socket:///b.sock?virtual_host=1", {}, "redis+socket:///b.sock?virtual_host=1"),
        ("redis+socket:///b.sock?virtual_host=1", {"redis": "x"}, "redis+socket://:x@/b.sock?virtual_host=1"),
        ("redis://cache:6379/1", {}, "redis://cache:6379/1"),
        ("redis://cache:6379/1", {"redis": "p@s/s"}, "redis://:p%40s%2Fs@cache:6379/1"),
        ("redis://me@cache:6379/1", {"redis": "pw"}, "redis://me:pw@cache:6379/1"),
        ("redis://:own@cache/1", {"redis": "pw"}, "redis://:own@cache/1"),
        ("redis://queue/0", {"redis": "pw", "broker": "q"}, "redis://:q@queue/0"),
        ("rediss://cache/1", {}, "rediss://cache/1?ssl_cert_reqs=required"),
        ("rediss://cache/1?ssl_cert_reqs=none", {}, "rediss://cache/1?ssl_cert_reqs=none"),
        ("amqp://mq/shop", {"redis": "pw"}, "amqp://mq/shop"),
        ("amqp://shop@mq/shop", {"broker": "p@s/s"}, "amqp://shop:p%40s%2Fs@mq/shop"),
        ("amqps://me@mq:5671/shop", {"broker": "pw"}, "amqps://me:pw@mq:5671/shop"),
        ("amqp://me:own@mq/shop", {"broker": "pw"}, "amqp://me:own@mq/shop"),
    ],
)
def test_celery_is_told_its_broker_with_the_password(monkeypatch, credentials, told, passwords, found):
    monkeypatch.setenv("BROKER_URL", told)
    monkeypatch.delenv(boot.BROKER, raising=False)
    for name, password in passwords.items():
        credentials(f"{name}_password", password)
    assert boot.broker_environment() == {boot.BROKER: found}


@pytest.mark.parametrize(
    ("variable", "told", "password", "found"),
    [
        (
            "DATABASE_URL",
            "postgresql+psycopg://shop@db:5432/shop?sslmode=require",
            "p@s/s",
            "shop:p%40s%2Fs@db:5432",
        ),
        ("DATABASE_URL", "postgresql://shop@[fd00::5]:5432/shop", "pw", "shop:pw@[fd00::5]:5432"),
        ("REDIS_URL", "rediss://shop@db:6379/0?ssl_ca_certs=/etc/shop/redis.crt", "pw", "shop:pw@db:6379"),
        ("REDIS_URL", "redis://cache/1", "pw", ":pw@cache"),
        ("REDIS_URL", "unix:///run/redis/redis.sock?db=0", "pw", ":pw@"),
    ],
)
def test_address_without_a_password_gets_it_inside_the_process(
    monkeypatch, credentials, variable, told, password, found
):
    monkeypatch.setenv(variable, told)
    credentials(addresses.PASSWORDS[variable], password)
    address = addresses.address_environment()[variable]
    assert urlsplit(address).netloc == found
    assert address.replace(f"//{found}", "", 1) == told.replace(f"//{urlsplit(told).netloc}", "", 1)


@pytest.mark.parametrize(
    ("told", "password"),
    [
        ("postgresql+psycopg:///shop?host=/run/postgresql", "pw"),  # the account itself signs in
        ("postgresql://shop:own@db/shop", "pw"),
        ("postgresql://shop@db/shop", None),
        ("", "pw"),
    ],
)
def test_address_that_wants_no_password_stays(monkeypatch, credentials, told, password):
    monkeypatch.setenv("DATABASE_URL", told)
    monkeypatch.delenv("REDIS_URL", raising=False)
    if password:
        credentials("database_password", password)
    assert addresses.address_environment() == {}


def test_app_that_knows_no_credentials_finds_the_password_in_its_address(monkeypatch, credentials):
    credentials("database_password", "from-the-file")
    monkeypatch.setenv("DATABASE_URL", "postgresql://shop@db/shop")
    monkeypatch.delenv("BROKER_URL", raising=False)
    boot.export_secrets()
    assert os.environ["DATABASE_URL"] == "postgresql://shop:from-the-file@db/shop"


def test_broker_that_somebody_named_to_celery_stays(monkeypatch, credentials):
    monkeypatch.setenv("BROKER_URL", "redis://127.0.0.1/0")
    monkeypatch.setenv(boot.BROKER, "redis://127.0.0.1/1")
    assert boot.broker_environment() == {}


def test_every_mistake_is_named_at_once(monkeypatch, credentials):
    credentials("known", "x")
    monkeypatch.setenv(boot.VALUES, '{"A": "absent", "B-1": "known", "C": "known"}')
    monkeypatch.setenv(boot.FILES, '{"C": "known", "D": "gone"}')
    with pytest.raises(Mistakes) as caught:
        boot.secret_environment()
    assert len(caught.value.mistakes) == 4
    for word in ("'absent'", "'B-1'", "C stands in both", "'gone'"):
        assert word in str(caught.value)


def test_malformed_map_is_named(monkeypatch):
    monkeypatch.setenv(boot.VALUES, "[]")
    monkeypatch.setenv(boot.FILES, "{")
    with pytest.raises(
        Mistakes, match=f"(?s){boot.VALUES} is JSON, but not an object.*{boot.FILES} is not JSON"
    ):
        boot.secret_environment()


SCRIPT = """
import os, sys
from pathlib import Path
started_with_it = os.environ["KEY"] in Path("/proc/self/environ").read_text()
with open(sys.argv[-1], "a") as out:
    print(os.environ["KEY"], started_with_it, file=out)
sys.exit(int(os.environ.get("STATUS", 0)))
"""


def run(command, folder, **env):
    env = {**os.environ, "PYTHONPATH": str(folder), **env}
    return subprocess.run(
        [sys.executable, "-m", "flask_ops.run", command], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def secret(monkeypatch, credentials):
    value = os.urandom(8).hex()
    credentials("key", value)
    monkeypatch.setenv(boot.VALUES, json.dumps({"KEY": "key"}))
    return value


def test_command_gets_secrets_its_process_was_not_started_with(tmp_path, secret):
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    done = run(f"python {tmp_path}/script.py {out} && python -m script {out}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == f"{secret} False\n" * 2


def test_failing_command_stops_the_ones_after_it_and_keeps_its_status(tmp_path, secret):
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    done = run(f"python -m script {out} && python -m script {out}", tmp_path, STATUS="7")
    assert done.returncode == 7
    assert out.read_text().count("\n") == 1


def test_console_script_runs_in_this_process(tmp_path, secret):
    (tmp_path / "shop.py").write_text(
        "import os, click, flask\napp = flask.Flask('shop')\n"
        "@app.cli.command()\ndef tell(): click.echo(os.getpid())\n"
    )
    command = [sys.executable, "-m", "flask_ops.run", "flask --app shop tell"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert int(process.communicate()[0]) == process.pid
    assert process.returncode == 0


def test_shell_is_used_only_where_it_lays_no_secret_open(tmp_path, monkeypatch, secret):
    refused = run("cat /dev/null | python -m script", tmp_path)
    assert refused.returncode == 1
    assert "show the secrets" in refused.stderr
    assert secret not in refused.stderr
    monkeypatch.delenv(boot.VALUES)
    assert run('test -n "$HOME" || exit 3; exit 4', tmp_path).returncode == 4
    assert run("true", Path("/")).returncode == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [("", "The command is empty"), ("true && ", "The command is empty"), ("say 'hi", "No closing quotation")],
)
def test_what_is_no_command_is_refused(tmp_path, command, said):
    done = run(command, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
