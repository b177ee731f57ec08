"""The sample app handing its webhooks on to a slow service on its own host, and what both say of each."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import further_apps
from further_apps import App
from target_host.shell import PROJECT_DIR
from testbed.https import Answer, Client
from testbed.sites import Site, until
from testbed.webhooks import Sender

SOURCE = PROJECT_DIR / "app_skeleton/inbox"
SERVICE = Path(__file__).parent / "receiving/service.py"
SECRETS = ("secret_key", "admin_password", "webhook_github")
RELAY_TIMEOUT_SECONDS = 90
"""How long workers wait for the service: a task may outlive a deploy."""
IMPATIENT_SECONDS = 10
"""How long they do where a test waits for one that was killed to be given up for lost."""
LEASE_MARGIN_SECONDS = 20
"""What a worker gets on top of that."""
INVENTORY = """
app_name: {name}
app_server_names: [{name}.localhost]
app_source: {source}
app_wsgi: inbox.wsgi:app
app_lock: "{{{{ app_source }}}}/requirements.txt"
app_static_dir: inbox/static
app_migrate_command: flask --app inbox.wsgi prepare
app_celery: inbox.worker:app
app_beat_scheduler: inbox.beat:Scheduler
app_flower_enabled: true
app_broker: {broker}
app_environment:
  STORAGE_URL: file:///srv/{name}/shared/files
  RELAY_URL: http://127.0.0.1:{port}/
  RELAY_TIMEOUT_SECONDS: {relay_timeout_seconds}
nginx_client_max_body_size: 200m
"""


@dataclass(frozen=True)
class Inbox:
    """An app with its service.

    :param port: where its service listens, on the host's loopback.
    """

    app: App
    sender: Sender
    broker: str
    port: int

    @property
    def site(self) -> Site:
        """The host."""
        return self.app.site

    @property
    def broker_unit(self) -> str:
        """The broker's systemd unit."""
        return {"redis": "redis-server.service", "rabbitmq": "rabbitmq-server.service"}[self.broker]

    @property
    def folder(self) -> str:
        """Where its service runs."""
        return f"/run/receiving-{self.app.name}"

    def unit(self, kind: str, release: str = "") -> str:
        """Return the name of a unit of a release, of the active one unless told otherwise."""
        return f"{self.app.name}-{kind}@{release or self.app.active}.service"

    def processes(self, kind: str, release: str = "") -> list[str]:
        """Return the process ids of a unit: its main process, and that one's children."""
        unit = self.unit(kind, release)
        return self.site.sudo(
            f"pid=$(systemctl show --property=MainPID --value {unit}); ps -o pid= -p $pid --ppid $pid"
        ).split()

    def start_service(self) -> None:
        """Start the service that takes what the app hands on."""
        folder, name = self.folder, Path(self.folder).name
        prepare = f"mkdir -p {folder} && touch {folder}/notes && cat > {folder}/service.py"
        self.site.sudo(prepare, stdin=SERVICE.read_bytes())
        command = f"python3 {folder}/service.py {self.port} {folder}"
        self.site.sudo(f"systemd-run --quiet --collect --unit={name} {command}")
        listening = f"ss -Hltn 'sport = :{self.port}'"
        assert until(10, lambda: self.site.sudo(listening)), self.site.sudo(
            f"journalctl --no-pager -u {name}"
        )

    @contextmanager
    def impatient(self) -> Iterator[int]:
        """Let the worker wait for the service for a shorter time; yield how long it then holds a message."""
        folder = f"/run/systemd/system/{self.app.name}-worker@.service.d"
        restart = f"systemctl daemon-reload && systemctl restart {self.unit('worker')}"
        drop_in = f"[Service]\nEnvironmentFile={folder}/environment\n"
        self.site.sudo(
            f"mkdir -p {folder} && echo RELAY_TIMEOUT_SECONDS={IMPATIENT_SECONDS} > {folder}/environment && "
            f"cat > {folder}/impatient.conf && {restart}",
            stdin=drop_in.encode(),
        )
        try:
            yield IMPATIENT_SECONDS + LEASE_MARGIN_SECONDS
        finally:
            self.site.sudo(f"rm -r {folder} && {restart}")

    def send(self, event: str, *waits: int) -> Sent:
        """Send a webhook that must be taken, and return it.

        :param waits: how many seconds the service takes when it is given it first, then, and so on.
        """
        delivery_id = new_id()
        payload = {"ref": delivery_id, "waits": waits or [0]}
        answer = self.sender.send(delivery_id, payload, event=event)
        assert (answer.status, answer.json()["status"]) == (202, "accepted"), answer.text[:500]
        return Sent(self, answer.json()["id"], delivery_id)

    def query(self, sql: str) -> str:
        """Ask the app's database as the app."""
        command = f"psql --quiet --no-psqlrc -tA -v ON_ERROR_STOP=1 -d {shlex.quote(self.app.name)}"
        return self.site.sudo(command, user=self.app.name, stdin=sql.encode()).strip()

    def tally(self, event: str) -> int:
        """Return how many messages of an event were counted."""
        return int(self.query(f"select coalesce(sum(count), 0) from tally where event = '{event}'"))

    def notes(self) -> list[dict[str, Any]]:
        """Return what the service wrote down, in order."""
        return [json.loads(line) for line in self.site.sudo(f"cat {self.folder}/notes").splitlines()]

    def ticks(self, since: float) -> list[str]:
        """Return which units of beat sent a task, once for each, the earliest first.

        :param since: seconds since the epoch.
        """
        entries = [entry for entry in self.app.journal(kind="beat") if "Sending due task" in entry["MESSAGE"]]
        return [
            entry["_SYSTEMD_UNIT"] for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) / 1e6 > since
        ]

    def signed_in(self) -> dict[str, str]:
        """Sign in by the page, as the admin; return the header to go on with."""
        return sign_in(self.app.web, self.sender.secret("admin_password"))


