"""Prometheus' and Alertmanager's own tools, beside the files that were rendered for a host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rendering import ROOT, Host
from sandbox import Container

EXPORTERS = tuple(
    f"prometheus-{kind}-exporter" for kind in ("node", "nginx", "postgres", "redis", "blackbox")
)
SHIPPING = ("systemd-journal-remote", "stunnel4")
PACKAGES = {
    12: ("prometheus", "prometheus-alertmanager", *EXPORTERS, *SHIPPING),
    13: ("prometheus", "promtool", "prometheus-alertmanager", *EXPORTERS, *SHIPPING),
}
JOURNAL = ("systemd-journal-upload", "systemd-journal-remote", "journal-tls", "journal-vacuum")
UNITS = tuple(
    f"{name}.service"
    for name in ("prometheus", "prometheus-alertmanager", *EXPORTERS, *JOURNAL, "log-counts")
)
BESIDE = ("systemd-journal-remote.socket", "journal-vacuum.timer", "log-counts.timer")
# What the role would have made.
PREPARE = "cp -r /rendered/systemd /etc/ && groupadd --system redis && useradd --system postgres-exporter"
PREPARE += " && install --mode=0755 /dev/null /usr/local/sbin/journal-ship"
PREPARE += " && install --mode=0755 /programs/log_counts.py /usr/local/sbin/log-counts"
ALERTS_DIR = Path(__file__).with_name("alerts")
RULES_DIR = ROOT / "prometheus/rules"
# As its unit starts it, but for where: in a container of its own, for the time being.
ALERTMANAGER = """
setsid prometheus-alertmanager --config.file=/etc/prometheus/alertmanager.yml \\
    --storage.path=/tmp/alertmanager --web.listen-address=127.0.0.1:9093 --cluster.listen-address= \\
    >/tmp/alertmanager.log 2>&1 &
for attempt in $(seq 50); do
    amtool --alertmanager.url=http://127.0.0.1:9093 alert query >/dev/null 2>&1 && exit 0
    sleep 0.2
done
cat /tmp/alertmanager.log
exit 1
"""
LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


def alerts() -> Iterator[dict[str, Any]]:
    """Yield every alert of the tree. Those with an app's own numbers hold none."""
    for path in sorted(RULES_DIR.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def complete(tests: dict[str, Any]) -> dict[str, Any]:
    """Return tests as promtool wants them: with what each alert that is to fire says, in full.

    Raises KeyError where an alert's words name a label that it does not have.
    """
    known = {rule["alert"]: rule for rule in alerts()}
    for test in tests["tests"]:
        for each in test["alert_rule_test"]:
            rule = known[each["alertname"]]
            for expected in each["exp_alerts"]:
                labels = expected["exp_labels"]
                expected["exp_annotations"] = {
                    name: LABEL.sub(lambda found, labels=labels: labels[found[1]], text)
                    for name, text in rule["annotations"].items()
                }
                expected["exp_labels"] = labels | rule["labels"]
    return {"rule_files": ["/etc/prometheus/rules/*.yml"], "evaluation_interval": "1m", **tests}


class Tools(Container):
    """A container of a host's Debian release with its files where they would be."""

    def __init__(self, host: Host, folder: Path):
        """Describe it; `folder` is where tests are written that it is to run."""
        super().__init__(host.debian)
        self.host, self.folder = host, folder

    def __enter__(self) -> Tools:
        volumes = [
            f"--volume={self.host.root}/etc/prometheus:/etc/prometheus:ro",
            f"--volume={self.host.root}/etc/systemd:/rendered/systemd:ro",
            f"--volume={self.folder}:/tests:ro",
            f"--volume={ROOT}/roles/exporters/files:/programs:ro",
        ]
        self.begin(PACKAGES[self.debian], volumes, "sh", "-c", PREPARE)
        return self

    def output(self, *command: str) -> str:
        """Run a command and return what it prints.

        Raises AssertionError with that when it fails.
        """
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def inhibited(self, *alerts: str) -> set[str]:
        """Send alerts to the Alertmanager that runs here; return those of all that it keeps quiet.

        Each is written as amtool takes it, an alert's name and further labels: `SiteDown app=inbox`.
        """
        tool = ("amtool", "--alertmanager.url=http://127.0.0.1:9093", "alert")
        for alert in alerts:
            self.output(*tool, "add", *alert.split())
        found = json.loads(self.output(*tool, "query", "--inhibited", "--output=json"))
        labels = [one["labels"] for one in found if one["status"]["inhibitedBy"]]
        return {" ".join([one.pop("alertname"), *map("=".join, one.items())]) for one in labels}

    def test(self, name: str, tests: dict[str, Any]) -> str:
        """Have promtool run tests of rules; return what it says."""
        path = self.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(complete(tests), sort_keys=False))
        return self.output("promtool", "test", "rules", f"/tests/{path.name}")
