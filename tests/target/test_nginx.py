"""The edge: who is answered, what is believed, what is shown to whom, what is written down."""

from __future__ import annotations

import gzip
import json
import re
import secrets
import socket
import ssl
import time
from datetime import datetime

import pytest
from testbed.sites import until


def ask_inside(host, target, *, name="inbox.localhost", address="127.0.0.1", options=""):
    """Ask the internal listener, on the host itself; return status and body."""
    said = host.run(
        f"curl -sS --max-time 10 {options} -H 'Host: {name}' -w '\\n%{{http_code}}' http://{address}:9180{target}"
    ).stdout
    body, _, code = said.rpartition("\n")
    return int(code or 0), body


def log_line(host, app, path):
    """Return the access log's last line about a path, parsed."""
    found = []

    def written():
        lines = host.check_output(f"tail -n 200 /var/log/nginx/{app}.access.log").splitlines()
        found[:] = [entry for entry in map(json.loads, lines) if entry["path"].endswith(path)]
        return found

    assert until(5, written), f"no line about {path}"
    return found[-1]


def test_configuration_on_disk_passes_nginxs_own_test(host):
    tested = host.run("nginx -t")
    assert tested.rc == 0, tested.stderr
    assert "warn" not in tested.stderr, tested.stderr


def test_workers_run_as_www_data(host):
    master = host.file("/run/nginx.pid").content_string.strip()
    users = set(host.check_output(f"ps -o user= --ppid {master}").split())
    assert users == {"www-data"}


def test_no_stray_site_or_setting_is_included(host, app):
    sites = host.file("/etc/nginx/sites-enabled").listdir()
    assert [name for name in sites if not name.startswith(f"{app}.")] == []
    settings = set(host.file("/etc/nginx/conf.d").listdir())
    assert settings == {
        "cache.conf", "compression.conf", "default_server.conf", "http3.conf", "limits.conf", "logging.conf",
        "maintenance.conf", "problems.conf", "proxy.conf", "real_ip.conf", "security_headers.conf",
        "static.conf", "tls.conf",
    }  # fmt: skip


def test_unknown_name_over_http_is_closed_without_an_answer(web):
    with pytest.raises(ConnectionResetError):
        web.get("/", plain=True, headers={"Host": "other.localhost"})


def test_unknown_name_in_the_handshake_is_refused_before_a_certificate_is_shown(web):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", web.https_port), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
        context.wrap_socket(plain, server_hostname="other.localhost"),
    ):
        pass


@pytest.mark.parametrize("target", ["/", "https://other.localhost/"], ids=["header", "request line"])
def test_unknown_name_behind_a_known_handshake_is_not_served(web, target):
    headers = {"Host": "other.localhost"} if target == "/" else {}
    try:
        answer = web.get(target, headers=headers)
    except ConnectionResetError:
        return
    assert answer.status == 421, answer.text[:500]


def test_plain_http_is_redirected_keeping_port_path_query_and_method(web):
    answer = web.post_json("/api/v1/messages?a=1&b=%20", {}, plain=True)
    # 308, not 301: a POST stays one.
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://{web.host_header}/api/v1/messages?a=1&b=%20"


@pytest.mark.parametrize("page", ["livez", "readyz", "startupz", "version"])
def test_health_is_answered_over_plain_http(web, active, page):
    answer = web.get(f"/{page}", plain=True)
    assert answer.status == 200, answer.text[:500]
    assert answer.json()["release"] == active
    assert "checks" not in answer.json()


def test_metrics_are_not_answered_over_plain_http(web):
    assert web.get("/metrics", plain=True, headers={"X-Ops-Internal": "1"}).status == 308


METRICS_VARIANTS = [
    "/metrics", "/metrics/", "//metrics", "///metrics", "/./metrics", "/a/../metrics", "/%6detrics",
    "/%2Fmetrics", "/metrics?x=1", "/metrics;x=1", "/METRICS", "/metrics%20", "/metrics%2F",
    "/static/../metrics", "/static/%2e%2e/metrics",
]  # fmt: skip


@pytest.mark.parametrize("target", METRICS_VARIANTS)
def test_metrics_are_not_public(web, target):
    answer = web.get(target, headers={"X-Ops-Internal": "1"})
    assert answer.status == 404, (answer.status, answer.headers)
    assert "# TYPE" not in answer.text


def test_metrics_are_not_public_by_an_absolute_request_line(web):
    answer = web.get(f"https://{web.host_header}/metrics")
    assert answer.status == 404
    assert "# TYPE" not in answer.text


def test_metrics_are_shown_on_the_internal_listener(host):
    status, body = ask_inside(host, "/metrics")
    assert status == 200, body
    assert re.search(r"^# TYPE \S+ counter$", body, re.MULTILINE), body[:1000]


def test_readiness_tells_details_inside_alone(host, web):
    status, body = ask_inside(host, "/readyz")
    assert status == 200, body
    assert "checks" in json.loads(body)
    assert "checks" not in web.get("/readyz", headers={"X-Ops-Internal": "1"}).json()


def test_status_page_is_fresh_knows_all_and_is_shown_inside_alone(host, app, web, active):
    status, body = ask_inside(host, "/status.json")
    assert status == 200, body
    told = json.loads(body)
    age = time.time() - datetime.fromisoformat(told["rendered_at"]).timestamp()
    assert -5 < age < told["rendered_every_seconds"] + 30, body
    # A Prometheus is where somebody watches, and nowhere else.
    assert set(told["unknown"]) <= {"budgets"}, told["unknown"]
    assert (told["state"], told["releases"]["active"]) == ("up", active)
    assert told["workers"]["up"] == len(told["workers"]["started"]) > 0
    assert {check["state"] for check in told["readiness"]["checks"]} == {"ok"}
    assert f"{app}-web@{active}.service" in {unit["unit"] for unit in told["units"]}
    assert {one["where"] for one in told["certificates"]} == {"disk", "served"}
    assert told["deploys"]["entries"][0]["by"]
    status, page = ask_inside(host, "/status")
    assert status == 200
    assert told["host"] in page
    assert "<script" not in page
    assert told["host"] not in web.get("/status").text


