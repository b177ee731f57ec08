"""Debian 12 and 13 read what is rendered for monitoring; alerts fire when they should, and only then."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from rendering import INVENTORY, ROOT, WATCHED, render
from watching import ALERTMANAGER, ALERTS_DIR, BESIDE, UNITS, Tools


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Render the inventory whose hosts are watched."""
    return render(tmp_path_factory.mktemp("watched"), INVENTORY.with_name("watched.yml"), WATCHED).hosts


@pytest.fixture(scope="module", params=["watch-12", "watch-13"])
def tools(request, watched, tmp_path_factory):
    with Tools(watched[request.param], tmp_path_factory.mktemp("tests")) as made:
        yield made


def test_prometheus_takes_its_settings(tools):
    said = tools.output("promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS" in said
    assert "7 rule files found" in said


def test_prometheus_takes_what_people_with_one_of_their_own_are_told(tools):
    document = (ROOT / "docs/prometheus.md").read_text()
    for path, text in re.findall(r"```yaml\n# (\S+\.yml)\n(.*?)```", document, re.DOTALL):
        file = tools.folder / "own" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    said = tools.output("promtool", "check", "config", "/tests/own/prometheus.yml")
    assert "1 rule files found" in said
    assert "3 rules found" in said


def test_prometheus_finds_no_rule_twice(tools):
    said = tools.output(
        "sh", "-c", "promtool check rules --lint=all --lint-fatal /etc/prometheus/rules/*.yml"
    )
    assert "FAILED" not in said


def test_alertmanager_takes_its_settings(tools):
    said = tools.output("amtool", "check-config", "/etc/prometheus/alertmanager.yml")
    assert "4 receivers" in said


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=SiteDown", "severity=page"], "page"),
        (["alertname=WorkerAway", "severity=ticket"], "ticket"),
        (["alertname=Watchdog", "severity=ticket"], "watchdog"),
        (["alertname=MaintenanceForgotten", "severity=ticket"], "ticket"),
        (["alertname=MaintenanceOn", "severity=none"], "nobody"),
        (["alertname=SomebodysOwn"], "ticket"),
    ],
)
def test_alerts_go_to_whom_they_are_for(tools, labels, receiver):
    command = ["amtool", "config", "routes", "test", "--config.file=/etc/prometheus/alertmanager.yml"]
    assert tools.output(*command, *labels).strip() == receiver


def test_maintenance_keeps_quiet_what_it_may_cause_on_the_hosts_that_are_closed(tools):
    tools.output("sh", "-c", ALERTMANAGER)
    of_hosts = {
        f"{name} app=inbox instance={host}"
        for name in ("InstanceUnready", "WorkerAway", "ExporterDown")
        for host in ("www1", "www2")
    }
    of_app = {"SiteDown app=inbox", "BeatSilent app=inbox", "QueueStuck app=inbox queue=inbox"}
    others = {"SiteDown app=board", "DiskFilling app=inbox instance=www1"}
    tools.inhibited(*of_hosts, *of_app, *others)
    first = tools.inhibited("MaintenanceOn app=inbox instance=www1 severity=none")
    assert first >= {alert for alert in of_hosts if "www1" in alert}
    # SiteDown does that to the hosts that are not ready, closed or not.
    assert first <= {alert for alert in of_hosts if "www1" in alert or "InstanceUnready" in alert}
    for labels in ("app=inbox instance=www2", "app=inbox"):
        last = tools.inhibited(f"MaintenanceOn {labels} severity=none")
    assert last == of_hosts | of_app


@pytest.mark.parametrize("unit", [*UNITS, *BESIDE])
def test_systemd_takes_every_word_of_a_unit(tools, unit):
    # It exits with 0 when it passes over a line: what it says decides.
    assert tools.output("sh", "-c", f"systemd-analyze verify --man=no {unit} 2>&1") == ""


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_shut_off_from_what_it_does_not_need(tools, unit):
    said = tools.output("systemd-analyze", "security", "--no-pager", "--offline=true", unit)
    assert float(said.splitlines()[-1].rsplit(":", 1)[1].split()[0]) <= 2.0, said


@pytest.mark.parametrize("path", sorted(ALERTS_DIR.glob("*.yml")), ids=lambda path: path.stem)
def test_alert(tools, path):
    """Each test of the alert's file: it fires with all its words, and stays quiet."""
    tools.test(path.stem, yaml.safe_load(path.read_text()))


