"""Get the certificate and its key from the host that issues, and believe nothing but what it sealed."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tlsctl import certificate, sealing
from tlsctl.certificate import Certificate
from tlsctl.errors import Trouble
from tlsctl.settings import Issuer, Settings
from tlsctl.writing import replace

TIMEOUT_SECONDS = 10
LARGEST = 1 << 20
# How far the clocks of two hosts may be apart.
CLOCKS_APART_SECONDS = 300
PROVISION = "on the controller, without --limit: ansible-playbook playbooks/site.yml --tags tls,nginx"


@dataclass(frozen=True)
class Fetched:
    """A certificate with its key, and when it was sealed, in seconds since 1970."""

    certificate: Certificate
    pair: dict[str, bytes]
    at: float


def fetch(settings: Settings) -> Fetched:
    """Return what the issuing host has sealed for this one.

    :raises Trouble: when it has nothing, or what came is not to be taken up.
    """
    issuer = settings.issuer
    if issuer is None:
        raise Trouble(f"tlsctl is told that its certificate is {settings.mode}, so it is fetched from nobody")
    if not settings.peer(issuer.host).exists():
        raise Trouble(f"nobody told this host how to know {issuer.host}", PROVISION)
    return _accept(settings, sealing.unseal(settings, _ask(settings, issuer), issuer.host))


def remember(settings: Settings, fetched: Fetched) -> None:
    """Remember what was taken up: nothing that was sealed before will be."""
    replace(settings.accepted, f"{fetched.at}\n")


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Let one fetch at a time write: the timer's, or a person's."""
    settings.accepted.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with settings.accepted.with_name("fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ask(settings: Settings, issuer: Issuer) -> str:
    where = f"{issuer.host} ({issuer.address}, port {issuer.port})"
    # TLS keeps what is sealed from others' eyes; it is believed for its seal, not for who sent it.
    connection = http.client.HTTPSConnection(
        issuer.address, issuer.port, timeout=TIMEOUT_SECONDS, context=certificate.unverified()
    )
    try:
        headers = {"Host": settings.server_names[0]}
        connection.request("GET", f"/sealed/{settings.host}.cms", headers=headers)
        response = connection.getresponse()
        content = response.read(LARGEST)
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(
            f"{where} does not answer: {error}", f"on {issuer.host}: systemctl status nginx; nft list ruleset"
        ) from error
    finally:
        connection.close()
    if response.status == http.HTTPStatus.NOT_FOUND:
        raise Trouble(f"{where} has nothing for {settings.host}", PROVISION)
    if response.status != http.HTTPStatus.OK:
        raise Trouble(f"{where} answers {response.status}")
    return content.decode(errors="replace")


def _accept(settings: Settings, told: dict) -> Fetched:
    if (told["name"], told["host"]) != (settings.name, settings.host):
        raise Trouble(f"what came is {told['name']}'s, for {told['host']}")
    before = float(settings.accepted.read_text()) if settings.accepted.exists() else 0
    if told["at"] < before:
        raise Trouble(
            f"what came was sealed on {certificate.shown(told['at'])}, before what was taken up already, "
            f"of {certificate.shown(before)}"
        )
    if told["at"] > time.time() + CLOCKS_APART_SECONDS:
        raise Trouble(f"what came was sealed on {certificate.shown(told['at'])}, by this host's clock later")
    found = certificate.parse(told["pair"]["fullchain.pem"])
    if found.names != tuple(sorted(settings.server_names)):
        raise Trouble(f"what came names {', '.join(found.names)}, not {', '.join(settings.server_names)}")
    if found.not_after <= time.time():
        raise Trouble(f"what came ended on {certificate.shown(found.not_after)}")
    pair = {name: content.encode() for name, content in told["pair"].items()}
    return Fetched(found, pair, told["at"])
