"""nginx in a sandbox as scanners meet it, with a certificate that the tls role's own tasks made."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gunicorns import gunicorn
from rendering import ROOT, Host, environment
from sandbox import Sandbox
from test_serving import described

SERVE = """
set -e
ln -sfn /shared/app.sock "/srv/$0/upstream.sock"
cp /shared/ca/issued/app/*.pem "/etc/ssl/$0/"
echo "127.0.0.1 $1" >> /etc/hosts
nginx
"""


@dataclass(frozen=True)
class Scanned:
    """A site that is served, and the certificate of who vouches for it."""

    sandbox: Sandbox
    site: dict[str, Any]
    authority: Path

    @property
    def address(self) -> str:
        return f"{self.site['name']}:{self.site['https_port']}"


def certify(folder: Path, names: list[str]) -> None:
    """Make `ca/ca.crt` in the folder, and what the authority issues: by the tls role's own tasks."""
    play = {
        "name": "Certify",
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"tls_local_ca_dir": str(folder / "ca"), "tls_name": "app", "tls_server_names": names},
        "tasks": [
            {
                "name": "Make a certificate",
                "ansible.builtin.import_role": {"name": "tls", "tasks_from": "local_ca"},
            }
        ],
    }
    playbook = folder / "certify.yml"
    playbook.write_text(yaml.safe_dump([play], sort_keys=False))
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "--inventory", "localhost,", "--connection", "local", playbook],
        cwd=folder,
        env=environment(folder) | {"ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@contextmanager
def sample_app(folder: Path) -> Iterator[None]:
    """Serve the sample app as in production, but for database and Redis: a stranger is answered without."""
    (folder / "app_secret_key").write_text(secrets.token_hex())
    settings = {
        "APP_ENV": "production",
        "DATABASE_URL": f"sqlite:///{folder}/database",
        "REDIS_URL": f"unix://{folder}/redis.sock",
        "STORAGE_URL": f"file://{folder}/files",
        "CREDENTIALS_DIRECTORY": folder,
    }
    with gunicorn(folder, "inbox.wsgi:app", **settings):
        yield


@contextmanager
def scanned(host: Host, folder: Path, shared: Mapping[str, Path] | None = None) -> Iterator[Scanned]:
    """Serve a host's site with what `certify` and `sample_app` put into the folder, beside what is shared."""
    with Sandbox(host.debian, [host], {"/shared": folder, **(shared or {})}) as made:
        started = made.run("sh", "-c", SERVE, host.app, described(host)["name"])
        assert started.returncode == 0, started.stderr
        yield Scanned(made, described(host), folder / "ca/ca.crt")