def sign_in(web: Client, password: str) -> dict[str, str]:
    """Sign in to the sample app by its page, as the admin; return the header to go on with."""
    page = web.get("/auth/sign-in")
    token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)
    assert token, page.text[:1000]
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": cookie_of(page),
        "Referer": f"https://{web.host_header}/auth/sign-in",
    }
    form = f"csrf_token={token[1]}&email=admin%40localhost&password={password}"
    answer = web.request("POST", "/auth/sign-in", headers=headers, body=form.encode())
    assert answer.status == 303, answer.text[:1000]
    return {"Cookie": cookie_of(answer)}


@dataclass(frozen=True)
class Sent:
    """A webhook that was taken."""

    inbox: Inbox
    message_id: int
    delivery_id: str

    @property
    def key(self) -> str:
        """What the service knows it by."""
        return f"github:{self.delivery_id}:0"

    def state(self) -> dict[str, Any]:
        """Return its status and its attempts, the first one first, with times in seconds since the epoch."""
        return json.loads(
            self.inbox.query(
                "select json_build_object('status', status, 'attempts', (select coalesce(json_agg("
                "json_build_object('outcome', outcome, 'worker', worker, "
                "'began', extract(epoch from began_at), 'ended', extract(epoch from ended_at)) "
                "order by number), '[]') "
                "from attempt where message_id = message.id)) "
                f"from message where id = {self.message_id}"
            )
        )

    def let_go(self) -> None:
        """Have the service answer now."""
        self.inbox.site.sudo(f"touch {self.inbox.folder}/{self.key}")

    def is_done(self) -> bool:
        """Tell whether it is processed."""
        return self.state()["status"] == "done"

    def received(self) -> list[dict[str, Any]]:
        """Return how often the service was given it: what it wrote down as it began."""
        return [note for note in self.inbox.notes() if note["key"] == self.key and note["what"] == "began"]

    def wait_until_begun(self, seconds: float = 20) -> dict[str, Any]:
        """Wait until the service works on it, and return what the service wrote down."""
        assert until(seconds, self.received), f"{self.key} does not reach the service: {self.state()}"
        return self.received()[-1]


def new_id() -> str:
    """Return a delivery id that was never used."""
    return secrets.token_hex(8)


def cookie_of(answer: Answer) -> str:
    """Return the session's cookie as it is sent back."""
    return answer.headers["Set-Cookie"].partition(";")[0]


def new_event(word: str) -> str:
    """Return an event that was never counted."""
    return f"{word}-{secrets.token_hex(4)}"


def declare(site: Site, broker: str) -> Inbox:
    """Write an app's inventory and return it, not yet there."""
    number = {"redis": 1, "rabbitmq": 2}[broker]
    name = {"redis": "relayed", "rabbitmq": "rabbited"}[broker]
    port = 9090 + number
    declaration = INVENTORY.format(
        name=name,
        source=SOURCE,
        broker=broker,
        port=port,
        relay_timeout_seconds=RELAY_TIMEOUT_SECONDS,
    )
    folder = site.state_dir / f"{name}-secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for secret in SECRETS:
        (folder / secret).write_text(secrets.token_hex(20))
    held = {secret: (folder / secret).read_text() for secret in SECRETS}
    app = further_apps.declare(
        site, declaration, {"app_secrets": held}, groups=("app_servers", "databases", "brokers")
    )
    return Inbox(app, Sender(app.web, folder), broker, port)
