"""What lands on a host, read by the nginx and the systemd of its Debian release."""

from __future__ import annotations

import re

import pytest
from sandbox import RELEASE

WORST_EXPOSURE = 1.2
WORST_EXPOSURE_OF_NGINX = 2.7


def said_nothing(done):
    """systemd-analyze returns 0 on a misspelt key, and nginx on a warning: any word is a failure."""
    said = done.stdout + done.stderr
    assert not said, said
    assert done.returncode == 0


def test_nginx_takes_the_tree_without_a_warning(sandbox):
    done = sandbox.run("nginx", "-t", "-q", "-c", "/etc/nginx/nginx.conf")
    said_nothing(done)


def test_nginx_reads_each_site_and_no_other(sandbox):
    """Debian's welcome page is one more file there, until the role takes it away."""
    seen = sandbox.run("nginx", "-T", "-q").stdout
    read = set(re.findall(r"^# configuration file (\S+/sites-enabled/\S+):$", seen, re.MULTILINE))
    endings = (".conf", ".cache.conf", ".canary.conf", ".internal.conf", ".issuer.conf")
    endings += (".maintenance.conf", ".plain.conf")
    files = [f"{app}{ending}" for app in sandbox.apps for ending in endings]
    assert read == {f"/etc/nginx/sites-enabled/{name}" for name in files}


def test_systemd_takes_every_unit_without_a_word(sandbox):
    assert len(sandbox.units) == 9 * len(sandbox.apps)
    done = sandbox.run("systemd-analyze", "verify", *sandbox.units)
    said_nothing(done)


def test_units_are_exposed_no_more_than_allowed(sandbox, capsys):
    kinds = ("web", "migrate", "contract", "worker", "beat", "flower")
    units = [f"{app}-{kind}@{RELEASE}.service" for app in sandbox.apps for kind in kinds]
    exposures = {}
    for unit in [*units, "nginx.service"]:
        done = sandbox.run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found, done.stdout + done.stderr
        exposures[unit] = float(found[1])
    with capsys.disabled():
        print(
            f"\nDebian {sandbox.debian}: {', '.join(f'{unit}: {level}' for unit, level in exposures.items())}"
        )
    assert exposures.pop("nginx.service") <= WORST_EXPOSURE_OF_NGINX
    assert max(exposures.values()) <= WORST_EXPOSURE


def test_run_folder_is_there_after_a_boot(sandbox):
    for app in sandbox.apps:
        done = sandbox.run("systemd-tmpfiles", "--create", f"/etc/tmpfiles.d/{app}.conf")
        said_nothing(done)
        assert sandbox.run("stat", "--format=%U:%G %a", f"/run/{app}").stdout == "root:root 755\n"


def test_nobody_but_nginx_and_the_app_passes_through_to_flowers_socket(sandbox):
    for host in [host for host in sandbox.hosts if "flower" in host.companions]:
        said_nothing(sandbox.run("systemd-tmpfiles", "--create", f"/etc/tmpfiles.d/{host.app}.conf"))
        told = sandbox.run("stat", "--format=%U:%G %a", f"/run/{host.app}/flower")
        assert told.stdout == f"{host.app}:www-data 710\n"
        passes = {
            user: sandbox.run("runuser", "-u", user, "--", "test", "-x", f"/run/{host.app}/flower").returncode
            for user in (host.app, "www-data", "nobody")
        }
        assert passes == {host.app: 0, "www-data": 0, "nobody": 1}


@pytest.mark.parametrize(
    ("path", "line", "command"),
    [
        ("/etc/nginx/conf.d/spoilt.conf", "no_such_directive on;", ["nginx", "-t", "-q"]),
        (
            "/etc/systemd/system/spoilt.service",
            "[Service]\nExecStart=/bin/true\nRestrt=always",
            ["systemd-analyze", "verify", "spoilt.service"],
        ),
    ],
)
def test_a_misspelt_word_is_seen(sandbox, path, line, command):
    """The checks above say nothing when all is well: here they are seen to speak."""
    sandbox.run("sh", "-c", 'printf "%s\\n" "$2" > "$1"', "sh", path, line)
    try:
        assert re.search("no_such_directive|Restrt", sandbox.run(*command).stderr)
    finally:
        sandbox.run("rm", path)
