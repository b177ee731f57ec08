"""What lands on a host, read as text."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import jinja2
import pytest
import yaml
from rendering import ROOT

PUBLIC_LISTEN = re.compile(r"^\s*listen (\[::\]:)?(\d+)\b(.*);", re.MULTILINE)
RELEASECTL_KEYS = {
    "app", "root", "run_dir", "user", "group", "uv", "python", "keep",
    "idle_close_seconds", "start_timeout_seconds", "ops_prefix",
    "drain_timeout_seconds", "stop_timeout_seconds", "migrate_timeout_seconds", "edge", "keep_free_mb",
    "companions", "worker_stop_timeout_seconds", "migrate_skip",
    "access_log", "bake_seconds", "bake_error_share", "bake_slowdown",
    "page_every_seconds", "page_certificates", "page_prometheus",
    "warm_seconds", "hooks", "hook_timeout_seconds", "credentials_encrypted",
}  # fmt: skip


COMPANION_UNITS = ("worker@.service", "beat@.service", "flower@.service")


def test_nothing_is_left_unrendered(host):
    assert host.files
    for path in host.files:
        left = re.findall(
            r"\{\{.*|\{%.*|\{#.*|.*__omit_place_holder.*|.*Undefined.*|.*\bNone\b.*", host.read(path)
        )
        assert not left, f"{path}: {left}"


def test_every_file_ends_with_its_last_line(host):
    for path in host.files:
        assert re.search(r"[^\n]\n\Z", host.read(path)), f"{path} ends in {host.read(path)[-20:]!r}"


def test_file_names_carry_the_app(host):
    assert f"/etc/nginx/sites-enabled/{host.app}.conf" in host.files
    for kind in ("web@.service", "web@.socket", "migrate@.service", "contract@.service", *COMPANION_UNITS):
        assert f"/etc/systemd/system/{host.app}-{kind}" in host.files


def test_http2_is_spelt_as_this_nginx_reads_it(host):
    """1.22 takes a word of `listen`, 1.26 warns of it and takes a directive."""
    tls = [match[3] for match in PUBLIC_LISTEN.finditer(host.site) if " ssl" in match[3]]
    assert tls
    assert [" http2" in words for words in tls] == [host.debian == 12] * len(tls), host.site
    assert (re.search(r"^\s*http2 on;", host.site, re.MULTILINE) is not None) == (host.debian == 13), (
        host.site
    )


def test_redirect_keeps_a_port_browsers_do_not_assume(host):
    suffix = ":8443" if host.odd else ""
    assert f"return 308 https://$host{suffix}$request_uri;" in host.plain


def test_app_is_told_the_port_its_clients_use(host):
    for name in (f"{host.app}.conf", f"{host.app}.internal.conf"):
        headers = host.read(f"/etc/nginx/sites-enabled/{name}")
        assert f'Host "$host{":8443" if host.odd else ""}";' in headers
        assert f"X-Forwarded-Port {8443 if host.odd else 443};" in headers
    assert f'Host "$host{":8080" if host.odd else ""}";' in host.plain
    assert f"X-Forwarded-Port {8080 if host.odd else 80};" in host.plain


def test_every_listener_but_the_internal_one_clears_what_the_internal_one_says(host):
    for text in (host.site, host.plain):
        passing = [server for server in text.split("\nserver {")[1:] if "proxy_pass" in server]
        assert passing
        assert all('proxy_set_header X-Ops-Internal "";' in server for server in passing)
        assert all("include snippets/proxy_headers.conf;" in server for server in passing)
        assert all("proxy_hide_header X-Release;" in server for server in passing)


def test_health_port_is_there_when_it_is_asked_for(host):
    ports = {match[2] for match in PUBLIC_LISTEN.finditer(host.plain) if "default_server" in match[3]}
    assert ports == ({host.health_port} if host.health_port else set())


def test_ipv6_follows_the_switch(host):
    for path in ("/etc/nginx/conf.d/default_server.conf", *host.sites):
        found = [(match[2], match[3]) for match in PUBLIC_LISTEN.finditer(host.read(path)) if not match[1]]
        found_six = [(match[2], match[3]) for match in PUBLIC_LISTEN.finditer(host.read(path)) if match[1]]
        public = [listen for listen in found if listen[0] not in ("127", "9180")]
        assert found_six == ([] if host.odd else public), path
    if host.odd:
        assert not [path for path in host.files if "[::]" in host.read(path)]


def test_every_public_port_has_a_server_for_foreign_names(host):
    site = {match[2] for match in PUBLIC_LISTEN.finditer(host.site + host.plain)} - {host.health_port}
    guarded = {
        match[2]
        for match in PUBLIC_LISTEN.finditer(host.read("/etc/nginx/conf.d/default_server.conf"))
        if "default_server" in match[3]
    }
    assert site - {"127"} <= guarded


def test_web_units_command_is_the_contracts(host):
    unit = host.read(f"/etc/systemd/system/{host.app}-web@.service")
    command = f"/srv/{host.app}/releases/%i/venv/bin/gunicorn --config python:flask_ops.gunicorn_conf"
    assert re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE) == [command]


def test_migration_is_run_by_the_release_with_its_command_as_one_word(host):
    kinds = {"migrate": "expand", "contract": "contract"}
    units = {
        mode: host.read(f"/etc/systemd/system/{host.app}-{kind}@.service") for kind, mode in kinds.items()
    }
    command = f"/srv/{host.app}/releases/%i/venv/bin/python -m flask_ops.run ${{MIGRATE_COMMAND}}"
    for mode, unit in units.items():
        assert re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE) == [command]
        assert re.findall(r"^Environment=FLASK_OPS_MIGRATE=(.*)$", unit, re.MULTILINE) == [mode]
        assert "\nEnvironment=FLASK_OPS_MIGRATE_LOCK_TIMEOUT_SECONDS=2\n" in unit


def test_metrics_of_an_instance_outlive_it_and_are_found_by_its_neighbours(host):
    unit = host.read(f"/etc/systemd/system/{host.app}-web@.service")
    assert "RuntimeDirectoryPreserve=yes" in unit
    assert f"PROMETHEUS_MULTIPROC_DIR=/run/{host.app}/%i/metrics" in unit
    assert f"FLASK_OPS_METRICS_DIRS=/run/{host.app}/*/metrics*" in unit
    for kind in ("worker", "beat"):
        unit = host.read(f"/etc/systemd/system/{host.app}-{kind}@.service")
        assert f"PROMETHEUS_MULTIPROC_DIR=/run/{host.app}/%i/metrics-{kind}\n" in unit
        assert "RuntimeDirectoryPreserve=yes" in unit


def test_companions_commands_are_static_and_the_same_for_every_app(host):
    python = f"/srv/{host.app}/releases/%i/venv/bin/python -m"
    programs = {"worker": "${RELEASE_CELERY}", "beat": "${RELEASE_CELERY}", "flower": "celery"}
    commands = {
        "worker": f"worker --hostname {host.app}-%i@%H",
        "beat": f"beat --schedule /srv/{host.app}/shared/celerybeat-schedule",
        "flower": f"flower --unix-socket=/run/{host.app}/flower/%i.sock --url-prefix=flower --read-only=true "
        "--persistent=false --xheaders=false --logging=none",
    }
    for kind, words in commands.items():
        unit = host.read(f"/etc/systemd/system/{host.app}-{kind}@.service")
        command = f"{python} {programs[kind]} --app flask_ops.worker --broker= {words}"
        assert re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE) == [command]
        # A release built before there was another command says nothing.
        assert ("Environment=RELEASE_CELERY=celery\n" in unit) == (kind != "flower")
        assert f"SyslogIdentifier={host.app}-{kind}\n" in unit
        assert f"FLASK_OPS_SERVICE={host.app}-{kind}\n" in unit


def test_worker_has_limits_of_its_own(host):
    unit = host.read(f"/etc/systemd/system/{host.app}-worker@.service")
    assert f"TimeoutStopSec={45 if host.odd else 120}\n" in unit
    # The last one is the one that counts.
    assert re.findall(r"^MemoryMax=(.*)$", unit, re.MULTILINE)[-1] == ("512M" if host.odd else "infinity")


def test_celery_gets_its_settings_where_there_is_one(host):
    settings, told = settings_of(host), json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    celery = {name: value for name, value in settings.items() if "CELERY" in name}
    assert told["companions"] == host.companions
    if not host.companions:
        assert celery == {}
    elif not host.odd:
        assert celery == {"CELERY_WORKER_CONCURRENCY": "2"}
    else:
        assert celery == {
            "CELERY_WORKER_CONCURRENCY": "3",
            "CELERY_WORKER_QUEUES": "odd,default",
        }


def test_flower_is_there_for_those_who_asked_for_it_and_guarded(host):
    text = host.read(f"/etc/nginx/snippets/{host.app}.flower.conf")
    assert f"include snippets/{host.app}.*.conf;" in host.site
    folder = f"d /run/{host.app}/flower 0710 {host.app} www-data -"
    assert (folder in host.read(f"/etc/tmpfiles.d/{host.app}.conf")) == ("flower" in host.companions)
    locations = text.split("\nlocation ")[1:]
    if "flower" not in host.companions:
        assert not locations
        return
    for location in locations:
        reached = f"proxy_pass http://unix:/srv/{host.app}/flower.sock;" in location
        assert reached == ("auth_request " in location)
        assert reached == ("limit_except GET" in location)
    (asked,) = [location for location in locations if "internal;" in location]
    assert 'proxy_set_header X-Ops-Internal "";' in asked
    assert "include snippets/proxy_headers.conf;" in asked


def test_units_of_one_app_share_one_sandbox(host):
    frames = [
        host.read(f"/etc/systemd/system/{host.app}-{kind}@.service")
        .partition("\n# Who it runs as")[2]
        .partition("[Install]")[0]
        for kind in ("web", "migrate", "contract", "worker", "beat", "flower")
    ]
    assert frames[0].strip()
    # A unit may say something of its own behind it.
    assert all(frame.strip().startswith(frames[0].strip()) for frame in frames)


def test_app_talks_to_all_networks_or_to_those_it_was_given(host):
    unit = host.read(f"/etc/systemd/system/{host.app}-web@.service")
    limits = re.findall(r"^(IPAddress\w+)=(.*)$", unit, re.MULTILINE)
    given = [("IPAddressDeny", "any"), ("IPAddressAllow", "localhost 192.0.2.0/24 2001:db8::7")]
    assert limits == (given if host.odd else [])


def test_units_and_releasectl_load_the_same_credentials(host):
    unit = host.read(f"/etc/systemd/system/{host.app}-web@.service")
    folder = f"/etc/{host.app}/credentials"
    loaded = f"LoadCredential=app:{folder}" if host.odd else f"LoadCredentialEncrypted=app:{folder}.encrypted"
    assert re.findall(r"^LoadCredential.*$", unit, re.MULTILINE) == [loaded]
    told = json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    assert told["credentials_encrypted"] is not host.odd


def settings_of(host):
    """Return the app's settings as systemd reads them, which here is as a shell would."""
    lines = [
        line
        for line in host.read(f"/etc/{host.app}/app.env").splitlines()
        if line and not line.startswith("#")
    ]
    settings = dict(line.split("=", 1) for line in lines)
    assert len(settings) == len(lines)
    assert all(value.startswith('"') for value in settings.values()), lines
    words = {name: shlex.split(value) for name, value in settings.items()}
    assert all(len(word) == 1 for word in words.values()), lines
    return {name: word[0] for name, word in words.items()}


