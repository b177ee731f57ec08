"""One app on a pretended host: real files, sockets, processes and uv; only systemd is a small fake."""

import contextlib
import grp
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "roles/app/files"))
sys.path.insert(0, str(Path(__file__).parent))

from releasectl import cli, config, systemd
from releasectl.layout import Layout
from releasectl_archives import deps_archive, release_archive
from releasectl_nginx import FakeNginx
from releasectl_systemd import FakeSystemd

# The lock that pytest came from has uv too.
UV = Path(sys.executable).with_name("uv")


class Run:
    """What one command said."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        return self.json["error"]


class Site:
    """One app: its folders, its systemd, its nginx, and `releasectl`."""

    def __init__(self, base, edge_port=None):
        self.base, self.root, self.run_dir = base, base / "srv", base / "run"
        self.settings_dir, self.builds = base / "etc", base / "builds"
        for folder in (self.root, self.run_dir, self.settings_dir, self.builds, self.root / "incoming"):
            folder.mkdir()
        self.settings = {
            "app": "inbox",
            "root": str(self.root),
            "run_dir": str(self.run_dir),
            "user": "root",
            "group": grp.getgrgid(os.getgid()).gr_name,
            "uv": str(UV),
            "python": os.path.realpath(sys.executable),
            "keep": 2,
            "start_timeout_seconds": 5,
            "drain_timeout_seconds": 3,
            "stop_timeout_seconds": 8,
            "migrate_timeout_seconds": 5,
            "edge": None,
            "edge_timeout_seconds": 3,
            "idle_close_seconds": 0.4,
            "companions": [],
            "worker_stop_timeout_seconds": 8,
        }
        self.configure()
        self.layout = Layout(config.load(self.settings_dir / "inbox.json"))
        self.systemd = FakeSystemd(base / "systemd", self.root, self.run_dir)
        self.nginx = None

    def configure(self, **changes):
        self.settings.update(changes)
        (self.settings_dir / "inbox.json").write_text(json.dumps(self.settings))

    def serve_edge(self, certificate):
        self.nginx = FakeNginx(self.layout.upstream, certificate)
        where = {"url": "https://inbox.localhost/version", "connect": f"127.0.0.1:{self.nginx.port}"}
        self.configure(edge=where)

    def close(self):
        if self.nginx:
            self.nginx.close()
        self.systemd.close()

    def run(self, *words, json_form=True):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([*map(str, words), *(["--json"] if json_form else [])], self.settings_dir)
        return Run(code, out.getvalue(), err.getvalue())

    def ok(self, *words):
        run = self.run(*words)
        assert run.code == 0, run.out + run.err
        return run.json

    def fork(self, *words):
        """Run a command in a process of its own, to be killed."""
        process = os.fork()
        if process == 0:
            sink = os.open(self.base / "forked.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            code = 99
            try:
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                code = cli.main([*map(str, words)], self.settings_dir)
            finally:
                os._exit(code)
        return process

    def put(
        self,
        number=1,
        behaviour=None,
        migrate="",
        modules=("celery/__init__.py", "flower/__init__.py", "flask_ops/hold.py"),
        celery="ourapp.worker:app",
    ):
        """Lay a staged release down without uv: for tests of what comes after staging."""
        path, release_id = release_archive(
            self.builds, "0" * 12, number, behaviour=behaviour, migrate=migrate, celery=celery
        )
        subprocess.run(["mkdir", "-p", self.layout.release(release_id)], check=True)
        subprocess.run(["tar", "xf", path, "-C", self.layout.release(release_id)], check=True)
        for module in modules:
            path = self.layout.release(release_id) / "venv/lib/python3.11/site-packages" / module
            path.parent.mkdir(parents=True)
            path.touch()
        return release_id

    def serve(self, *releases):
        """Have releases served one after the other, the last one still, without going through them all."""
        lines = [{"command": "activate", "release": one, "result": "done"} for one in releases]
        self.layout.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for link, one in zip((self.layout.current, self.layout.previous), releases[:-3:-1], strict=False):
            self.layout.link_release(link, one)
        self.layout.switch_to(releases[-1])
        names = [f"inbox-web@{releases[-1]}.{kind}" for kind in ("socket", "service")]
        names += [f"inbox-{kind}@{releases[-1]}.service" for kind in self.settings["companions"]]
        self.systemd.do_start(names)
        self.systemd.boot.clear()
        self.systemd.boot |= set(names)
        self.layout.show_flower(releases[-1] if "flower" in self.settings["companions"] else None)

    def ledger(self):
        lines = self.layout.ledger.read_text().splitlines() if self.layout.ledger.exists() else []
        return [json.loads(line) for line in lines]

    def links(self):
        names = (self.layout.current, self.layout.previous)
        return (self.layout.active(), *(self.layout.linked(link) for link in names))


@pytest.fixture
def apphost(monkeypatch):
    # A short path: that of a unix socket has 108 bytes at most.
    base = Path(tempfile.mkdtemp(prefix="rctl-"))
    apphost = Site(base)
    monkeypatch.setenv("PATH", f"{apphost.systemd.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "UNIT_DIR", apphost.systemd.boot.folder)
    monkeypatch.setenv("RELEASECTL_BY", "alice")
    # The whole of it runs as an ordinary user too; that root is asked for has a test of its own.
    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    yield apphost
    apphost.close()
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "edge.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=inbox.localhost"
    )
    subprocess.run(
        ["openssl", *words.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def edged(apphost, certificate):
    """A apphost with an nginx in front."""
    apphost.serve_edge(certificate)
    return apphost


@pytest.fixture
def deps(apphost):
    """A dependencies archive and its id."""
    return deps_archive(apphost.builds)


@pytest.fixture
def load(edged):
    """Visitors that never stop asking through nginx; calling it returns what they were answered."""
    answers, going = [], threading.Event()
    going.set()

    def visit():
        while going.is_set():
            answers.append(edged.nginx.pass_on("/", "inbox.localhost")[0])
            time.sleep(0.002)

    threads = [threading.Thread(target=visit, daemon=True) for _ in range(4)]

    def begin():
        for thread in threads:
            thread.start()

    def end():
        going.clear()
        for thread in threads:
            thread.join()
        return answers

    yield begin, end
    going.clear()
