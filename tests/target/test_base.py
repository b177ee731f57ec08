"""The ground: time, journal, kernel settings, and nothing that listens unasked."""

from __future__ import annotations

import fnmatch
import re


def test_clock_is_utc(host):
    assert host.check_output("date +%Z") == "UTC"


def test_no_unit_has_failed(host):
    failed = host.check_output("systemctl list-units --failed --plain --no-legend")
    assert failed == "", failed
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_journal_is_kept_over_reboots(host):
    machine = host.file("/etc/machine-id").content_string.strip()
    assert host.file(f"/var/log/journal/{machine}/system.journal").exists


def test_journal_limits_are_in_effect(host):
    # journald's own words about the limits it runs with; the file alone proves nothing about the process.
    said = host.check_output("journalctl --boot --output=cat SYSLOG_IDENTIFIER=systemd-journald")
    limits = re.findall(r"System Journal \(.*max ([\d.]+\w)", said)
    assert limits, said
    assert limits[-1] in ("1G", "1.0G")


def test_kernel_settings_are_in_effect(host):
    lines = host.file("/etc/sysctl.d/60-base.conf").content_string.splitlines()
    settings = dict(re.split(r"\s*=\s*", line) for line in lines if "=" in line and not line.startswith("#"))
    assert settings, lines
    shown = host.check_output("sysctl --all 2>/dev/null").splitlines()
    running = dict(line.split(" = ", 1) for line in shown if " = " in line)
    for name, value in settings.items():
        # A * is every interface.
        found = {key: running[key] for key in fnmatch.filter(running, name)}
        assert found, name
        assert set(found.values()) == {value}, (name, found)


def test_machine_wide_kernel_settings_are_left_to_the_machine(host):
    # This host is a container: what it would set there, it would set for everybody on that machine.
    assert "vm." not in host.file("/etc/sysctl.d/60-base.conf").content_string


def test_nothing_listens_that_should_not(host, site):
    lines = host.check_output("ss -Htuln").splitlines()
    listening = {(words[0], words[4]) for words in (line.split() for line in lines)}
    public = [22, site.vars["nginx_http_port"], site.vars["nginx_https_port"]]
    wanted = {("tcp", f"{address}:{port}") for port in public for address in ("0.0.0.0", "[::]")}
    wanted.add(("tcp", "127.0.0.1:9180"))
    assert listening == wanted


def test_managed_configuration_is_writable_by_root_alone(host):
    found = host.check_output(
        "find /etc/nginx /etc/systemd /etc/sysctl.d /etc/releasectl /usr/local "
        r"! -type l \( -perm /022 -o ! -user root \)"
    )
    assert found == "", found


def test_no_drop_in_or_mask_stands_over_a_unit(host):
    # systemd's own words for what differs from what a unit file says.
    differing = host.check_output(
        "systemd-delta --no-pager --type=masked,extended,overridden /etc/systemd/system"
    )
    assert not re.search(r"^\[(MASKED|OVERRIDDEN)\]", differing, re.MULTILINE), differing
