"""What somebody who has taken over the web process is refused, from inside its sandbox; and its measure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from target_host.shell import PROJECT_DIR

FOLDER = "/run/intruder-of-tests"
VICTIM = "/etc/victim-of-tests"
UNIT = "intruder-of-tests@.service"
# What makes a sandbox, as systemd names it: the probe's must be the web unit's, word for word.
PROPERTIES = (
    "User", "Group", "SupplementaryGroups", "UMask", "NoNewPrivileges", "CapabilityBoundingSet",
    "AmbientCapabilities", "ProtectSystem", "ReadWritePaths", "InaccessiblePaths", "NoExecPaths",
    "ProtectHome", "PrivateTmp", "PrivateMounts", "PrivateDevices", "DevicePolicy", "PrivateUsers",
    "PrivateIPC", "ProtectProc", "ProcSubset", "ProtectClock", "ProtectHostname", "ProtectControlGroups",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "KeyringMode", "LockPersonality",
    "MemoryDenyWriteExecute", "RemoveIPC", "RestrictAddressFamilies", "RestrictNamespaces",
    "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter", "IPAddressDeny",
    "TasksMax", "MemoryMax", "LoadCredential", "LoadCredentialEncrypted",
)  # fmt: skip
# The worst each may be by systemd's own measure, and its name in the table of what stays open.
EXPOSURE = {
    **{
        f"APP-{kind}@RELEASE.service": (1.2, "app")
        for kind in ("web", "worker", "beat", "flower", "migrate", "contract")
    },
    "nginx.service": (2.7, "nginx"),
    "redis-server.service": (1.5, "redis"),
    "postgresql@*-main.service": (1.8, "postgresql"),
}
DOCUMENT = PROJECT_DIR / "docs/security.md"

# Tries that root cannot make here either, and why: for these a refusal is no proof of the sandbox's.
UNPROVEN = {
    "sign in to PostgreSQL as its superuser": "root is none: that is what peer means",
    **dict.fromkeys(("load a module", "swap", "reboot", "another kernel"), "the container is denied it"),
    "real-time scheduling": "cgroup v1 gives the container no share of it",
    "a device": "the container has no /dev/kmsg",
    "run a program from /dev/shm": "podman mounts it noexec",
}


def sandbox_of(host, unit: str) -> dict[str, str]:
    """Return what a unit may, as systemd holds it."""
    asked = " ".join(f"-p {name}" for name in PROPERTIES)
    return dict(
        line.split("=", 1) for line in host.check_output(f"systemctl show {asked} {unit}").splitlines()
    )


@pytest.fixture(scope="module")
def intruder(site):
    """Run the probe in the web unit's sandbox, and outside of any; return the results and the sandboxes."""
    app, host = site.app, site.host
    release = json.loads(site.sudo(f"releasectl --app {app} --json status"))["active"]
    site.sudo(
        f"mkdir -p {FOLDER} && cat > {FOLDER}/probe.py",
        stdin=Path(__file__).with_name("intruder.py").read_bytes(),
    )
    # Another app's secrets, as this project keeps them.
    site.sudo(
        f"install -d -m 0700 {VICTIM}/credentials && umask 077 && echo hidden > {VICTIM}/credentials/secret"
    )
    cluster = site.sudo("ls /var/lib/postgresql").strip()
    python = f"/srv/{app}/releases/{release}/venv/bin/python"
    command = f"{python} -I {FOLDER}/probe.py {app} {release} {cluster} {VICTIM}"
    text = site.sudo(f"cat /etc/systemd/system/{app}-web@.service")
    # The unit itself, which does this once in place of serving.
    for old, new in (
        (r"^ExecStart=.*$", f"ExecStart={command}"),
        (r"^Type=notify$", f"Type=oneshot\nStandardOutput=truncate:{FOLDER}/said"),
        (r"^(NotifyAccess|Restart|RestartSec|Requires|Documentation)=.*$", ""),
    ):
        text, count = re.subn(old, new, text, flags=re.MULTILINE)
        assert count, old
    unit = UNIT.replace("@", f"@{release}")
    try:
        site.sudo(f"cat > /run/systemd/system/{UNIT} && systemctl daemon-reload", stdin=text.encode())
        site.sudo(f"systemctl start {unit} || journalctl -u {unit} --no-pager -n 30")
        inside = json.loads(site.sudo(f"cat {FOLDER}/said"))
        outside = json.loads(site.sudo(command))
        sandboxes = [sandbox_of(host, name) for name in (unit, f"{app}-web@{release}.service")]
    finally:
        site.sudo(f"rm -rf /run/systemd/system/{UNIT} {FOLDER} {VICTIM}; systemctl daemon-reload")
    return inside, outside, sandboxes


def test_probe_runs_in_the_web_units_own_sandbox(intruder):
    probes, webs = intruder[2]
    assert probes == webs
    assert len(probes) == len(PROPERTIES)


def test_every_try_of_an_intruder_is_refused(intruder):
    inside = intruder[0]
    print("\n".join(f"{name}: {what}" for name, what in inside.items()))
    assert {name: what for name, what in inside.items() if not what.startswith("refused")} == {}


def test_the_same_tries_succeed_outside_of_the_sandbox(intruder):
    """A try that nobody could make would prove nothing."""
    outside = intruder[1]
    failed = {name: what for name, what in outside.items() if what != "done"}
    assert failed.keys() <= UNPROVEN.keys(), failed


def waivers(name: str) -> set[str]:
    """Return what the document says stays open in a service, by systemd's names."""
    table = DOCUMENT.read_text().partition("| left open | where | why |")[2].partition("\n\n")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:4] for line in table.splitlines()[2:]]
    found = set()
    for option, where, why in rows:
        assert why.strip(), option
        if name in where.replace(",", " ").split():
            found.add(option.strip(" `").replace("\\|", "|"))
    return found


@pytest.mark.parametrize("pattern", EXPOSURE)
def test_unit_is_exposed_no_more_than_the_document_says(site, app, active, pattern):
    most, name = EXPOSURE[pattern]
    unit = pattern.replace("APP", app).replace("RELEASE", active)
    if "*" in unit:
        unit = site.sudo(f"systemctl list-units --plain --no-legend '{unit}'").split()[0]
    said = site.sudo(f"systemd-analyze security --no-pager {unit}")
    found = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    print(f"{unit} on Debian {site.debian}: {found}")
    assert found <= most, said
    listed = json.loads(site.sudo(f"systemd-analyze security --no-pager --json=short {unit} || true"))
    assert {row["name"] for row in listed if row["set"] is False} - waivers(name) == set()


def test_number_of_tasks_is_limited(site, app, active):
    assert site.sudo(f"systemctl show --value -p TasksMax {app}-web@{active}.service").strip() == "512"
    script = "import os, time\nfor _ in range(40):\n    os.fork() or (time.sleep(3), os._exit(0))"
    bomb = f"systemd-run --quiet --wait --pipe --property=TasksMax=20 python3 -c '{script}' 2>&1 || true"
    said = site.sudo(bomb)
    if "Resource temporarily unavailable" not in said:
        held = site.sudo("grep -c :pids: /proc/1/cgroup || true").strip()
        assert held == "1", f"the kernel has what it takes, and lets everything through: {said}"
        pytest.skip("cgroup v1: this container's systemd is not given the controller that counts tasks")