def test_app_env_holds_each_setting_once_and_quoted(host):
    settings = settings_of(host)
    assert settings["GUNICORN_WORKERS"] == "2"
    if host.odd:
        assert settings["GREETING"] == 'say "hi" for 100 %'


def test_declared_checks_and_secrets_reach_the_app_as_json(host):
    settings = settings_of(host)
    if not host.odd:
        assert not [name for name in settings if name in ("FLASK_OPS_CHECKS", "FLASK_OPS_SECRET_FILES")]
        return
    checks = json.loads(settings["FLASK_OPS_CHECKS"])
    assert [check["check"] for check in checks] == ["http", "disk"]
    assert checks[0]["url"] == 'http://127.0.0.1:9/a?b="c d"'
    assert checks[0]["timeout_seconds"] == 0.5
    assert json.loads(settings["FLASK_OPS_SECRET_ENVIRONMENT"]) == {"SIGNING_KEY": "secret_key"}
    assert json.loads(settings["FLASK_OPS_SECRET_FILES"]) == {"SETTINGS_FILE": "secret_key"}
    assert settings["FLASK_OPS_SCRUB_KEYS"] == "x-account,iban"
    assert settings["FLASK_OPS_REQUEST_DEADLINE_SECONDS"] == "0"
    assert settings["GUNICORN_PRELOAD"] == "0"


