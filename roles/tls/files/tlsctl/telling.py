"""Tell Prometheus and people how a certificate stands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tlsctl import certificate
from tlsctl.certificate import Certificate
from tlsctl.errors import Trouble
from tlsctl.settings import Settings
from tlsctl.writing import replace

HELP = {
    "tls_certificate_not_after_timestamp_seconds": "When the one on disk ends, and the one served.",
    "tls_certificate_renewal_due_timestamp_seconds": "From when on it should have been renewed.",
    "tls_certificate_served_is_current": "1 when nginx shows the certificate that is on disk.",
    "tls_renewal_last_run_success": "1 when certbot's last run left nothing to renew, or the last fetch "
    "got what certbot has on another host, all of it served.",
    "tls_renewal_last_run_timestamp_seconds": "When that was.",
    "tls_observed_timestamp_seconds": "When these were last looked at.",
}
# Where certbot renews: here, or on the host that this one fetches from.
RENEWED = ("acme", "fetched")
# Of the time certbot has for it: it runs every hour, which for a certificate of one day is much.
GRACE = 0.1
NEXT = {
    "acme": "systemctl start certbot.service; journalctl -u certbot.service -n 40",
    "fetched": "systemctl start tlsctl-fetch.service; journalctl -u tlsctl-fetch.service -n 20",
    "local_ca": "on the controller: ansible-playbook playbooks/site.yml --tags tls,nginx",
    "files": "put a new one into tls_certificate_file and tls_private_key_file, then playbooks/site.yml",
}


def record(settings: Settings, trouble: Trouble | None) -> None:
    """Remember how a renewal ended."""
    told = {"at": time.time(), "success": trouble is None, "cause": str(trouble or "")}
    replace(settings.last_run, json.dumps(told) + "\n")


def last_run(settings: Settings) -> dict | None:
    """Return how the last renewal ended, nothing before the first."""
    try:
        return json.loads(settings.last_run.read_text())
    except (OSError, ValueError):
        return None


def observe(settings: Settings) -> None:
    """Write the file for Prometheus anew."""
    replace(settings.metrics, text(settings))


def text(settings: Settings) -> str:
    """Return the metrics in Prometheus' text format."""
    told = [*_samples(settings)]
    lines = []
    for name, help_text in HELP.items():
        found = [f"{name}{{{labels}}} {value:.15g}" for each, labels, value in told if each == name]
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge", *found] if found else []
    return "\n".join(lines) + "\n"


def problems(settings: Settings) -> list[str]:
    """Return what is not as it should be, changing nothing."""
    disk, served = _look(settings)
    if disk is None:
        return [f"{settings.certificate} is no certificate; next: {NEXT[settings.mode]}"]
    found = []
    if served is None:
        found.append(f"nginx shows no certificate on port {settings.port} for {settings.server_names[0]}")
    elif served.serial != disk.serial:
        found.append(
            f"nginx shows serial {served.serial}, and {disk.serial} is on disk; "
            "next: nginx -t && systemctl reload nginx"
        )
    late = time.time() - due(settings, disk)
    if late > (GRACE * disk.window_seconds if settings.mode in RENEWED else 0):
        found.append(
            f"the certificate ends on {certificate.shown(disk.not_after)}, and should have been renewed by "
            f"{certificate.shown(due(settings, disk))}; next: {NEXT[settings.mode]}"
        )
    run = last_run(settings) if settings.mode in RENEWED else None
    if run and not run["success"]:
        found.append(
            f"the last renewal failed, {certificate.shown(run['at'])}: {run['cause']}; "
            f"next: {NEXT[settings.mode]}"
        )
    return found


def due(settings: Settings, found: Certificate) -> float:
    """Return when a certificate is to be renewed, in seconds since 1970."""
    window = found.window_seconds if settings.mode in RENEWED else settings.renew_before_days * 86400
    return found.not_after - window


def _look(settings: Settings) -> tuple[Certificate | None, Certificate | None]:
    found: list[Certificate | None] = []
    for looking in (
        lambda: certificate.read(settings.certificate),
        lambda: certificate.served(settings.port, settings.server_names[0]),
    ):
        try:
            found.append(looking())
        except Trouble:
            found.append(None)
    return found[0], found[1]


def _samples(settings: Settings) -> Iterator[tuple[str, str, float]]:
    """Yield a metric's name, its labels and its value."""
    name = f'name="{settings.name}"'
    disk, served = _look(settings)
    for where, found in (("disk", disk), ("served", served)):
        if found:
            yield "tls_certificate_not_after_timestamp_seconds", f'{name},where="{where}"', found.not_after
    if disk:
        yield "tls_certificate_renewal_due_timestamp_seconds", name, due(settings, disk)
    current = disk is not None and served is not None and disk.serial == served.serial
    yield "tls_certificate_served_is_current", name, current
    run = last_run(settings) if settings.mode in RENEWED else None
    if run:
        yield "tls_renewal_last_run_success", name, run["success"]
        yield "tls_renewal_last_run_timestamp_seconds", name, run["at"]
    yield "tls_observed_timestamp_seconds", name, time.time()
