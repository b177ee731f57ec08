"""The app's account, folders, secrets and units: unprivileged, sandboxed, told no more than it needs."""

from __future__ import annotations

import json
import re

import pytest
from testbed import durations

# On the host, as root: where a secret's value can be read that is not its credential.
LEAKS = r"""
import json, pathlib, subprocess, sys
app = sys.argv[1]
folder = pathlib.Path(f"/etc/{app}/credentials.encrypted")
values = {}
for path in folder.iterdir():
    command = ["systemd-creds", "decrypt", f"--name=app_{path.name}", str(path), "-"]
    values[path.name] = subprocess.run(command, capture_output=True, check=True).stdout.strip()
assert values and all(len(value) >= 16 for value in values.values())
places = {}
patterns = ["proc/[0-9]*/environ", "proc/[0-9]*/cmdline", "var/log/**/*", "etc/systemd/**/*",
            f"etc/{app}/credentials*/*",
            "etc/releasectl/*", f"etc/{app}/*.env", f"srv/{app}/*.jsonl", f"srv/{app}/releases/*/release.*"]
for pattern in patterns:
    for path in pathlib.Path("/").glob(pattern):
        try:
            if path.is_file() and not path.name.endswith(".journal"):
                places[str(path)] = path.read_bytes()
        except OSError:
            pass
for command in (["journalctl", "--no-pager", "--output=export"], ["systemctl", "show", f"{app}-*"]):
    places[command[0]] = subprocess.run(command, capture_output=True).stdout
assert len(places) > 20 and len(places["journalctl"]) > 1000, "looked at too little"
leaks = [(name, place) for name, value in values.items() for place in places if value in places[place]]
print(json.dumps(leaks))
"""


KINDS = ("web", "worker", "beat", "flower")
# Those that are processes of their own and begin others.
PARENTS = ("web", "worker")


@pytest.fixture
def unit(app, active):
    return f"{app}-web@{active}.service"


@pytest.fixture
def processes(host, app, active):
    """Return the processes of the app's units: pid, and what /proc tells of their rights."""
    pids = []
    for kind in KINDS:
        main = host.check_output(f"systemctl show --value -p MainPID {app}-{kind}@{active}.service")
        children = host.run(f"pgrep --parent {main}").stdout.split()
        assert main != "0", f"{kind} does not run"
        assert children or kind not in PARENTS, f"{kind} is without the processes it begins"
        pids += [main, *children]
    found = {}
    for pid in pids:
        lines = host.check_output(f"cat /proc/{pid}/status").splitlines()
        found[pid] = {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}
    return found


def test_account_cannot_log_in(host, app):
    user = host.user(app)
    assert user.shell == "/usr/sbin/nologin"
    assert user.uid < 1000, "a system account"
    assert user.password in ("!", "*", "!*", "!!")


def test_processes_run_as_the_apps_account(host, app, processes):
    uid = str(host.user(app).uid)
    assert {status["Uid"] for status in processes.values()} == {"\t".join([uid] * 4)}


def test_processes_have_no_way_to_more_rights(processes):
    for pid, status in processes.items():
        capabilities = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
        assert not any(capabilities.values()), (pid, capabilities)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), (pid, status)


def test_release_is_read_only_to_the_app(host, app, active):
    release = f"/srv/{app}/releases/{active}"
    assert host.check_output(f"find {release} /srv/{app}/deps ! -user root") == ""
    assert host.check_output(f"find {release} /srv/{app}/deps ! -type l -perm /022") == ""
    writable = host.run(
        f"sudo -n -u {app} find /srv/{app} /etc/{app} /run/{app} -writable ! -type l"
    ).stdout.split()
    # The release before may have left its counters, to go on with when it comes back.
    # Flower makes its socket itself, in a folder that lets nginx in.
    own = re.compile(rf"/srv/{app}/shared(/|$)|/run/{app}/(flower|\d{{8}}T\d{{6}}Z-[0-9a-f]{{7}})(/|$)")
    assert f"/run/{app}/{active}" in writable
    assert [path for path in writable if not own.match(path)] == []


def test_code_is_not_for_other_accounts_to_read(host, app, active):
    release = f"/srv/{app}/releases/{active}"
    for path in (f"{release}/venv/bin/python", f"{release}/venv/pyvenv.cfg", f"/srv/{app}/shared"):
        assert host.run(f"sudo -n -u nobody ls {path}/ || sudo -n -u nobody cat {path}").rc != 0, path


def test_credentials_are_roots_alone(host, app):
    assert not host.file(f"/etc/{app}/credentials").exists
    folder = host.file(f"/etc/{app}/credentials.encrypted")
    assert (folder.user, folder.group, folder.mode) == ("root", "root", 0o700)
    names = folder.listdir()
    assert sorted(names) == ["admin_password", "secret_key", "webhook_github", "webhook_stripe"]
    for name in names:
        file = host.file(f"/etc/{app}/credentials.encrypted/{name}")
        assert (file.user, file.group, file.mode) == ("root", "root", 0o600), name


def test_secret_is_the_one_the_inventory_holds(host, app, site):
    held = (site.state_dir / "secrets/secret_key").read_text().split()[0]
    path = f"/etc/{app}/credentials.encrypted/secret_key"
    assert host.check_output(f"systemd-creds decrypt --name=app_secret_key {path} -") == held
    # With this host's own key, under this name alone: a copy of the file is worth nothing.
    assert host.run(f"systemd-creds decrypt --name=app_other {path} -").rc != 0
    assert host.file("/var/lib/systemd/credential.secret").mode == 0o400


