"""What somebody changed by hand is put back by the next run; what somebody added is reported and left."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from observing import failed_units, status_of
from testbed import durations

UNITS = "/etc/systemd/system"


@dataclass(frozen=True)
class Tampering:
    """Two shell commands: one that spoils something, one that succeeds when it is as it should be."""

    spoil: str
    is_right: str


def spoilt_attribute(spoil: str, path: str, wanted: str) -> Tampering:
    """Return a change of a path's mode or owner; `wanted` is both, as stat prints them."""
    return Tampering(f"{spoil} {path}", f'[ "$(stat -c "%a %U:%G" {path})" = "{wanted}" ]')


def spoilt_content(path: str, line: str = "# tampered") -> Tampering:
    """Return a line added at a file's end."""
    return Tampering(f"echo '{line}' >> {path}", f"test -s {path} && ! grep -qF '{line}' {path}")


def in_service(*units: str) -> str:
    """Return a command that succeeds when every unit runs and starts at boot."""
    # One by one: of several, systemctl is content with one.
    return " && ".join(
        f"systemctl {asked} -q {unit}" for unit in units for asked in ("is-active", "is-enabled")
    )


TAMPERINGS = {
    # First: what follows takes away what nginx needs to start.
    "the sandbox of nginx": Tampering(
        f"rm {UNITS}/nginx.service.d/50-sandbox.conf; systemctl daemon-reload; systemctl restart nginx",
        "[ $(systemctl show --value -p ProtectSystem nginx) = strict ]"
        " && grep -q '^NoNewPrivs:.1' /proc/$(cat /run/nginx.pid)/status",
    ),
    "content of an nginx file": spoilt_content("/etc/nginx/conf.d/limits.conf"),
    "content of the app's site": spoilt_content("/etc/nginx/sites-enabled/APP.conf"),
    "content of a unit": Tampering(
        f"sed -i s/^NoNewPrivileges=.*/NoNewPrivileges=no/ {UNITS}/APP-web@.service",
        f"grep -qx NoNewPrivileges=yes {UNITS}/APP-web@.service"
        " && systemctl show -p NoNewPrivileges APP-web@RELEASE.service | grep -q yes",
    ),
    "content of releasectl": spoilt_content("/usr/local/lib/releasectl/APP/releasectl/cli.py"),
    "content of the app's settings": Tampering(
        "sed -i /^DATABASE_URL=/d /etc/APP/app.env", "grep -q ^DATABASE_URL= /etc/APP/app.env"
    ),
    "content of PostgreSQL's settings": Tampering(
        "echo max_connections = 20 | tee -a /etc/postgresql/*/main/conf.d/50-base.conf",
        "[ \"$(sudo -u postgres psql -tAc 'show max_connections')\" = 120 ]",
    ),
    "content of Redis's settings": Tampering(
        "sed -i '/^include .*local.conf/d' /etc/redis/redis.conf",
        "redis-cli -s /run/redis/redis.sock config get maxmemory-policy | grep -qx noeviction"
        " && grep -qx 'include /etc/redis/local.conf' /etc/redis/redis.conf",
    ),
    "a kernel setting": Tampering(
        "echo net.core.somaxconn=128 > /etc/sysctl.d/60-base.conf; sysctl -q -p /etc/sysctl.d/60-base.conf",
        '[ "$(sysctl -n net.core.somaxconn)" = 4096 ] && grep -q 4096 /etc/sysctl.d/60-base.conf',
    ),
    "the rules of the firewall": Tampering(
        "nft add rule inet firewall openings tcp dport 9999 accept",
        "! nft list chain inet firewall openings | grep -q 9999",
    ),
    "the settings of sshd": Tampering(
        "echo PermitRootLogin yes > /etc/ssh/sshd_config.d/00-hardening.conf",
        "sshd -T | grep -qx 'permitrootlogin no'",
    ),
    "a file taken away": Tampering(
        "rm /etc/nginx/snippets/proxy_headers.conf", "test -f /etc/nginx/snippets/proxy_headers.conf"
    ),
    "a file replaced by a link": Tampering(
        "mv /etc/nginx/conf.d/tls.conf /root/tls.conf; ln -s /root/tls.conf /etc/nginx/conf.d/tls.conf",
        "test -f /etc/nginx/conf.d/tls.conf && ! test -L /etc/nginx/conf.d/tls.conf",
    ),
    "mode of a credential": spoilt_attribute(
        "chmod 0644", "/etc/APP/credentials.encrypted/secret_key", "600 root:root"
    ),
    "mode of the credentials' folder": spoilt_attribute(
        "chmod 0755", "/etc/APP/credentials.encrypted", "700 root:root"
    ),
    "content of a credential": Tampering(
        "echo spoilt > /etc/APP/credentials.encrypted/secret_key",
        "cd /etc/APP/credentials.encrypted"
        " && systemd-creds decrypt --name=app_secret_key secret_key - | grep -q .",
    ),
    "a secret that nobody declares": Tampering(
        "echo hidden > /etc/APP/credentials.encrypted/left_over",
        "! test -e /etc/APP/credentials.encrypted/left_over",
    ),
    "mode of the private key": spoilt_attribute("chmod 0640", "/etc/ssl/APP/privkey.pem", "600 root:root"),
    "mode of a unit": spoilt_attribute("chmod 0666", f"{UNITS}/APP-web@.socket", "644 root:root"),
    "mode of the releases' folder": spoilt_attribute("chmod 0777", "/srv/APP/releases", "755 root:root"),
    "owner of the app's settings": spoilt_attribute("chown nobody", "/etc/APP/app.env", "640 root:root"),
    "owner of an nginx file": spoilt_attribute("chown www-data", "/etc/nginx/nginx.conf", "644 root:root"),
    "a drop-in over our unit": Tampering(
        f"mkdir -p {UNITS}/APP-web@.service.d; "
        f"printf '[Service]\\nProtectSystem=no\\n' > {UNITS}/APP-web@.service.d/50-local.conf",
        f"! test -e {UNITS}/APP-web@.service.d"
        " && [ $(systemctl show --value -p ProtectSystem APP-web@RELEASE.service) = strict ]",
    ),
    "a property set over our unit": Tampering(
        "systemctl set-property APP-web@RELEASE.service TasksMax=77",
        "[ $(systemctl show --value -p TasksMax APP-web@RELEASE.service) = 512 ]",
    ),
    "a mask over our template": Tampering(
        f"ln -sf /dev/null {UNITS}/APP-migrate@.service", f"test -s {UNITS}/APP-migrate@.service"
    ),
    # Stopping comes last: some of the above needs what runs.
    "the active release, stopped, disabled and masked": Tampering(
        "systemctl disable --now --quiet APP-web@RELEASE.socket APP-web@RELEASE.service; "
        "systemctl mask --quiet APP-web@RELEASE.service",
        in_service("APP-web@RELEASE.socket", "APP-web@RELEASE.service"),
    ),
    "nginx, stopped and masked": Tampering("systemctl mask --now --quiet nginx", in_service("nginx")),
    "Redis, stopped, disabled and masked until the next boot": Tampering(
        "systemctl disable --now --quiet redis-server; systemctl mask --runtime --quiet redis-server",
        in_service("redis-server"),
    ),
    "PostgreSQL, stopped": Tampering(
        "systemctl stop 'postgresql@*-main.service'", "systemctl is-active -q 'postgresql@*-main.service'"
    ),
}

