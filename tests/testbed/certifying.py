"""A host with an ACME server beside it: pebble, from Debian, which asks the host's port for each challenge.

Or two that share a certificate: one issues, with pebble on it, which asks the other one's port.

Pebble forgets its accounts when it stops, and has a new authority at each start.
https://github.com/letsencrypt/pebble
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from target_host import api

from testbed import durations, sites
from testbed.plays import Play
from testbed.sites import INNER_PORTS, Declaration, Member, Site

DIRECTORY_URL = "https://localhost:14000/dir"
FOLDER = "/root/pebble"
# As long as Let's Encrypt's.
LIFETIME_SECONDS = 90 * 86400
EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# On the host, which publishes nothing: prints what openssl tells of the certificate shown.
SHOWN = """
openssl s_client -connect 127.0.0.1:{port} -servername {name} </dev/null 2>/dev/null |
openssl x509 -noout -serial -issuer -ext subjectAltName -text
"""


@dataclass(frozen=True)
class Sharer(Member):
    """One of two hosts that share a certificate, before it exists."""

    letter = "s"
    network = 214
    first_ssh_port = 2345

    @property
    def name(self) -> str:
        """Its name in the inventory of both."""
        return f"www{self.number + 1}"

    @property
    def group_vars(self) -> dict[str, Any]:
        """What the inventory says of both: the database that is left out must be large enough."""
        return {**super().group_vars, "postgresql_max_connections": 160}


@dataclass
class Certified:
    """A host and its ACME server."""

    site: Site
    root_path: Path
    tags: str = "tls,nginx"

    @property
    def name(self) -> str:
        """The host name of the app on it."""
        return self.site.vars["app_server_names"][0]

    @property
    def ports(self) -> tuple[int, int]:
        """What nginx listens on, without TLS and with it."""
        return INNER_PORTS[self.site.debian]

    def play(self, *arguments: str, label: str, **more: object) -> Play:
        """Run site.yml for all hosts of the inventory, as far as it is about certificates and nginx."""
        extra = {
            "tls_mode": "acme",
            "tls_acme_directory_url": DIRECTORY_URL,
            "tls_acme_ca_file": str(self.root_path),
            "tls_acme_terms_of_service_agreed": True,
            **more,
        }
        return self.site.play("site", "--tags", self.tags, *arguments, extra=extra, label=label)

    def start_server(self) -> None:
        """Start pebble, with nothing of what it knew before."""
        # Each order is validated anew, at once; half of all requests being refused shows nothing of ours.
        settings = ["PEBBLE_AUTHZREUSE=0", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"]
        words = ["systemd-run", "--quiet", "--unit=pebble", *(f"--setenv={word}" for word in settings)]
        self.site.sudo(shlex.join([*words, "pebble", "-config", f"{FOLDER}/config.json"]))
        self.site.sudo(
            "for i in $(seq 100); do ss -Hltn 'sport = :14000' | grep -q . && exit 0; sleep 0.1; done; exit 1"
        )

    def stop_server(self) -> None:
        """Stop pebble."""
        self.site.sudo("systemctl stop pebble.service")

    def shown(self) -> str:
        """Return what openssl tells of the certificate that nginx shows."""
        return self.site.sudo(SHOWN.format(port=self.ports[1], name=self.name))

    def serial(self) -> str:
        """Return the serial number of the certificate that nginx shows."""
        return self.shown().splitlines()[0].removeprefix("serial=")

    def metrics(self) -> dict[str, float]:
        """Return what the internal listener tells of the certificate, by name and labels."""
        command = f"python3 - {self.name}"
        text = self.site.sudo(command, stdin=ASK_METRICS)
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if not line.startswith("#")
        }

    def make_due(self) -> None:
        """Have certbot renew at its next run, as it would at the end of a certificate."""
        path = f"/etc/letsencrypt/renewal/{self.site.app}.conf"
        self.site.sudo(
            f"sed -i 's/^renew_before_expiry = .*/renew_before_expiry = 999999999 seconds/' {path}"
        )

    def renew(self) -> bool:
        """Run what certbot's timer runs; return whether it went well."""
        return self.site.host.run("systemctl start certbot.service").rc == 0

    def fetch(self) -> bool:
        """Run what the timer of a host that fetches runs; return whether it went well."""
        return self.site.host.run("systemctl start tlsctl-fetch.service").rc == 0