def test_units_are_handed_their_secrets_decrypted(host, app, active):
    main = host.check_output(f"systemctl show --value -p MainPID {app}-web@{active}.service")
    folder = f"/proc/{main}/root/run/credentials/{app}-web@{active}.service"
    names = host.check_output(f"ls {folder}").split()
    assert names == ["app_admin_password", "app_secret_key", "app_webhook_github", "app_webhook_stripe"]
    assert host.run(f"sudo -n -u nobody cat {folder}/app_secret_key").rc != 0


def test_settings_are_not_for_other_accounts_to_read(host, app):
    settings = host.file(f"/etc/{app}/app.env")
    assert (settings.user, settings.group, settings.mode) == ("root", "root", 0o640)
    assert "APP_ENV=" in settings.content_string


def test_no_secret_is_in_an_environment_a_log_or_a_unit(site, app):
    leaks = json.loads(site.sudo(f"python3 - {app}", stdin=LEAKS.encode()))
    assert leaks == []


def test_listening_socket_is_nginxs_alone(host, app, active):
    path = f"/run/{app}/{active}.sock"
    socket = host.file(path)
    assert socket.is_socket
    assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)
    ask = f"curl -s --max-time 5 --unix-socket {path} http://localhost/livez"
    assert host.run(f"sudo -n -u www-data {ask}").rc == 0
    assert host.run(f"sudo -n -u nobody {ask}").rc != 0


def test_flowers_socket_is_nginxs_alone(host, app, active):
    path = f"/run/{app}/flower/{active}.sock"
    ask = f"curl -s --max-time 5 --unix-socket {path} http://localhost/flower/healthcheck"
    assert host.run(f"sudo -n -u www-data {ask}").rc == 0
    assert host.run(f"sudo -n -u nobody {ask}").rc != 0
    assert host.file(f"/srv/{app}/flower.sock").linked_to == path


def test_app_listens_on_nothing_else(host, processes):
    lines = host.check_output("ss -Htulnp").splitlines()
    assert [line for pid in processes for line in lines if f"pid={pid}," in line] == []


def test_backlog_of_the_listening_socket_is_seen_through_the_sandbox(host):
    shown = host.check_output(
        "curl -sS --max-time 10 -H 'Host: inbox.localhost' http://127.0.0.1:9180/metrics"
    )
    backlog = re.search(r"^flask_ops_listen_backlog_max\{[^}]*\} (\S+)$", shown, re.MULTILINE)
    assert backlog, "AF_NETLINK is shut, or the sampler does not run"
    assert float(backlog[1]) == 2048


def test_control_socket_is_the_apps_alone(host, app, active):
    control = host.file(f"/run/{app}/{active}/gunicorn.ctl")
    assert control.is_socket
    assert (control.user, control.mode) == (app, 0o600)


def test_another_account_of_the_host_gets_nowhere(host, app, active):
    ask = "curl -s --max-time 5 --unix-socket"
    tries = {
        "the app": f"{ask} /run/{app}/{active}.sock http://localhost/livez",
        "the app, by nginx's way": f"{ask} /srv/{app}/upstream.sock http://localhost/livez",
        "its control socket": f"{ask} /run/{app}/{active}/gunicorn.ctl http://localhost/",
        "its metrics": f"ls /run/{app}/{active}",
        "its settings": f"cat /etc/{app}/app.env",
        "its secrets on disk": f"ls /etc/{app}/credentials.encrypted",
        "its secrets in memory": f"cat /run/credentials/{app}-web@{active}.service/app_secret_key",
        "the host's key": "cat /var/lib/systemd/credential.secret",
        "its certificate's key": f"cat /etc/ssl/{app}/privkey.pem",
        "its files": f"ls /srv/{app}/shared",
        "its logs": f"journalctl --quiet --no-pager -n 1 -t {app}-web | grep .",
        "backups": "ls /var/backups/mirror/*/",
        "PostgreSQL's data": "ls /var/lib/postgresql/*/main",
        "Redis's data": "ls /var/lib/redis",
        "another release": f"releasectl --app {app} restart",
        "a look as the app": f"releasectl --app {app} run true",
    }
    reached = [what for what, command in tries.items() if as_nobody(host, command).rc == 0]
    assert reached == []
    # The same by root, so that a refusal means something.
    missed = [what for what, command in tries.items() if "releasectl" not in command and host.run(command).rc]
    # nothing was ever moved aside on a fresh host; the control socket speaks no HTTP.
    assert set(missed) <= {"backups", "its control socket", "its secrets in memory"}, missed


def as_nobody(host, command):
    """Run a shell command as an account that is nobody's."""
    return host.run(f"sudo -n -u nobody sh -c '{command}'")


@pytest.mark.parametrize("kind", ["web", "worker", "beat"])
def test_every_journal_line_is_json_that_names_its_release(host, app, active, kind):
    lines = host.check_output(
        f"journalctl --boot --no-pager --output=cat -t {app}-{kind} _UID={host.user(app).uid}"
    )
    entries = [json.loads(line) for line in lines.splitlines()]
    assert entries
    for entry in entries:
        assert {"timestamp", "level", "event", "logger", "release", "service"} <= entry.keys(), entry
    assert entries[-1]["release"] == active


def test_app_starts_within_its_time(host, unit):
    shown = host.check_output(
        f"systemctl show {unit} -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic"
    )
    times = {name: int(value) for name, value in (line.split("=") for line in shown.splitlines())}
    seconds = (times["ActiveEnterTimestampMonotonic"] - times["InactiveExitTimestampMonotonic"]) / 1e6
    durations.record(f"{host.backend.host.name} web unit from start to READY", seconds)
    # What the test hosts' releases are given (app_start_timeout_seconds): how fast it is, the durations tell.
    assert seconds < 40