FOREIGN = {
    "/etc/nginx/sites-enabled/legacy.conf": "server { listen 127.0.0.1:9999; return 204; }\n",
    f"{UNITS}/legacy.service": "[Service]\nExecStart=/bin/true\n",
}


def right(site, tamperings: dict[str, Tampering], release: str) -> dict[str, bool]:
    """Return of each whether its state is as it should be, asked in one go."""
    script = ""
    for number, tampering in enumerate(tamperings.values()):
        script += f"if {filled(tampering.is_right, site, release)}; then echo {number}; fi 2>/dev/null\n"
    passed = {int(line) for line in site.sudo("sh -s", stdin=script.encode()).splitlines() if line.isdigit()}
    return {name: number in passed for number, name in enumerate(tamperings)}


def filled(command: str, site, release: str) -> str:
    return command.replace("APP", site.app).replace("RELEASE", release)


@pytest.fixture(scope="module")
def repaired(spare):
    """Spoil everything, add what is nobody's of ours, run site.yml; return what was seen."""
    active = status_of(spare)["active"]
    untouched = right(spare, TAMPERINGS, active)
    for path, content in FOREIGN.items():
        spare.sudo(f"printf %s {shlex.quote(content)} > {path}")
    for tampering in TAMPERINGS.values():
        spare.sudo(f"set -e; {filled(tampering.spoil, spare, active)}")
    spoilt = right(spare, TAMPERINGS, active)
    play = spare.play("site", label="site.yml after tampering")
    durations.record(f"{spare.name} site.yml after {len(TAMPERINGS)} tamperings", play.seconds)
    now = right(spare, TAMPERINGS, active)
    yield SimpleNamespace(play=play, untouched=untouched, spoilt=spoilt, now=now, active=active)
    spare.sudo(f"rm -f {' '.join(FOREIGN)}; systemctl daemon-reload; systemctl reload nginx")


