"""The status page: all there is to see of a host, bounded in time, and what of it the public may know."""

import contextlib
import html.parser
import http.server
import json
import platform
import re
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from releasectl import clock, page, scraped

sys.path.insert(0, str(Path(__file__).parents[3] / "roles/tls/files"))
from tlsctl import telling

METRICS = """# TYPE flask_ops_workers gauge
flask_ops_workers{release="RELEASE",service="inbox-web"} 2.0
flask_ops_workers{release="other",service="inbox-web"} 7.0
flask_ops_worker_start_time_seconds{release="RELEASE",service="inbox-web",worker="0"} 1.7e+09
flask_ops_worker_start_time_seconds{release="RELEASE",service="inbox-web",worker="1"} 1.8e+09
flask_ops_in_flight_requests{release="RELEASE",service="inbox-web"} 3.0
flask_ops_in_flight_limit{release="RELEASE",service="inbox-web"} 2000.0
flask_ops_workers_of_somebody{release="RELEASE"} 99.0
"""
CHECKS = [
    {"id": "database", "state": "ok", "duration_ms": 2, "error": None, "found": {"heads": ["abc"]}},
    {"id": "redis", "state": "failed", "duration_ms": 31, "error": "ConnectionError"},
]
UGLY = """<script>alert("x")</script> & 'bye' ü"""
VOID = {"meta", "br"}


