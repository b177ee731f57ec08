"""Put a certificate and its key where nginx reads them, and see it served."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from tlsctl import certificate
from tlsctl.certificate import Certificate
from tlsctl.errors import Trouble
from tlsctl.settings import Settings

PROOF_SECONDS = 60
# Of several workers, some may still be old ones.
ANSWERS_IN_A_ROW = 3
PAUSE_SECONDS = 0.2
FILES = {"fullchain.pem": 0o644, "privkey.pem": 0o600}
# What the two files nginx reads are links through: one rename changes both.
CURRENT = "current"
PAIR = re.compile(r"[0-9A-F]+|placeholder|before")


def read_pair(folder: Path) -> dict[str, bytes]:
    """Return a certificate and its key by the names of their files."""
    return {name: (folder / name).read_bytes() for name in FILES}


def deploy(settings: Settings, pair: dict[str, bytes]) -> Certificate:
    """Install a certificate and its key, reload nginx and return what it shows then.

    :raises Trouble: when nginx refuses it, and then the old one is back; or does not come to show it.
    """
    new = certificate.parse(pair["fullchain.pem"].decode())
    before = install(settings, pair, new.serial)
    try:
        _run("nginx", "-t", "-q")
    except Trouble:
        point(settings.folder, before)
        raise
    _tidy(settings.folder, before)
    _run("systemctl", "reload", "nginx.service")
    prove(settings, new)
    return new


def install(settings: Settings, files: dict[str, bytes], serial: str) -> str:
    """Put a certificate and its key in place at once; return the folder that was current before.

    A key and a certificate that do not belong together keep nginx from starting: each pair is a folder,
    and a link to it is renamed over the old one.
    """
    settings.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = _current(settings.folder)
    if not before and all((settings.folder / name).is_file() for name in FILES):
        # What another mode left: kept as a pair, to come back to.
        before = "before"
        _write(settings.folder / before, read_pair(settings.folder))
    _write(settings.folder / serial, files)
    point(settings.folder, serial)
    for name in FILES:
        _link(settings.folder / name, f"{CURRENT}/{name}")
    return before


def point(folder: Path, pair: str) -> None:
    """Make a pair the current one."""
    if pair:
        _link(folder / CURRENT, pair)


def prove(settings: Settings, wanted: Certificate, within_seconds: float = PROOF_SECONDS) -> None:
    """Ask nginx's listener until it shows a certificate for every name.

    A reload that fails inside nginx reports success everywhere and keeps the old configuration.

    :raises Trouble: when it does not within the time.
    """
    deadline = time.monotonic() + within_seconds
    for name in settings.server_names:
        in_a_row, last = 0, ""
        while in_a_row < ANSWERS_IN_A_ROW:
            try:
                last = certificate.served(settings.port, name).serial
            except Trouble as trouble:
                last = str(trouble)
            in_a_row = in_a_row + 1 if last == wanted.serial else 0
            if not in_a_row:
                if time.monotonic() > deadline:
                    raise Trouble(
                        f"serial {wanted.serial} is installed, and nginx on port {settings.port} did not "
                        f"show it for {name} within {within_seconds:g} s, but {last}",
                        "journalctl -u nginx.service -n 20; tail -n 20 /var/log/nginx/error.log",
                    )
                time.sleep(PAUSE_SECONDS)


def placeholder(settings: Settings) -> bool:
    """Make a certificate of our own where there is none, for nginx to start with; say whether it was made.

    The server that issues the real one asks nginx for its challenge, and nginx does not start without any.
    """
    if settings.certificate.exists() and settings.private_key.exists():
        return False
    alternative_names = ",".join(f"DNS:{name}" for name in settings.server_names)
    made = settings.folder / "placeholder.new"
    made.mkdir(mode=0o700, parents=True, exist_ok=True)
    _run(
        *["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
        *["-days", "7", "-subj", "/CN=placeholder", "-addext", f"subjectAltName={alternative_names}"],
        *["-keyout", str(made / "privkey.pem"), "-out", str(made / "fullchain.pem")],
    )
    files = read_pair(made)
    shutil.rmtree(made)
    install(settings, files, "placeholder")
    return True


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, content in files.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILES[name])
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _current(folder: Path) -> str:
    link = folder / CURRENT
    return str(link.readlink()) if link.is_symlink() else ""


def _link(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(path)


def _tidy(folder: Path, before: str) -> None:
    """Remove pairs older than the one before: old keys are of use to nobody but thieves."""
    kept = {_current(folder), before}
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and PAIR.fullmatch(path.name) and path.name not in kept:
            shutil.rmtree(path)


def _run(*words: str) -> None:
    """Run a command.

    :raises Trouble: with what it said, when it fails.
    """
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble(f"`{' '.join(words)}`: {error}") from error
    if ran.returncode:
        raise Trouble(f"`{' '.join(words)}` failed: {(ran.stderr or ran.stdout).strip()[-2000:]}")