def test_promtool_sees_an_alert_that_should_have_fired(tools):
    tests = yaml.safe_load((ALERTS_DIR / "SiteDown.yml").read_text())
    tests["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    with pytest.raises(AssertionError, match="SiteDown"):
        tools.test("spoilt", tests)


def test_secrets_are_in_no_file(watched):
    for host in watched.values():
        for path in host.files:
            assert "unused" not in host.read(path), path


def test_each_host_is_asked_for_what_it_has(watched):
    targets = json.loads(watched["watch-13"].read("/etc/prometheus/targets/inbox.json"))
    asked = sorted(
        f"{one['labels']['instance']} {one['labels']['job']} {one['targets'][0]}" for one in targets
    )
    assert asked == [
        "data-13 node [2001:db8::21]:9100",
        "data-13 postgres [2001:db8::21]:9187",
        "watch-12 node 10.0.0.31:9100",
        "watch-13 node 10.0.0.32:9100",
        "www-12 app 10.0.0.11:9180",
        "www-12 nginx 10.0.0.11:9113",
        "www-12 node 10.0.0.11:9100",
        "www-12 releasectl 10.0.0.11:9180",
        "www-12 site 127.0.0.1:9115",
        "www-12 tls 10.0.0.11:9180",
    ]


def test_exporters_listen_where_their_host_is_known(watched):
    for host, address in (("www-12", "10.0.0.11"), ("data-13", "[2001:db8::21]")):
        for kind, port in (("node", 9100), ("nginx", 9113), ("postgres", 9187), ("redis", 9121)):
            path = f"/etc/systemd/system/prometheus-{kind}-exporter.service.d/50-exporters.conf"
            assert f"--web.listen-address={address}:{port}" in watched[host].read(path)


def test_who_watches_listens_to_its_own_host_alone(watched):
    for unit, port in (
        ("prometheus", 9090),
        ("prometheus-alertmanager", 9093),
        ("prometheus-blackbox-exporter", 9115),
    ):
        path = f"/etc/systemd/system/{unit}.service.d/50-monitoring.conf"
        assert f"--web.listen-address=127.0.0.1:{port}" in watched["watch-12"].read(path)


# Lines of a megabyte that nothing makes smaller, five times as many as there is room for.
FEED = """
import base64, os, sys
for number in range(330):
    sys.stdout.write(f"__REALTIME_TIMESTAMP={1700000000000000 + number}\\n__MONOTONIC_TIMESTAMP={number}\\n"
        f"_BOOT_ID={1:032x}\\nNUMBER={number}\\nMESSAGE={base64.b64encode(os.urandom(750000)).decode()}\\n\\n")
"""
TAKE_IN = """
set -e
folder=/var/log/journal/remote
mkdir -p $folder
python3 -c "$0" | /lib/systemd/systemd-journal-remote --output=$folder/fleet.journal - 2>/dev/null
if [ "$1" = 12 ]; then $(sed -n s/^ExecStart=//p /etc/systemd/system/journal-vacuum.service) 2>/dev/null; fi
du --summarize --block-size=1M $folder | cut -f1
journalctl --directory=$folder --output=json --output-fields=NUMBER --lines=1 | grep -o '"NUMBER":"[0-9]*"'
"""


def test_journals_of_other_hosts_stay_within_their_bound(tools):
    used, newest = tools.output("sh", "-c", TAKE_IN, FEED, str(tools.debian)).split()
    # 252 keeps the file it writes to, whatever its size.
    assert int(used) <= 64 + (128 if tools.debian == 12 else 0)
    assert newest == '"NUMBER":"329"'


def test_every_host_ships_to_the_first_that_watches(watched):
    for host in ("www-12", "data-13", "watch-13"):
        assert "URL=https://10.0.0.31:19532\n" in watched[host].read("/etc/systemd/journal-upload.conf")
    assert "accept = 10.0.0.31:19532\n" in watched["watch-12"].read("/etc/journal-tls/stunnel.conf")


def test_who_takes_in_journals_bounds_them_in_words_its_release_knows(watched):
    assert "MaxUse=64M" in watched["watch-13"].read("/etc/systemd/journal-remote.conf")
    # 252 passes over it with a warning, and the timer does it.
    assert "MaxUse" not in watched["watch-12"].read("/etc/systemd/journal-remote.conf")
    assert "--vacuum-size=64M" in watched["watch-12"].read("/etc/systemd/system/journal-vacuum.service")


# What journald says of what it dropped, as systemd-journal-remote takes it, between other lines.
DROPS = """
import sys
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    print(f"__REALTIME_TIMESTAMP={1700000000000000 + number * 1000000}\\n__MONOTONIC_TIMESTAMP={number}")
    print(f"_BOOT_ID={1:032x}\\nMESSAGE=Suppressed {number} messages from inbox-web@r{number % 2}.service")
    print(f"MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e\\nN_DROPPED={number}\\n" if number % 3 == 0 else "")
"""
COUNT = """
set -e
mkdir -p /tmp/dropped /tmp/sites
python3 -c "$0" $1 $2 | /lib/systemd/systemd-journal-remote --output=/tmp/dropped/$1.journal - 2>/dev/null
# Twice: what was counted is not counted again.
for turn in 1 2; do
    log-counts --state=/tmp/counted.json --nginx-logs=/tmp/sites --journal=/tmp/dropped
done
cat /var/lib/prometheus/node-exporter/log-counts.prom
"""
PRINT = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9100/metrics').read().decode())"
TELL = """
set -e
prometheus-node-exporter --collector.disable-defaults --collector.textfile --web.disable-exporter-metrics \\
    --web.listen-address=127.0.0.1:9100 2>/tmp/node-exporter.log &
for attempt in $(seq 50); do
    python3 -c "$0" 2>/dev/null && break
    sleep 0.2
done
kill $!
"""


def test_what_the_journal_dropped_is_summed_up_also_over_what_was_vacuumed(tools):
    def counted(first: int, last: int) -> int:
        told = tools.output("sh", "-c", COUNT, DROPS, str(first), str(last))
        (number,) = re.findall(
            r'^journal_dropped_messages_total{unit="inbox-web@.service"} (\d+)$', told, re.MULTILINE
        )
        return int(number)

    assert counted(1, 20) == sum(range(3, 20, 3))
    assert counted(20, 30) == sum(range(3, 30, 3))
    tools.output("rm", "/tmp/dropped/1.journal", "/tmp/dropped/20.journal")
    assert counted(30, 40) == sum(range(3, 40, 3))
    tools.output("sh", "-c", "promtool check metrics < /var/lib/prometheus/node-exporter/log-counts.prom")
    told = tools.output("sh", "-c", TELL, PRINT)
    assert "node_textfile_scrape_error 0" in told
    assert 'journal_dropped_messages_total{unit="inbox-web@.service"} 273' in told
    assert 'journal_last_drop_timestamp_seconds{unit="inbox-web@.service"} 1.700000039e+09' in told


LINES = """
import sys, time
for number, age in enumerate(sys.argv[1:]):
    at = int((time.time() - float(age)) * 1e6)
    print(f"__REALTIME_TIMESTAMP={at}\\n__MONOTONIC_TIMESTAMP={number}")
    print(f"_BOOT_ID={1:032x}\\nMESSAGE=a line\\n")
"""
WAITING = """
set -e
rm -rf /tmp/waiting && mkdir -p /tmp/waiting /tmp/sites
python3 -c "$0" 2000 1500 900 200 |
    /lib/systemd/systemd-journal-remote --output=/tmp/waiting/1.journal - 2>/dev/null
touch -d '3000 seconds ago' /tmp/shipping
rm -f /tmp/shipped
[ "$1" = never ] || touch -d "$1 seconds ago" /tmp/shipped
[ "$1" = unasked ] && rm /tmp/shipping
log-counts --state=/tmp/waited.json --nginx-logs=/tmp/sites --journal=/tmp/waiting \\
    --shipping=/tmp/shipping --shipped=/tmp/shipped
cat /var/lib/prometheus/node-exporter/log-counts.prom
promtool check metrics < /var/lib/prometheus/node-exporter/log-counts.prom
"""


@pytest.mark.parametrize(("answered", "oldest"), [("1000", 900), ("1600", 1500), ("100", 0), ("never", 2000)])
def test_age_of_what_waits_to_be_shipped_is_that_of_the_first_line_nobody_answered_for(
    tools, answered, oldest
):
    told = tools.output("sh", "-c", WAITING, LINES, answered)
    (age,) = re.findall(r"^journal_unshipped_age_seconds (\d+)$", told, re.MULTILINE)
    assert oldest <= int(age) <= oldest + 60 * bool(oldest)


def test_host_that_ships_nothing_has_no_age(tools):
    words = WAITING.replace('touch -d "$1 seconds ago" /tmp/shipped', "true")
    assert "journal_unshipped" not in tools.output("sh", "-c", words, LINES, "unasked")
