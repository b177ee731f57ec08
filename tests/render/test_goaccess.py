"""Debian's goaccess understands the access log, by the very script that runs on a host."""

from __future__ import annotations

import gzip
import json
import os
import re
import time

import pytest
from rendering import ROOT
from sandbox import Container
from testbed.access_lines import access_line

SCRIPT = (ROOT / "roles/visits/files/visits.sh").read_text()
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
VISITS = [
    {"asked_path": "/messages/7"},
    {"asked_path": "/messages/7", "remote_addr": "2001:db8:1::7", "request_time": "1.500"},
    # As escape=json writes what a client may send.
    {"asked_path": r"/a,\"b\u001b}{%", "status": "404", "named_agent": r"x, \"y\": 1"},
    {"asked_path": "/hooks/x", "status": "502", "request_method": "POST", "upstream_header_time": "-"},
    {"asked_path": "/readyz"},
]
VALUES = {"server_name": "inbox.example.org", "remote_addr": "192.0.2.77", "request_method": "GET"}
VALUES |= {"server_protocol": "HTTP/2.0", "named_agent": FIREFOX, "bytes_sent": "1000"}


@pytest.fixture(scope="module", params=[12, 13])
def visits(request, tmp_path_factory):
    """Return a function that runs the script over a folder of logs in a Debian release."""
    folder = tmp_path_factory.mktemp("logs")
    text = "".join(f"{access_line(**{**VALUES, **visit})}\n" for visit in VISITS)
    (folder / "inbox.access.log").write_text(text)
    (folder / "inbox.access.log.2.gz").write_bytes(gzip.compress(text.encode()))
    # Of another app, and of a day that is too far back.
    (folder / "inbox-two.access.log").write_text(text)
    old = folder / "inbox.access.log.3.gz"
    old.write_bytes(gzip.compress(text.encode()))
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    made = Container(request.param)
    made.begin(["goaccess"], [f"--volume={folder}:/logs:ro"], "true")

    def run(addresses, *options):
        asked = ("/logs", "inbox", "7", "", addresses, *options)
        done = made.run("sh", "-c", SCRIPT, "visits.sh", *asked)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    made.__exit__()


def counted(panel):
    """Return how often each thing of a panel was met."""
    return {one["data"]: one["hits"]["count"] for one in panel["data"]}


def test_every_line_is_understood_and_health_left_out(visits):
    told = json.loads(visits("whole", "--output=json"))
    assert (told["general"]["valid_requests"], told["general"]["failed_requests"]) == (8, 0)
    assert counted(told["vhosts"]) == {"inbox.example.org": 8}
    assert counted(told["hosts"]) == {"192.0.2.77": 6, "2001:db8:1::7": 2}
    assert counted(told["browsers"])["Firefox"] == 6
    assert {one["data"].split()[0]: one["hits"]["count"] for one in told["status_codes"]["data"]} == {
        "2xx": 4,
        "4xx": 2,
        "5xx": 2,
    }


def test_routes_have_their_method_bytes_and_time(visits):
    told = json.loads(visits("whole", "--output=json"))
    routes = {one["data"]: one for one in told["requests"]["data"]}
    one = routes["/messages/7"]
    assert (one["method"], one["hits"]["count"], one["bytes"]["count"]) == ("GET", 4, 4000)
    # Microseconds, the mean of 0.5 s and 1.5 s.
    assert int(one["avgts"]) == 1_000_000
    assert routes["/hooks/x"]["method"] == "POST"


def test_page_stands_by_itself_and_has_no_address_whole(visits):
    page = visits("cut", "--output=html", "--html-report-title=inbox on www1")
    assert page.startswith("<!DOCTYPE html>")
    assert "inbox on www1" in page
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=['\"]?(?!data:)[^'\"> ]+", page) == []
    assert "192.0.2.77" not in page
    assert "192.0.2.0" in page
