import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from inbox import create_app
from inbox.models import db

_OURS = ("GUNICORN_", "FLASK_OPS_", "RELEASE_", "PROMETHEUS_", "APP_", "DATABASE_", "CREDENTIALS_DIRECTORY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def app(tmp_path):
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/inbox.sqlite", "TESTING": True})
    with app.app_context():
        db.create_all()
    # Handlers answer as in production.
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server of our own on a unix socket; the address of its empty database ``inbox``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL's server is not installed")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="inbox-pg-"))
    # PostgreSQL refuses to run as root.
    user = "nobody" if getpass.getuser() == "root" else getpass.getuser()
    if user == "nobody":
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        folder.chmod(0o755)
    as_user = {"user": user} if user == "nobody" else {}
    initdb = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "inbox", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **as_user)
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-F"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **as_user)
    try:
        psql = ["psql", "-h", folder, "-U", "inbox", "postgres", "-c", "CREATE DATABASE inbox"]
        for _ in range(100):
            if subprocess.run(psql, check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        yield f"postgresql+psycopg://inbox@/inbox?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(folder)
