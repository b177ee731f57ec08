"""A host with RabbitMQ and nothing else of this project, shared by the inventories of two apps."""

from __future__ import annotations

from pathlib import Path

from testbed import durations, sites
from testbed.sites import Declaration, Site

SECOND = "notes"
"""The app whose inventory gives its password; that of the first is made on the host."""
CREDENTIALS_DIR = "/etc/rabbitmq-credentials"
CLIENT_PATH = Path(__file__).with_name("amqp_client.py")


def start(declaration: Declaration, say) -> Site:
    """Start a plain host and let two inventories bring RabbitMQ to it."""
    site = sites.start(declaration, say)
    for label, inventory in (("RabbitMQ on a fresh host", None), ("RabbitMQ of a second app", second(site))):
        play = provision(site, inventory, label).ok()
        durations.record(play.title, play.seconds)
    return site


def provision(site: Site, inventory: Path | None, label: str):
    """Run site.yml, as far as it is about RabbitMQ, and return how it went."""
    return site.play("site", "--tags", "rabbitmq", inventory=inventory, label=label)


def second(site: Site) -> Path:
    """Write the second app's inventory and return it."""
    secret = (
        "{{ lookup('ansible.builtin.password', target_host_state_dir ~ '/secrets/%s', length=40,"
        " chars=['ascii_letters', 'digits']) }}"
    )
    return sites.write_inventory(
        site.declaration.path.with_name(f"{site.name}-{SECOND}"),
        site.name,
        site.declaration.host_vars(),
        {
            **site.vars,
            "app_name": SECOND,
            "app_server_names": [f"{SECOND}.localhost"],
            "app_secrets": {name: secret % f"{SECOND}_{name}" for name in ("secret_key", "broker_password")},
        },
        state_dir=site.state_dir,
    )


def sign_in(site: Site, user: str, vhost: str, password_of: str | None = None) -> str:
    """Connect on the host as a client would, and return what the server said: open, 530, …

    The password never leaves the host: it is read from the file of `password_of`, the user's own otherwise.
    """
    command = f"python3 - {user} {vhost} {CREDENTIALS_DIR}/{password_of or user}"
    return site.sudo(command, stdin=CLIENT_PATH.read_bytes()).strip()