class Page(html.parser.HTMLParser):
    """What a browser finds: the words, the elements, and whether each was closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.problems = [], [], [], []
        self.feed(text)
        self.close()
        self.problems += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"/{tag}")

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


class Shown:
    """One rendering: both pages, as HTML and as JSON."""

    def __init__(self, folder):
        self.told, self.public = (
            json.loads((folder / f"{name}.json").read_text()) for name in ("index", "public")
        )
        self.html, self.public_html = ((folder / f"{name}.html").read_text() for name in ("index", "public"))
        self.page, self.public_page = Page(self.html), Page(self.public_html)
        assert self.page.problems == self.public_page.problems == []


@pytest.fixture
def folder(apphost):
    folder = apphost.base / "status"
    folder.mkdir()
    return folder


@pytest.fixture
def render(apphost, folder):
    def render():
        apphost.ok("page", "--to", folder)
        return Shown(folder)

    return render


@contextlib.contextmanager
def prometheus(answer):
    """Answer each query with what a function makes of it: a list of samples, or bytes as they are."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            assert url.path == "/api/v1/query"
            made = answer(parse_qs(url.query)["query"][0])
            whole = {"status": "success", "data": {"resultType": "vector", "result": made}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(made if isinstance(made, bytes) else json.dumps(whole).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def sample(goal, value):
    return {"metric": {"slo": goal}, "value": [1.7e9, value]}


def test_page_tells_who_serves_since_when_and_who_sent_it(edged, render):
    edged.configure(companions=["worker"])
    first, second = edged.put(1), edged.put(2, {"metrics": METRICS, "checks": CHECKS[:1]})
    edged.ok("activate", first)
    edged.ok("activate", second)
    last = edged.ledger()[-1]
    shown = render()
    told = shown.told
    assert (told["state"], told["app"], told["host"]) == ("up", "inbox", platform.node())
    assert (told["releases"]["active"], told["releases"]["previous"]) == (second, first)
    assert told["releases"]["active_since"] == last["at"]
    assert [(one["id"], one["active"], one["previous"]) for one in told["releases"]["staged"]] == [
        (second, True, False),
        (first, False, True),
    ]
    up = {(one["unit"], one["state"], one["active"]) for one in told["units"]}
    names = (f"inbox-web@{second}.socket", f"inbox-web@{second}.service", f"inbox-worker@{second}.service")
    assert up >= {(name, "active", True) for name in names}
    newest = {"at": last["at"], "command": "activate", "release": second, "by": "alice", "result": "done"}
    assert told["deploys"]["entries"][0] == {**newest, "seconds": last["duration_seconds"]}
    assert told["deploys"]["entries"][1]["release"] == first
    assert told["problems"] == []
    assert told["under_way"] == []
    for words in (second, first, "alice", "activate", f"inbox-worker@{second}.service", "database", "Up"):
        assert words in shown.page.text, words


def test_workers_are_those_of_the_active_release_alone(edged, render):
    edged.ok("activate", edged.put(1, {"metrics": METRICS}))
    shown = render()
    assert shown.told["workers"] == {
        "up": 2,
        "in_flight": 3,
        "in_flight_limit": 2000,
        "started": [
            {"worker": "0", "at": clock.stamp(1.7e9)},
            {"worker": "1", "at": clock.stamp(1.8e9)},
        ],
    }
    assert "2 up, 3 of 2000 requests at once." in shown.page.text


def test_app_that_tells_of_no_worker_leaves_that_part_out_in_words(edged, render):
    edged.ok("activate", edged.put(1))
    shown = render()
    assert shown.told["workers"] is None
    assert f"Left out: {shown.told['unknown']['workers']}." in shown.page.text


def test_failing_check_is_named_with_its_time(edged, render):
    edged.ok("activate", edged.put(1, {"checks": CHECKS, "unready_after_seconds": 0.5}))
    time.sleep(0.6)
    shown = render()
    assert shown.told["state"] == shown.public["state"] == "down"
    assert shown.told["readiness"] == {
        "ready": False,
        "status": "not_ready",
        # Not what else a check found, nor the error's class.
        "checks": [{name: each[name] for name in ("id", "state", "duration_ms")} for each in CHECKS],
    }
    assert shown.public["checks"] == [
        {"id": "database", "state": "ok"},
        {"id": "redis", "state": "failed"},
    ]
    assert "redis failed 31 ms" in shown.page.text
    assert "redis failed" in shown.public_page.text


def test_public_page_names_no_host_no_unit_no_release_and_no_person(edged, render):
    edged.configure(companions=["worker"])
    release = edged.put(1, {"metrics": METRICS, "checks": CHECKS[:1]})
    edged.ok("activate", release)
    edged.ok("maintenance", "on", "--reason", "moving house")
    shown = render()
    assert set(shown.public) == {
        "state",
        "rendered_at",
        "rendered_every_seconds",
        "checks",
        "maintenance",
        "last_deploy_at",
    }
    assert shown.public["state"] == "maintenance"
    assert set(shown.public["maintenance"]) == {"on", "since", "reason"}
    assert shown.public["last_deploy_at"] == edged.ledger()[0]["at"]
    assert {name for check in shown.public["checks"] for name in check} == {"id", "state"}
    whole = json.dumps(shown.public) + shown.public_html
    for secret in (platform.node(), "inbox", "alice", release, release[-7:], ".service", str(edged.base)):
        assert secret not in whole, secret
        assert secret in json.dumps(shown.told) + shown.html or secret == str(edged.base), secret
    for words in ("Closed for maintenance", "moving house", "database ok"):
        assert words in shown.public_page.text


def test_all_text_is_escaped_whoever_wrote_it(edged, render):
    checks = [{"id": UGLY, "state": UGLY, "duration_ms": UGLY}, {"id": ["x"]}, "no object"]
    edged.ok("activate", edged.put(1, {"checks": checks}))
    edged.ok("maintenance", "on", "--reason", UGLY)
    odd = {"command": "activate", "result": UGLY, "by": UGLY, "release": {"a": 1}, "exit": 2, "at": 7}
    with edged.layout.ledger.open("a") as file:
        file.write(json.dumps({**odd, "duration_seconds": float("nan")}) + "\nhalf a line\n")
    shown = render()
    for text, found in ((shown.html, shown.page), (shown.public_html, shown.public_page)):
        assert "<script" not in text
        assert UGLY in found.text
        assert {name for name, _ in found.elements} <= {
            *("html", "head", "meta", "title", "style", "body", "header", "div", "h1", "p", "time", "span"),
            *("main", "section", "h2", "table", "thead", "tbody", "tr", "th", "td"),
        }
        # Nothing is asked of anybody: no link, no picture, no file.
        assert not re.search(r"""\b(src|href|action|on\w+)=|url\(|@import""", text)
    assert shown.told["deploys"]["entries"][0]["seconds"] is None
    assert shown.told["readiness"]["checks"][0]["duration_ms"] is None


def test_half_a_character_costs_nobody_the_page(edged, render):
    edged.ok("activate", edged.put(1, {"checks": [{"id": "\ud800", "state": "ok"}]}))
    assert "? ok" in render().page.text


def test_page_says_when_it_was_rendered_and_when_it_will_be_again(apphost, render):
    apphost.configure(page_every_seconds=90)
    before = int(time.time())
    shown = render()
    for told, text, found in (
        (shown.told, shown.page, shown.page),
        (shown.public, shown.public_page, shown.public_page),
    ):
        assert before <= clock.parse(told["rendered_at"]) <= time.time()
        assert told["rendered_every_seconds"] == 90
        when = told["rendered_at"].replace("T", " ").replace("Z", " UTC")
        assert f"Rendered at {when} , and anew every 90 s." in text.text
        assert ("meta", {"http-equiv": "refresh", "content": "90"}) in found.elements
        assert ("meta", {"name": "color-scheme", "content": "light dark"}) in found.elements


def test_host_with_nothing_on_it_has_a_page(apphost, render):
    shown = render()
    assert shown.told["state"] == "down"
    assert shown.told["releases"]["staged"] == shown.told["units"] == []
    assert shown.public["last_deploy_at"] is None
    assert "No release is active." in shown.page.text
    assert "this host has no Prometheus" in shown.page.text


def test_what_hangs_is_left_out_and_costs_its_own_time_alone(apphost, render, folder, monkeypatch):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first, second)
    (apphost.systemd.folder / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(page, "ANSWER_SECONDS", 0.5)
    begun = time.monotonic()
    shown = render()
    assert time.monotonic() - begun < 3
    assert shown.told["state"] == shown.public["state"] == "unknown"
    for name in ("units", "readiness", "problems", "workers"):
        assert shown.told[name] is None
        assert shown.told["unknown"][name] == "no answer within 0.5 s"
    assert shown.page.text.count("Left out: no answer within 0.5 s.") == 4
    assert shown.told["releases"]["active"] == second
    assert [one["release"] for one in shown.told["deploys"]["entries"]] == [second, first]


def test_looking_starts_no_service_that_is_down(apphost, render):
    release = apphost.put(1)
    apphost.serve(release)
    apphost.systemd.do_stop([f"inbox-web@{release}.service"])
    shown = render()
    assert shown.told["readiness"]["status"] == "not running"
    assert shown.told["state"] == "down"
    assert apphost.systemd.unit(f"inbox-web@{release}.service").active == "inactive"
    assert any(
        "not ready" in one["problem"] or "does not run" in one["problem"] for one in shown.told["problems"]
    )


def test_who_changes_something_now_is_named_and_holds_nobody_up(edged, render):
    edged.ok("activate", edged.put(1))
    edged.ok("lock", "--reason", "moving house")
    lines = edged.ledger()
    shown = render()
    assert "moving house" in " ".join(shown.told["under_way"])
    assert "moving house" in shown.page.text
    assert "moving house" not in shown.public_html
    assert edged.ledger() == lines


def test_only_what_changed_what_serves_or_failed_is_a_deploy(edged, render):
    edged.ok("activate", edged.put(1))
    edged.ok("maintenance", "on")
    edged.ok("maintenance", "off")
    edged.run("activate", edged.put(2, {"crash": "password=hunter2"}))
    shown = render()
    told = [(one["command"], one["result"]) for one in shown.told["deploys"]["entries"]]
    assert told == [("activate", "failed"), ("activate", "done")]
    assert shown.public["last_deploy_at"] == edged.ledger()[0]["at"]
    assert "hunter2" not in shown.html + json.dumps(shown.told)


def test_files_are_replaced_whole_and_readable_to_the_one_who_serves_them(apphost, render, folder):
    render()
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    held = {path.name: path.open() for path in folder.iterdir()}
    render()
    after = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert set(before) == set(after) == {"index.html", "index.json", "public.html", "public.json"}
    for name, file in held.items():
        with file:
            # Who had it open reads on in the old one, whole.
            assert after[name] != before[name]
            assert file.read().rstrip().endswith(("}", "</html>"))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_folder_that_is_not_there_is_refused(apphost):
    run = apphost.run("page", "--to", apphost.base / "nowhere")
    assert run.code == 5
    assert "is no folder" in run.error["cause"]


def test_budgets_are_those_of_this_apps_goals(apphost, render):
    asked = []

    def answer(query):
        asked.append(query)
        if "objective" in query:
            return [sample("availability", "0.999"), sample("latency", "0.95"), sample("tasks", "0.99")]
        return [sample("availability", "0.0004"), sample("latency", "0.1"), sample("tasks", "NaN")]

    with prometheus(answer) as url:
        apphost.configure(page_prometheus=url)
        shown = render()
    assert all('app="inbox"' in query for query in asked)
    found = {one["goal"]: one for one in shown.told["budgets"]}
    assert found["availability"]["budget_used"] == pytest.approx(0.4)
    assert found["latency"]["budget_used"] == pytest.approx(2)
    assert found["tasks"] == {"goal": "tasks", "promised": 0.99, "bad_share": None, "budget_used": None}
    for words in ("availability 99.9 % 0.04 % 60.0 %", "latency 95 % 10 % -100.0 %"):
        assert words in shown.page.text
    assert "99.9" not in shown.public_html


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: [], "knows no goal"),
        (lambda _: b"<html>", "something else"),
        (lambda _: b"{}", "something else"),
    ],
)
def test_prometheus_that_answers_something_else_is_said_to(apphost, render, answer, why):
    with prometheus(answer) as url:
        apphost.configure(page_prometheus=url)
        shown = render()
    assert shown.told["budgets"] is None
    assert why in shown.told["unknown"]["budgets"]
    assert why in shown.page.text


