"""Seal a certificate and its key for one host, so that nobody else reads or replaces them on the way.

Signed by the host that issues, with whom it is for and when inside, then encrypted for that host, by the key
pairs in their identities (CMS, RFC 5652). An identity is compared as a whole and vouched for by nobody: its
dates do not matter.
"""

from __future__ import annotations

import json
import subprocess
import time

from tlsctl import installing
from tlsctl.errors import Trouble
from tlsctl.settings import Settings
from tlsctl.writing import replace


def make_identity(settings: Settings) -> bool:
    """Make this host's key pair where there is none; say whether it was made."""
    if settings.identity_certificate.exists():
        return False
    settings.identity_certificate.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Once it has its name, its key is there as well.
    new = settings.identity_certificate.with_name(".identity.crt.new")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "36500", "-subj", "/CN=tlsctl", "-addext", "basicConstraints=critical,CA:FALSE"]
    words += ["-addext", "keyUsage=critical,digitalSignature,keyAgreement"]
    _openssl(*words, "-keyout", str(settings.identity_key), "-out", str(new))
    new.rename(settings.identity_certificate)
    return True


def publish(settings: Settings) -> None:
    """Seal what nginx reads for every host that is to have it, and keep nothing for others."""
    known = [host for host in settings.members if settings.peer(host).exists()]
    for path in settings.sealed.glob("*.cms"):
        if path.stem not in known:
            path.unlink()
    for host in known:
        replace(settings.sealed / f"{host}.cms", seal(settings, pair_for(settings, host), host))


def pair_for(settings: Settings, host: str) -> dict:
    """Return the certificate and the key that nginx reads, and what a host must know about them."""
    pair = {name: content.decode() for name, content in installing.read_pair(settings.folder).items()}
    return {"name": settings.name, "host": host, "at": time.time(), "pair": pair}


def seal(settings: Settings, told: dict, host: str) -> str:
    """Return something that is told one host alone, and by this host."""
    signer = ["-signer", str(settings.identity_certificate), "-inkey", str(settings.identity_key)]
    signed = _openssl(
        "cms", "-sign", "-binary", "-nodetach", "-nocerts", "-outform", "PEM", *signer, given=json.dumps(told)
    )
    recipient = ["-recip", str(settings.peer(host)), "-keyopt", "ecdh_kdf_md:sha256"]
    return _openssl("cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM", *recipient, given=signed)


def unseal(settings: Settings, sealed: str, issuer: str) -> dict:
    """Return what another host sealed for this one.

    :raises Trouble: when it is for another host, or not of that one.
    """
    recipient = ["-recip", str(settings.identity_certificate), "-inkey", str(settings.identity_key)]
    signed = _openssl("cms", "-decrypt", "-binary", "-inform", "PEM", *recipient, given=sealed)
    # -nointern: by this signer alone, whatever certificates come with the signature.
    signer = ["-certfile", str(settings.peer(issuer)), "-nointern", "-noverify"]
    return json.loads(_openssl("cms", "-verify", "-binary", "-inform", "PEM", *signer, given=signed))


def _openssl(*words: str, given: str = "") -> str:
    """Run openssl, a key passing by its input and output alone.

    :raises Trouble: with what it said, when it fails.
    """
    ran = subprocess.run(
        ["openssl", *words],
        input=given,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
    )
    if ran.returncode:
        raise Trouble(f"`openssl {words[0]} {words[1]}` failed: {ran.stderr.strip()[-1000:]}")
    return ran.stdout