def test_no_setting_names_a_service_the_app_does_not_have(host):
    assert ("DATABASE_URL" in settings_of(host)) is not host.odd


def test_prefix_is_the_same_for_app_nginx_and_releasectl(host):
    prefix = "/-/ops.d" if host.odd else ""
    told = json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    assert settings_of(host).get("FLASK_OPS_PREFIX", "") == told["ops_prefix"] == prefix
    assert told["edge"]["url"].endswith(f"{prefix}/version")
    for text in (host.site, host.plain):
        assert f"location = {prefix}/readyz {{" in text


def test_releasectl_gets_the_contracts_settings(host):
    settings = json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    assert settings.keys() == RELEASECTL_KEYS
    wrong = [
        key
        for key in settings
        if key in ("keep", "keep_free_mb") or key.endswith("_seconds")
        if type(settings[key]) not in (int, float)
    ]
    assert not wrong, f"not numbers: {wrong}"
    assert settings["edge"]["connect"] == f"127.0.0.1:{8443 if host.odd else 443}"


def test_two_apps_on_one_host_write_no_file_differently(rendered):
    for debian in (12, 13):
        inbox, board = rendered.hosts[f"inbox-{debian}"], rendered.hosts[f"board-{debian}"]
        shared = set(inbox.files) & set(board.files)
        assert "/etc/nginx/nginx.conf" in shared
        undone = [path for path in sorted(shared) if inbox.read(path) != board.read(path)]
        assert not undone, f"whoever runs last undoes the other: {undone}"