def test_status_page_is_rendered_without_a_complaint(host, app):
    said = host.check_output(f"journalctl -u {app}-status.service -p err -b --no-pager -q -o cat")
    assert said == ""
    assert host.check_output(f"systemctl is-enabled {app}-status.timer") == "enabled"


def test_internal_listener_serves_no_page_of_the_app(host):
    assert ask_inside(host, "/")[0] == 404
    assert ask_inside(host, "/api/v1/messages")[0] == 404


def test_internal_listener_is_reached_from_the_host_alone(host):
    address = host.check_output("hostname -I").split()[0]
    refused = host.run(f"curl -sS --max-time 5 http://{address}:9180/metrics")
    assert refused.rc == 7, refused


def test_http2_is_spoken(host, web):
    said = host.check_output(
        f"curl -sk --max-time 10 -o /dev/null -w '%{{http_version}} %{{http_code}}' "
        f"--resolve {web.name}:{web.public_port}:127.0.0.1 https://{web.host_header}/livez"
    )
    assert said == "2 200"


def test_forwarding_headers_of_a_client_are_not_believed(host, app, web):
    forged = {
        "X-Forwarded-For": "192.0.2.66",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Ssl": "on",
        "X-Real-IP": "192.0.2.66",
        "X-Request-ID": "evil",
        "Forwarded": "for=192.0.2.66;host=evil.example;proto=http",
    }
    # The page that shows the app's own address, as the app sees it.
    answer = web.get("/api/docs", headers=forged)
    assert answer.status == 200, answer.text[:500]
    assert f"https://{web.host_header}/api/v1/tokens" in answer.text
    assert "evil" not in answer.text
    assert answer.headers["X-Request-ID"] != "evil"
    assert log_line(host, app, "/api/docs")["client"] != "192.0.2.66"


def test_every_request_is_one_json_line_with_its_release(host, app, web, active):
    # As it was asked for, not as nginx decoded it.
    path = f"/nowhere-{secrets.token_hex(6)}%22%5C"
    answer = web.get(f"{path}?token=not-to-be-logged", headers={"User-Agent": 'a "quoted" \\ agent'})
    entry = log_line(host, app, path)
    assert (entry["status"], entry["release"], entry["method"]) == (404, active, "GET")
    assert entry["request_id"] == answer.headers["X-Request-ID"]
    assert "not-to-be-logged" not in json.dumps(entry)


def test_release_is_not_told_to_the_public_in_a_header(web):
    assert "X-Release" not in web.get("/").headers


def test_static_files_are_served_without_the_app(host, app, web):
    answer = web.get("/static/inbox.css")
    assert answer.status == 200, answer.text[:500]
    assert answer.headers["Content-Type"].startswith("text/css")
    assert log_line(host, app, "/static/inbox.css")["upstream_status"] == ""


@pytest.fixture
def hashed(host, app):
    """Return the path of the style sheet whose name holds its hash, as the build wrote it down."""
    return f"/static/{json.loads(host.file(f'/srv/{app}/current/static/manifest.json').content)['inbox.css']}"


def test_static_file_under_its_hashed_name_is_kept_for_a_year_and_under_its_own_for_an_hour(web, hashed):
    named, plain = web.get(hashed), web.get("/static/inbox.css")
    assert (named.status, plain.status) == (200, 200), (hashed, named.text[:500])
    assert named.headers["Cache-Control"] == "max-age=31536000, immutable"
    assert plain.headers["Cache-Control"] == "no-cache"


def test_static_files_are_sent_as_the_build_compressed_them(host, app, web, hashed):
    for path in (hashed, "/static/inbox.css"):
        answer = web.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.body == host.file(f"/srv/{app}/current{path}.gz").content
        assert gzip.decompress(answer.body) == web.get(path).body
    assert log_line(host, app, hashed)["upstream_status"] == ""


def test_pages_ask_for_the_hashed_name(web, hashed):
    # An error's page, which every app has and nobody must sign in for.
    page = web.get("/nowhere", headers={"Accept": "text/html"})
    assert f'href="{hashed}"' in page.text, page.text[:1000]


def test_app_alone_answers_for_its_static_files_as_nginx_does(host, app, active, web, hashed):
    said = host.check_output(
        f"curl -sS --max-time 10 --compressed -D - --unix-socket /run/{app}/{active}.sock "
        f"-H 'X-Forwarded-For: 192.0.2.1' -H 'X-Request-ID: static-by-hand' http://{web.name}{hashed}"
    )
    head, _, body = said.replace("\r\n", "\n").partition("\n\n")
    assert head.startswith("HTTP/1.1 200 "), head
    assert "Cache-Control: max-age=31536000, public, immutable" in head
    assert "Content-Encoding: gzip" in head
    assert "X-Request-ID: static-by-hand" in head
    # Testinfra drops the line break at the end.
    assert body == web.get(hashed).text.rstrip()


def test_log_is_not_for_everybody_to_read_before_a_rotation_and_after(host, app):
    log = f"/var/log/nginx/{app}.access.log"
    said = "stat --format='%U %G %a %n' /var/log/nginx/*.log"
    before = host.check_output(said).splitlines()
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    after = host.check_output(said).splitlines()
    assert f"www-data adm 640 {log}" in before
    assert before == after


def test_software_version_is_not_told(web):
    assert web.get("/").headers["Server"] == "nginx"
