"""What lands on a host, read as text."""

from __future__ import annotations

import json
import re
import shlex

PUBLIC_LISTEN = re.compile(r"^\s*listen (\[::\]:)?(\d+)\b(.*);", re.MULTILINE)
RELEASECTL_KEYS = {
    "app", "root", "run_dir", "user", "group", "uv", "python", "keep",
    "idle_close_seconds", "start_timeout_seconds",
    "drain_timeout_seconds", "stop_timeout_seconds", "migrate_timeout_seconds", "edge",
}  # fmt: skip


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
    for kind in ("web@.service", "web@.socket", "migrate@.service"):
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
    assert f"return 308 https://$host{suffix}$request_uri;" in host.site


def test_app_is_told_the_port_its_clients_use(host):
    for name in (f"{host.app}.conf", f"{host.app}.internal.conf"):
        headers = host.read(f"/etc/nginx/sites-enabled/{name}")
        assert f'Host "$host{":8443" if host.odd else ""}";' in headers
        assert f"X-Forwarded-Port {8443 if host.odd else 443};" in headers


def test_ipv6_follows_the_switch(host):
    for path in ("/etc/nginx/conf.d/default_server.conf", f"/etc/nginx/sites-enabled/{host.app}.conf"):
        found = [(match[2], match[3]) for match in PUBLIC_LISTEN.finditer(host.read(path)) if not match[1]]
        found_six = [(match[2], match[3]) for match in PUBLIC_LISTEN.finditer(host.read(path)) if match[1]]
        public = [listen for listen in found if listen[0] not in ("127", "9180")]
        assert found_six == ([] if host.odd else public), path
    if host.odd:
        assert not [path for path in host.files if "[::]" in host.read(path)]


def test_every_public_port_has_a_server_for_foreign_names(host):
    site = {match[2] for match in PUBLIC_LISTEN.finditer(host.site)}
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


def test_units_of_one_app_share_one_sandbox(host):
    frames = [
        host.read(f"/etc/systemd/system/{host.app}-{kind}@.service")
        .partition("\n# Who it runs as")[2]
        .partition("[Install]")[0]
        for kind in ("web", "migrate")
    ]
    assert frames[0].strip()
    assert frames[0].strip() == frames[1].strip()


def test_app_env_holds_each_setting_once_and_quoted(host):
    lines = [line for line in host.read(f"/etc/{host.app}/app.env").splitlines() if not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines)
    assert len(settings) == len(lines)
    assert all(len(shlex.split(value)) == 1 and value.startswith('"') for value in settings.values()), lines
    if host.odd:
        assert shlex.split(settings["GREETING"]) == ['say "hi" for 100 %']


def test_releasectl_gets_the_contracts_settings(host):
    settings = json.loads(host.read(f"/etc/releasectl/{host.app}.json"))
    assert settings.keys() == RELEASECTL_KEYS
    wrong = [
        key
        for key in settings
        if key == "keep" or key.endswith("_seconds")
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
            sorted({match[0].strip() for match in PUBLIC_LISTEN.finditer(host.site)})
            for host in (inbox, board)
        ]
        assert listens[0] == listens[1]


def test_debian_releases_differ_in_nothing_but_http2(rendered):
    for app in ("inbox", "board"):
        old, new = rendered.hosts[f"{app}-12"], rendered.hosts[f"{app}-13"]
        assert old.files == new.files
        unlike = [path for path in old.files if old.read(path) != new.read(path)]
        assert unlike == [f"/etc/nginx/sites-enabled/{app}.conf"]