def test_prometheus_that_never_answers_is_waited_for_no_longer_than_its_time(apphost, render, monkeypatch):
    monkeypatch.setattr(scraped, "PROMETHEUS_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        apphost.configure(page_prometheus=f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        shown = render()
    assert time.monotonic() - begun < 3
    assert "does not answer" in shown.told["unknown"]["budgets"]


def certificate_text(**values):
    """Return a text as tlsctl writes it, of names that are its own."""
    lines = []
    for name, value in values.items():
        metric, _, where = name.partition("__")
        assert metric in telling.HELP
        labels = f'name="inbox",where="{where}"' if where else 'name="inbox"'
        lines.append(f"{metric}{{{labels}}} {value:.15g}")
    return "# HELP x y\n" + "\n".join(lines) + "\n"


def test_certificates_have_their_days_left(apphost, render):
    now, path = time.time(), apphost.base / "metrics.prom"
    path.write_text(
        certificate_text(
            tls_certificate_not_after_timestamp_seconds__disk=now + 60.5 * 86400,
            tls_certificate_not_after_timestamp_seconds__served=now - 3600,
            tls_certificate_renewal_due_timestamp_seconds=now + 30 * 86400,
            tls_renewal_last_run_success=0,
        )
    )
    apphost.configure(page_certificates=str(path))
    shown = render()
    assert [(one["where"], one["days_left"]) for one in shown.told["certificates"]] == [
        ("disk", 60),
        ("served", -1),
    ]
    assert {one["last_renewal_ok"] for one in shown.told["certificates"]} == {False}
    assert {one["renewal_overdue"] for one in shown.told["certificates"]} == {False}
    assert "disk 60" in shown.page.text
    path.unlink()
    assert "No such file" in render().told["unknown"]["certificates"]


@pytest.mark.parametrize(
    "changes",
    [
        {"page_prometheus": "https://x"},
        {"page_prometheus": 7},
        {"page_certificates": "x"},
        {"page_every_seconds": 0},
    ],
)
def test_wrong_settings_are_refused_by_name(apphost, folder, changes):
    apphost.configure(**changes)
    run = apphost.run("page", "--to", folder)
    assert run.code == 5
    assert repr(next(iter(changes))) in run.error["cause"]