def test_repairing_run_succeeds(repaired):
    repaired.play.ok()


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_repaired(repaired, what):
    assert repaired.untouched[what], "it was not right to begin with: the check is wrong"
    assert not repaired.spoilt[what], "the tampering did not take: nothing is shown"
    assert repaired.now[what], repaired.play.tail()


def test_repaired_host_serves_the_same_release(spare, repaired):
    assert spare.web.get("/readyz").json() == {"status": "ready", "release": repaired.active}
    assert failed_units(spare) == ""
    assert status_of(spare)["problems"] == []


def test_repaired_units_run_with_what_is_on_disk(spare, repaired):
    shown = spare.sudo(
        "systemctl show --value -p NeedDaemonReload "
        f"nginx redis-server '{spare.app}-web@*' 'postgresql@*-main'"
    )
    assert set(shown.split()) == {"no"}


def test_what_was_in_the_way_is_moved_aside_not_deleted(spare, repaired):
    kept = spare.sudo("cd /var/backups/mirror && find . ! -type d | cut -d/ -f3- | sort").split()
    assert {
        "etc/nginx/conf.d/limits.conf",
        "etc/nginx/conf.d/tls.conf",
        f"etc/systemd/system/{spare.app}-web@.service",
        f"etc/systemd/system/{spare.app}-web@.service.d/50-local.conf",
    } <= set(kept), kept
    tampered = spare.sudo("cat /var/backups/mirror/*/etc/nginx/conf.d/limits.conf")
    assert "# tampered" in tampered


def test_moved_aside_is_for_root_alone(spare, repaired):
    assert set(spare.sudo("stat -c '%a %U' /var/backups/mirror/*").splitlines()) == {"700 root"}


def test_foreign_site_and_unit_are_left_alone(spare, repaired):
    for path, content in FOREIGN.items():
        assert spare.sudo(f"cat {path}") == content, path
    assert spare.sudo("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9999/") == "204"


def test_foreign_site_and_unit_are_reported_by_verify(spare, repaired):
    play = spare.play("verify").ok()
    assert play.changed == 0
    for path in FOREIGN:
        assert path in play.output, play.tail()


def test_run_after_the_repair_changes_nothing(spare, repaired):
    play = spare.play("site", label="site.yml after the repair").ok()
    assert play.changed == 0, play.changed_tasks


def test_verify_fails_on_a_broken_host(spare, repaired):
    spare.sudo(
        f"systemctl stop {spare.app}-web@{repaired.active}.socket {spare.app}-web@{repaired.active}.service"
    )
    try:
        play = spare.play("verify", label="verify of a host whose app is stopped")
        assert play.returncode == 2, play.tail()
        assert "releasectl" in play.words
    finally:
        spare.sudo(f"releasectl --app {spare.app} activate {repaired.active}")
