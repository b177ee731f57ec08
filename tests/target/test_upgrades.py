"""Security updates by themselves: apt's and systemd's own words about what they would do, and when."""

from __future__ import annotations

import re
import shlex

LEFT_ALONE = """
import sys
from importlib.machinery import SourceFileLoader

upgrade = SourceFileLoader("upgrade", "/usr/bin/unattended-upgrade").load_module()
patterns = upgrade.apt_pkg.config.value_list("Unattended-Upgrade::Package-Blacklist")
print(*(name for name in sys.argv[1:] if upgrade.is_pkgname_in_blacklist(name, patterns)))
"""
NEEDRESTART = """
our %nrconf = (restart => "i");
do "/etc/needrestart/needrestart.conf";
print $nrconf{restart};
"""


def settings(host):
    return host.check_output("apt-config dump")


def test_updates_are_installed_every_day(host):
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings(host)
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.run(f"systemctl is-active {timer}").rc == 0
        assert host.run(f"systemctl is-enabled {timer}").rc == 0


def test_window_is_the_one_that_was_set(host):
    shown = host.check_output(
        "systemctl show apt-daily-upgrade.timer --property=TimersCalendar,RandomizedDelayUSec,Persistent"
    )
    assert re.findall(r"OnCalendar=(\S+ \S+)", shown) == ["*-*-* 03:00:00"], shown
    assert "RandomizedDelayUSec=1h" in shown
    assert "Persistent=no" in shown


def test_only_debians_security_archive_is_taken_from(host):
    origins = re.findall(r'^Unattended-Upgrade::Origins-Pattern:: "(.*)";', settings(host), re.MULTILINE)
    assert origins == ["origin=Debian,codename=${distro_codename}-security,label=Debian-Security"]


def test_data_services_are_left_to_people(host):
    """Asked of unattended-upgrades itself, by the patterns it would match names with."""
    left = "postgresql-15 postgresql-17 redis-server redis-tools rabbitmq-server erlang-base"
    said = host.check_output(f"python3 -c {shlex.quote(LEFT_ALONE)} {left} nginx libpq5 openssl")
    assert said.split() == left.split()


def test_no_host_restarts_by_itself_and_no_mail_is_sent(host):
    said = settings(host)
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in said
    assert 'Unattended-Upgrade::Mail "";' in said


def test_needrestart_tells_and_restarts_nothing(host):
    assert host.check_output(f"perl -e {shlex.quote(NEEDRESTART)}") == "l"


def test_unattended_upgrade_runs(host):
    done = host.run("unattended-upgrade --dry-run --debug")
    assert done.rc == 0, done.stdout + done.stderr
    assert "postgresql" in done.stdout.partition("blacklist")[2].partition("\n")[0], done.stdout