ASK_METRICS = b"""
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 9180, timeout=10)
connection.request("GET", "/tls/metrics", headers={"Host": sys.argv[1]})
response = connection.getresponse()
assert response.status == 200, response.status
sys.stdout.write(response.read().decode())
"""


def start(declaration: Declaration, say: Callable[[str], None]) -> Certified:
    """Start a plain host, and pebble on it."""
    certified = Certified(sites.start(declaration, say), declaration.state_dir / "acme-root.pem")
    prepare(certified.site)
    install_server(certified, "127.0.0.1")
    return certified


def start_two(members: list[Sharer], say: Callable[[str], None]) -> list[Certified]:
    """Start two plain hosts, and pebble on the first, for which the app's name leads to the second."""
    path = members[0].path
    shutil.rmtree(path, ignore_errors=True)
    hosts = {member.name: member.host_vars() for member in members}
    names = [member.name for member in members]
    # What the app needs is left out; preflight must know where it would be.
    groups = {"app_servers": names, "databases": names[:1], "brokers": names[:1]}
    api.write_inventory(path, hosts, groups=groups, group_vars=members[0].group_vars)
    ports = [port for member in members for port in member.outer_ports]
    sites.until(sites.PORTS_TIMEOUT_SECONDS, lambda: all(map(sites.is_free, ports)))
    inventory = api.up(path, log=lambda line: None)
    root_path = members[0].state_dir / "acme-root.pem"
    found = []
    for member in members:
        site = Site(member, inventory, say)
        sites.RUNNING[site.name] = site
        prepare(site)
        found.append(Certified(site, root_path, tags="firewall,tls,nginx"))
    install_server(found[0], members[1].address)
    return found


def prepare(site: Site) -> None:
    """Leave the app out: by its account the next run knows its folders for this project's."""
    site.sudo(f"useradd --system --home-dir /srv/{site.app}/shared --shell /usr/sbin/nologin {site.app}")


def install_server(certified: Certified, address: str) -> None:
    """Install pebble on a host and start it; for everybody there, the app's name leads to an address."""
    site = certified.site
    with durations.measured(f"{site.name} pebble on a fresh host"):
        site.sudo("apt-get update -qq && apt-get install -qq -y pebble iproute2", timeout_seconds=120)
    site.sudo(f"echo {address} {certified.name} >> /etc/hosts; mkdir -m 0700 {FOLDER}")
    for name, content in {**server_certificate(certified.root_path), "config.json": config(site)}.items():
        site.sudo(f"cat > {FOLDER}/{name}", stdin=content)
    certified.start_server()


def config(site: Site) -> bytes:
    """Return pebble's settings."""
    http, https = INNER_PORTS[site.debian]
    settings = {
        "listenAddress": "127.0.0.1:14000",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": f"{FOLDER}/cert.pem",
        "privateKey": f"{FOLDER}/key.pem",
        "httpPort": http,
        "tlsPort": https,
        "certificateValidityPeriod": LIFETIME_SECONDS,
        # Of pebble 2.6; 2.4 has clients ask again after its own time.
        "retryAfter": {"authz": 1, "order": 1},
    }
    return json.dumps({"pebble": settings}).encode()


def server_certificate(root_path: Path) -> dict[str, bytes]:
    """Make a root of our own, at `root_path`, and return a certificate and a key it vouches for."""
    folder = root_path.parent / "acme-server"
    folder.mkdir(mode=0o700)
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\n")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=30)

    openssl(
        "req", "-x509", *EC_KEY, "-days", "30", "-subj", "/CN=root of a private ACME server",
        "-keyout", "root.key", "-out", str(root_path),
    )  # fmt: skip
    openssl("req", *EC_KEY, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem")
    openssl(
        "x509", "-req", "-in", "request.pem", "-CA", str(root_path), "-CAkey", "root.key",
        "-CAcreateserial", "-days", "30", "-extfile", "extensions", "-out", "cert.pem",
    )  # fmt: skip
    return {name: (folder / name).read_bytes() for name in ("cert.pem", "key.pem")}
