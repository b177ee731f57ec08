"""Have certbot ask an ACME server for a certificate, and read what certbot keeps.

Its words and its exit status are not relied on: where 2.1.0 (Debian 12) has an error of the server to
tell, it fails by itself ("AttributeError: can't set attribute"), and after a failed deploy hook each release
exits with 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tlsctl import certificate
from tlsctl.certificate import Certificate
from tlsctl.errors import Trouble
from tlsctl.settings import SETTINGS_DIR, Acme, Settings
from tlsctl.writing import replace

SYSTEM_ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
LOG = Path("/var/log/letsencrypt/letsencrypt.log")
# RFC 8555, sections 6.7 and 7.3.6: answers for an account that never was, got lost or was deactivated.
ACCOUNT_GONE = re.compile(r"urn:ietf:params:acme:error:(accountDoesNotExist|unauthorized)")
PROBLEM = re.compile(r"urn:ietf:params:acme:error:\w+(?: :: [^\n]+)?")
CERTBOT_SECONDS = 300
# The run of its timer, or another app's: one at a time holds certbot's lock.
BUSY, BUSY_ATTEMPTS, BUSY_SECONDS = "Another instance of Certbot is already running", 6, 10


def newest(settings: Settings) -> Certificate | None:
    """Return the newest certificate that certbot has, nothing when it has none."""
    try:
        return certificate.read(settings.lineage / "fullchain.pem")
    except Trouble:
        return None


def is_due(settings: Settings, found: Certificate) -> bool:
    """Say whether it is time to renew a certificate, as certbot sees it."""
    told = re.fullmatch(r"(\d+) seconds", _kept(settings, "renew_before_expiry"))
    return time.time() >= found.not_after - (int(told[1]) if told else found.window_seconds)


def reason_to_ask(settings: Settings) -> str:
    """Return why a new certificate is needed, empty when none is."""
    found = newest(settings)
    if found is None:
        return "there is none yet"
    if found.names != tuple(sorted(settings.server_names)):
        return f"it names {', '.join(found.names)}"
    if _kept(settings, "server") != _acme(settings).directory_url:
        return f"it was issued by {_kept(settings, 'server') or 'nobody known'}"
    if not (accounts_dir(settings) / (_kept(settings, "account") or "none")).is_dir():
        return "the account it was issued to is gone"
    return "it is due for renewal" if is_due(settings, found) else ""


def ask(settings: Settings) -> None:
    """Get a new certificate, registering where there is no account yet.

    :raises Trouble: with what certbot and the server say.
    """
    acme = _acme(settings)
    settings.challenges.mkdir(mode=0o755, parents=True, exist_ok=True)
    words = [
        "certonly",
        "--webroot",
        "--webroot-path",
        str(settings.challenges),
        "--cert-name",
        settings.name,
    ]
    words += ["--key-type", "ecdsa", "--elliptic-curve", "secp256r1", "--force-renewal"]
    words += ["--renew-with-new-domains", "--agree-tos"]
    words += (
        ["--email", acme.email, "--no-eff-email"] if acme.email else ["--register-unsafely-without-email"]
    )
    words += ["--deploy-hook", f"/usr/local/sbin/tlsctl deploy {settings.name}"]
    for name in settings.server_names:
        words += ["--domain", name]
    ran = _run(settings, words)
    for _ in range(BUSY_ATTEMPTS):
        if ran.returncode == 0 or BUSY not in ran.stdout + ran.stderr:
            break
        time.sleep(BUSY_SECONDS)
        ran = _run(settings, words)
    if ran.returncode:
        problems = PROBLEM.findall(LOG.read_text(errors="replace")) if LOG.exists() else []
        said = " ".join((ran.stdout + ran.stderr).split())
        raise Trouble(
            f"{acme.directory_url} issued no certificate for {', '.join(settings.server_names)}: "
            f"{problems[-1] if problems else ''} {said[-1500:]}",
            f"see that these names lead to port 80 here; tlsctl issue {settings.name}; more: {LOG}",
        )


def note_window(settings: Settings) -> None:
    """Tell certbot when to renew its newest: by the lifetime of that, on each of certbot's releases alike."""
    found = newest(settings)
    if found is None or not settings.renewal.exists():
        return
    line = f"renew_before_expiry = {int(found.window_seconds)} seconds"
    old = settings.renewal.read_text()
    lines = [each for each in old.splitlines() if not each.startswith("renew_before_expiry")]
    text = "\n".join([line, *lines]) + "\n"
    if text != old:
        replace(settings.renewal, text, settings.renewal.stat().st_mode & 0o777)


def set_lost_account_aside(settings: Settings) -> bool:
    """Move the account away when the server says it is gone, and `ask` registers anew; say whether it was.

    A server that cannot be reached says nothing, and then nothing is done.
    """
    accounts = accounts_dir(settings)
    if not accounts.is_dir() or not any(accounts.iterdir()):
        return False
    with tempfile.TemporaryDirectory() as logs:
        if _run(settings, ["show_account", "--logs-dir", logs]).returncode == 0:
            return False
        if not any(ACCOUNT_GONE.search(log.read_text(errors="replace")) for log in Path(logs).iterdir()):
            return False
    aside = (
        settings.state_dir / settings.name / f"lost-account-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    )
    aside.parent.mkdir(parents=True, exist_ok=True)
    accounts.rename(aside)
    return True


def accounts_dir(settings: Settings) -> Path:
    """Return where certbot keeps its accounts at this server."""
    url = urlsplit(_acme(settings).directory_url)
    return settings.certbot_dir / "accounts" / f"{url.netloc}{url.path}"


def write_roots(path: Path) -> None:
    """Write whom certbot trusts as an ACME server: the system's authorities, and those of private ones."""
    given = sorted((SETTINGS_DIR / "roots").glob("*.pem"))
    path.write_text("\n".join(each.read_text() for each in [SYSTEM_ROOTS, *given] if each.exists()))


@contextlib.contextmanager
def _roots() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roots.pem"
        write_roots(path)
        yield str(path)


def _run(settings: Settings, words: list[str]) -> subprocess.CompletedProcess[str]:
    with _roots() as roots:
        return subprocess.run(
            ["certbot", *words, "--non-interactive", "--server", _acme(settings).directory_url],
            capture_output=True,
            text=True,
            timeout=CERTBOT_SECONDS,
            check=False,
            env={**os.environ, "REQUESTS_CA_BUNDLE": roots},
        )


def _kept(settings: Settings, key: str) -> str:
    """Return one of the parameters with which certbot would renew."""
    found = (
        re.search(rf"^{key} = (.+)$", settings.renewal.read_text(), re.MULTILINE)
        if settings.renewal.exists()
        else None
    )
    return found[1].strip() if found else ""


def _acme(settings: Settings) -> Acme:
    if settings.acme is None:
        raise Trouble(f"{settings.name}: tls_mode is {settings.mode}, so no ACME server is asked")
    return settings.acme
