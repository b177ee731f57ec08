"""httpbin, straight from PyPI: operable, and every endpoint of its own works through nginx over TLS."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import random
import re
import secrets
import threading
import zlib

import further_apps
import pytest
import unmodified
from testbed import durations

VERSION = "0.10.4"
# All that a person writes to serve it, beside the host's address.
INVENTORY = f"""
app_name: httpbin
app_server_names: [httpbin.localhost]
app_source: pypi:httpbin=={VERSION}
app_wsgi: httpbin:app
app_required_secrets: []
"""
# On Python 3.11 it asks for a greenlet that no gevent of today works with.
pytestmark = pytest.mark.long
OLD_PYTHON = {"app_package_overrides": ["greenlet>=3"]}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def httpbin(spare):
    """Provision httpbin beside the first app of the host."""
    app = further_apps.declare(spare, INVENTORY, OLD_PYTHON if spare.debian == 12 else {})
    app.provision()
    return app


@pytest.fixture(scope="module")
def web(httpbin):
    return httpbin.web


def test_installed_package_equals_its_wheel_byte_for_byte(httpbin):
    wheel = unmodified.wheel_of("httpbin", VERSION)
    assert unmodified.is_locked(httpbin, wheel), f"{wheel} is not the wheel the release's lock names"
    assert unmodified.package_differences(httpbin, "httpbin", VERSION) == []


def test_unmodified_app_has_the_operators_pages(httpbin, web):
    assert web.get("/livez").json() == {"status": "alive", "release": httpbin.active}
    assert web.get("/readyz").json() == {"status": "ready", "release": httpbin.active}
    assert web.get("/startupz").json()["status"] == "started"
    version = web.get("/version").json()
    assert version["release"] == httpbin.active
    assert VERSION in json.dumps(version), version
    assert web.get("/metrics").status == 404


def test_unmodified_app_is_measured_by_its_routes(httpbin, web):
    def counted() -> float:
        rule = 'url_rule="/status/<codes>"'
        lines = unmodified.series(httpbin.internal("metrics"), "flask_http_request_duration_seconds_count")
        found = [line for line in lines if rule in line and 'status="418"' in line]
        assert all(f'release="{httpbin.active}"' in line for line in found), found
        return sum(float(line.rpartition(" ")[2]) for line in found)

    before = counted()
    assert [web.get("/status/418").status for _ in range(7)] == [418] * 7
    assert counted() - before == 7


def test_unmodified_apps_crash_is_logged_with_the_requests_id(httpbin, web):
    answer = web.get("/redirect/0", headers={"X-Request-ID": "forged"})
    assert answer.status == 500
    request_id = answer.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", request_id), "a client's own id must not be believed"
    assert "X-Release" not in answer.headers
    entries = httpbin.journal()
    assert unmodified.unlike_json_lines(entries) == []
    (line,) = [json.loads(entry["MESSAGE"]) for entry in entries if request_id in entry["MESSAGE"]]
    assert line["release"] == httpbin.active
    assert line["level"] == "error"
    assert "assert n > 0" in line["exception"]


def test_access_line_names_client_release_and_upstream_times(httpbin, web):
    answer = web.get("/ip?secret=1")
    (text,) = [line for line in httpbin.access_log() if answer.headers["X-Request-ID"] in line]
    line = json.loads(text)
    assert line.keys() >= unmodified.NGINX_FIELDS
    assert line["client"] == answer.json()["origin"]
    assert (line["path"], line["status"], line["release"]) == ("/ip", 200, httpbin.active)
    assert float(line["upstream_response_time"]) >= 0


@pytest.mark.parametrize("code", [200, 201, 204, 301, 304, 400, 401, 404, 406, 418, 429, 500, 503])
def test_status_reaches_the_client(web, code):
    assert web.get(f"/status/{code}").status == code


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_app_sees_method_query_and_public_address(web, method):
    body = b'{"sent": 1}' if method != "GET" else None
    target = f"/anything/%C3%A9/x?a=1&a=2&b=%20{secrets.token_hex(3)}"
    seen = web.request(method, target, body=body, headers={"Content-Type": "application/json"}).json()
    assert seen["method"] == method
    assert seen["args"]["a"] == ["1", "2"]
    assert seen["url"].startswith(f"https://{web.host_header}/anything/")
    assert seen["json"] == (json.loads(body) if body else None)


def test_app_is_told_the_client_and_no_client_tells_it_otherwise(web):
    forged = {
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Ssl": "off",
        "X-Real-IP": "192.0.2.7",
        "Forwarded": "for=192.0.2.7",
    }
    seen = web.get("/anything?show_env=1", headers=forged).json()
    headers = seen["headers"]
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-Host"] == headers["Host"] == web.host_header
    assert headers["X-Forwarded-Port"] == str(web.public_port)
    assert headers["X-Forwarded-For"] == seen["origin"] != "192.0.2.7"
    assert "192.0.2.7" not in json.dumps(seen)
    assert "evil.example" not in json.dumps(seen)


def test_redirects_lead_to_the_public_address(web):
    public = f"https://{web.host_header}"
    locations = {
        "/redirect/2": "/relative-redirect/1",
        "/relative-redirect/1": "/get",
        "/absolute-redirect/2": f"{public}/absolute-redirect/1",
        "/absolute-redirect/1": f"{public}/get",
        "/redirect-to?url=https%3A%2F%2Fexample.org%2Fx": "https://example.org/x",
        # The name nginx knows the app by: its own rewriting would make this one relative.
        "/redirect-to?url=http%3A%2F%2Fhttpbin%2Fx": "http://httpbin/x",
        "/redirect-to?url=%2Fget&status_code=307": "/get",
    }
    assert {path: web.get(path).headers["Location"] for path in locations} == locations


def test_streams_arrive_whole(web):
    lines = web.get("/stream/20").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(20))
    assert web.get("/drip?duration=1&numbytes=5").body == b"*****"
    random.seed(5)
    expected = bytes(random.randint(0, 255) for _ in range(20_000))
    assert web.get("/stream-bytes/20000?seed=5&chunk_size=777").body == expected


def test_encodings_of_the_app_reach_the_client_once(httpbin, web):
    assert json.loads(gzip.decompress(web.get("/gzip").body))["gzipped"] is True
    assert json.loads(zlib.decompress(web.get("/deflate").body))["deflated"] is True
    brotli = web.get("/brotli", headers={"Accept-Encoding": "br, gzip"})
    assert brotli.headers["Content-Encoding"] == "br"
    # The controller has no brotli; the app's own environment has.
    python = f"/srv/{httpbin.name}/current/venv/bin/python"
    decode = "import brotlicffi, sys; sys.stdout.buffer.write(brotlicffi.decompress(sys.stdin.buffer.read()))"
    text = httpbin.site.sudo(f"{python} -c '{decode}'", stdin=brotli.body)
    assert json.loads(text)["brotli"] is True


def test_text_is_compressed_for_those_who_ask(web):
    plain, packed = web.get("/html"), web.get("/html", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_chunked_request_body_arrives_whole(web, method):
    pieces = [secrets.token_bytes(size) for size in (1, 4096, 70_000, 3)]
    connection = web.connection()
    try:
        headers = {"Host": web.host_header, "Content-Type": "application/octet-stream"}
        connection.request(method, "/anything", body=iter(pieces), headers=headers, encode_chunked=True)
        # http.client sends Transfer-Encoding itself for a body whose length it cannot know.
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    assert decoded(answer["data"]) == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_upload_of_a_mebibyte_comes_back(web):
    body = secrets.token_bytes(MIB)
    raw = web.request("POST", "/post", body=body, headers={"Content-Type": "application/octet-stream"})
    assert decoded(raw.json()["data"]) == hashlib.sha256(body).hexdigest()


def test_multipart_upload_of_a_mebibyte_comes_back(web):
    body, mark = secrets.token_bytes(MIB), secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="word"\r\n\r\nplain\r\n'.encode(),
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode(),
        body,
        f"\r\n--{mark}--\r\n".encode(),
    ]
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    answer = web.request("POST", "/post", body=b"".join(parts), headers=headers).json()
    assert answer["form"] == {"word": "plain"}
    assert decoded(answer["files"]["file"]) == hashlib.sha256(body).hexdigest()


def decoded(data_url: str) -> str:
    """Return the digest of what httpbin sends back as a data: URL."""
    return hashlib.sha256(base64.b64decode(data_url.partition(";base64,")[2])).hexdigest()


def test_cookies_are_set_sent_and_deleted(web):
    answer = web.get("/cookies/set?flavour=oat")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("flavour=oat")
    assert "Secure" in cookie, "the app knows that its client speaks TLS"
    assert answer.headers["Location"] == "/cookies"
    assert web.get("/cookies", headers={"Cookie": "flavour=oat; b=2"}).json()["cookies"]["b"] == "2"
    assert "Expires=Thu, 01 Jan 1970" in web.get("/cookies/delete?flavour=").headers["Set-Cookie"]


def test_authorization_reaches_the_app(web):
    word = secrets.token_hex(8)
    assert web.get(f"/basic-auth/u/{word}").headers["WWW-Authenticate"].startswith("Basic")
    basic = base64.b64encode(f"u:{word}".encode()).decode()
    assert web.get(f"/basic-auth/u/{word}", headers={"Authorization": f"Basic {basic}"}).status == 200
    assert web.get("/bearer").status == 401
    assert web.get("/bearer", headers={"Authorization": f"Bearer {word}"}).json()["token"] == word


def test_head_range_and_conditional_requests(web):
    head = web.request("HEAD", "/html")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(web.get("/html").body))
    part = web.get("/range/1000", headers={"Range": "bytes=26-29"})
    assert (part.status, part.body) == (206, b"abcd")
    assert part.headers["Content-Range"] == "bytes 26-29/1000"
    assert web.get("/range/1000", headers={"Range": "bytes=2000-"}).status == 416
    assert web.get("/etag/known").headers["ETag"] == "known"
    assert web.get("/etag/known", headers={"If-None-Match": "known"}).status == 304
    assert web.get("/etag/known", headers={"If-Match": "other"}).status == 412
    assert web.get("/cache", headers={"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}).status == 304


def test_content_types_are_the_apps_own(web):
    types = {path: web.get(path).headers["Content-Type"] for path in ("/image/png", "/xml", "/bytes/9")}
    assert types == {
        "/image/png": "image/png",
        "/xml": "application/xml",
        "/bytes/9": "application/octet-stream",
    }
    assert "∮ E⋅da = Q" in web.get("/encoding/utf8").body.decode()


def test_slow_answers_are_waited_for_side_by_side(httpbin, web):
    """Forty seconds of waiting, where one after the other on each worker would take twenty at least."""
    statuses: list[object] = []

    def ask() -> None:
        try:
            statuses.append(web.get("/delay/1").status)
        except (OSError, http.client.HTTPException) as error:
            statuses.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(40)]
    with durations.measured(f"{httpbin.site.name} forty answers of a second each"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
    assert statuses == [200] * 40