def test_two_apps_on_one_host_take_no_name_from_each_other(rendered):
    for debian in (12, 13):
        inbox, board = rendered.hosts[f"inbox-{debian}"], rendered.hosts[f"board-{debian}"]
        for pattern in (
            r"^upstream (\S+)",
            r"server_name (.*);",
            r"server unix:(\S+);",
            r"access_log (/\S+)",
            r"ssl_certificate_key (\S+);",
        ):
            ours, theirs = (set(re.findall(pattern, host.site, re.MULTILINE)) for host in (inbox, board))
            assert ours, pattern
            assert not ours & theirs, pattern
        # nginx takes options of a shared address from whichever site it reads first.
        listens = [
            sorted(
                {match[0].strip() for match in PUBLIC_LISTEN.finditer(host.site + host.plain)}
                - {f"listen {six}{host.health_port} default_server;" for six in ("", "[::]:")}
            )
            for host in (inbox, board)
        ]
        assert listens[0] == listens[1]


def test_debian_releases_differ_in_nothing_but_http2_and_openssls_groups(rendered):
    for app in ("inbox", "board"):
        old, new = rendered.hosts[f"{app}-12"], rendered.hosts[f"{app}-13"]
        assert old.files == new.files
        unlike = [path for path in old.files if old.read(path) != new.read(path)]
        assert unlike == ["/etc/nginx/conf.d/tls.conf", f"/etc/nginx/sites-enabled/{app}.conf"]
        groups = [
            re.search(r"^ssl_ecdh_curve (.*);", host.read("/etc/nginx/conf.d/tls.conf"), re.MULTILINE)[1]
            for host in (old, new)
        ]
        assert groups[1] == f"X25519MLKEM768:{groups[0]}"


@pytest.mark.parametrize(
    ("ports", "taken"),
    [
        ({"http": 80, "https": 443, "health": 0}, False),
        ({"http": 80, "https": 443, "health": 8083}, False),
        ({"http": 80, "https": 443, "health": 8082}, True),
        ({"http": 80, "https": 443, "health": 443}, True),
        ({"http": 8082, "https": 443, "health": 0}, True),
    ],
    ids=str,
)
def test_port_of_another_app_is_found_before_nginx_would_refuse_it(rendered, ports, taken):
    """The preflight's own pattern, as grep reads it, over the sites of a neighbour with health port 8082."""
    patterns = yaml.safe_load((ROOT / "roles/nginx/vars/main.yml").read_text())["__nginx_taken_ports"]
    given = {f"nginx_{name}_port": port for name, port in ports.items()}
    words = "|".join(jinja2.Template(pattern).render(given) for pattern in patterns)
    sites = rendered.hosts["board-13"].root / "etc/nginx/sites-enabled"
    done = subprocess.run(["grep", "-rlE", words, sites], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if taken else 1), done.stdout + done.stderr


def test_status_page_is_rendered_where_nginx_reads_it(host):
    service = host.read(f"/etc/systemd/system/{host.app}-status.service")
    command = f"/usr/local/sbin/releasectl --app {host.app} page --to /run/{host.app}/status"
    assert re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE) == [command]
    assert f"\nRuntimeDirectory={host.app}/status\n" in service
    told = json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    timer = host.read(f"/etc/systemd/system/{host.app}-status.timer")
    assert f"\nOnUnitActiveSec={told['page_every_seconds']:.0f}s\n" in timer
    assert told["page_certificates"] == f"/var/lib/tlsctl/{host.app}/metrics.prom"
    internal = host.read(f"/etc/nginx/sites-enabled/{host.app}.internal.conf")
    assert re.findall(r"alias (/run/\S+);", internal) == [
        f"/run/{host.app}/status/index.{kind}" for kind in ("html", "json")
    ]


def test_public_has_no_status_page_but_where_it_was_asked_for(host):
    public = host.read(f"/etc/nginx/snippets/{host.app}.status.conf")
    found = dict(re.findall(r"location = (\S+) \{\n\s+alias (\S+);", public))
    folder = f"/run/{host.app}/status/public"
    assert found == (
        {"/how/it.is": f"{folder}.html", "/how/it.is.json": f"{folder}.json"} if host.odd else {}
    )
    assert "index." not in public + host.site
