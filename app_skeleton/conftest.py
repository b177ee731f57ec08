"""What the tests of the library and of the app share."""

import getpass
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

# Machines that write no byte code compile Flask and all else anew at every start of a server: 1.0 s of work
# instead of 0.4. Here rather than in a fixture, so that pytest's own workers start with it.
sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / ".cache" / "pycache")
os.environ |= {"PYTHONPYCACHEPREFIX": sys.pycache_prefix, "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class PostgreSQL:
    """A running server of the tests' own.

    :param url: the address of its empty database, for SQLAlchemy.
    :param pid: its first process.
    """

    url: str
    pid: int

    def signal_all(self, number: int) -> None:
        """Send a signal to the server and to every process it has for a connection."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in [self.pid, *map(int, children)]:
            os.kill(pid, number)


@pytest.fixture(scope="session")
def postgresql_server():
    """A PostgreSQL server of our own on a unix socket, with an empty database ``inbox``."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL's server is not installed")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="app-pg-"))
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
        for _ in range(600):
            if subprocess.run(psql, check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        yield PostgreSQL(f"postgresql+psycopg://inbox@/inbox?host={folder}", server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
        shutil.rmtree(folder)


@pytest.fixture
def postgresql(postgresql_server):
    """The address of a database for SQLAlchemy."""
    return postgresql_server.url


@pytest.fixture
def postgresql_database(postgresql_server):
    """The address of an empty database of the test's own."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgresql_server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgresql_server.url.replace("@/inbox?", f"@/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
