"""What the role wrote about a certificate, and where its things stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tlsctl.errors import Trouble

SETTINGS_DIR = Path("/etc/tlsctl")
STATE_DIR = Path("/var/lib/tlsctl")
CERTBOT_DIR = Path("/etc/letsencrypt")


@dataclass(frozen=True)
class Acme:
    """Where and how a certificate is asked for."""

    directory_url: str
    email: str


@dataclass(frozen=True)
class Issuer:
    """The host that gives this one its certificate."""

    host: str
    address: str
    port: int


@dataclass(frozen=True)
class Settings:
    """One certificate.

    :param name: of the certificate: the app's.
    :param mode: where it comes from: acme, fetched (from the host that has acme), local_ca or files.
    :param folder: where nginx reads it.
    :param port: of nginx's TLS listener on this host.
    :param renew_before_days: when somebody should have renewed it, where that is not certbot's business.
    :param acme: with mode acme alone.
    :param host: this one, by the name the inventory has for it.
    :param members: with mode acme, the other hosts that are to have the certificate.
    :param issuer: with mode fetched alone.
    """

    name: str
    mode: str
    server_names: tuple[str, ...]
    folder: Path
    port: int
    renew_before_days: int
    acme: Acme | None
    host: str
    members: tuple[str, ...]
    issuer: Issuer | None
    settings_dir: Path
    state_dir: Path
    certbot_dir: Path

    @property
    def certificate(self) -> Path:
        """The chain that nginx reads, leaf first."""
        return self.folder / "fullchain.pem"

    @property
    def private_key(self) -> Path:
        """The key that nginx reads."""
        return self.folder / "privkey.pem"

    @property
    def lineage(self) -> Path:
        """Certbot's newest certificate and key."""
        return self.certbot_dir / "live" / self.name

    @property
    def renewal(self) -> Path:
        """What certbot knows about renewing it."""
        return self.certbot_dir / "renewal" / f"{self.name}.conf"

    @property
    def identity_certificate(self) -> Path:
        """By what the other hosts know this one."""
        return self.settings_dir / self.name / "identity.crt"

    @property
    def identity_key(self) -> Path:
        """What this host signs and decrypts with."""
        return self.settings_dir / self.name / "identity.key"

    def peer(self, host: str) -> Path:
        """By what this host knows another one; the role brought it."""
        return self.settings_dir / self.name / "peers" / f"{host}.crt"

    @property
    def sealed(self) -> Path:
        """The folder nginx serves the sealed pairs from."""
        return self.state_dir / self.name / "sealed"

    @property
    def accepted(self) -> Path:
        """When the last pair that was taken up had been sealed."""
        return self.state_dir / self.name / "accepted"

    @property
    def metrics(self) -> Path:
        """What Prometheus is told; nginx's internal listener serves it."""
        return self.state_dir / self.name / "metrics.prom"

    @property
    def last_run(self) -> Path:
        """How the last renewal ended."""
        return self.state_dir / self.name / "last_run.json"

    @property
    def challenges(self) -> Path:
        """The folder nginx answers challenges from, the same for all certificates of the host."""
        return self.state_dir / "webroot"


def load(
    name: str,
    settings_dir: Path = SETTINGS_DIR,
    state_dir: Path = STATE_DIR,
    certbot_dir: Path = CERTBOT_DIR,
) -> Settings:
    """Read the settings of one certificate.

    :raises Trouble: when there are none of that name.
    """
    path = settings_dir / f"{name}.json"
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        known = ", ".join(names(settings_dir)) or "none"
        raise Trouble(f"no certificate {name!r} is set up here (there is: {known})") from None
    acme = Acme(**told["acme"]) if told["mode"] == "acme" else None
    return Settings(
        name=name,
        mode=told["mode"],
        server_names=tuple(told["server_names"]),
        folder=Path(told["folder"]),
        port=told["port"],
        renew_before_days=told["renew_before_days"],
        acme=acme,
        # Not there where another inventory's last run was before there were any.
        host=told.get("host", ""),
        members=tuple(told.get("members", ())),
        issuer=Issuer(**told["issuer"]) if told["mode"] == "fetched" else None,
        settings_dir=settings_dir,
        state_dir=state_dir,
        certbot_dir=certbot_dir,
    )


def names(settings_dir: Path = SETTINGS_DIR) -> list[str]:
    """Return the certificates that are set up on this host."""
    return sorted(path.stem for path in settings_dir.glob("*.json"))
