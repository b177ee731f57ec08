"""Run inside a sandbox: the headers of every kind of answer that the listeners of each site give.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints answers by site, by question: status and
every header line, repeated ones too. nginx runs on copies of its tree, so that limits can be met.
"""

import http.client
import http.server
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path

from standing import Quiet, Server, closed, nginx, trusting

COPY = Path("/run/nginx-headers")
BROWSER = {"Accept": "text/html"}
OWN = {
    "Strict-Transport-Security": "max-age=77",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'",
}
MUCH = {"Content-Length": str(11 * 1024 * 1024)}
STATUSES = (200, 201, 204, 206, 301, 303, 304, 400, 401, 403, 404, 405, 410, 418, 422, 429, 500, 502, 503)


class App(Quiet):
    """Answers `/<status>` with that status, and what names `own` with its own security headers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/slow":
            time.sleep(3)
        status = int((re.search(r"/(\d{3})$", self.path) or [0, 200])[1])
        if self.path in ("/admin/authorize", "/-/may"):
            status = {"as=admin": 204, "as=viewer": 403}.get(self.headers.get("Cookie"), 401)
        own = OWN if "own" in self.path else {}
        body = b"" if status in (204, 304) else b"the app"
        self.send_response(status)
        for name, value in [*own.items(), ("Location", "/there"), ("X-Release", "r1")]:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_GET


def lay_out(site):
    """Put a static file beside the app, and the app where the site's nginx looks."""
    root = Path("/srv") / site["app"]
    (root / "static").mkdir(exist_ok=True)
    (root / "static/site.css").write_text("a {}")
    (root / "current").unlink(missing_ok=True)
    (root / "current").symlink_to(root)
    path = Path(f"/run/{site['app']}-headers.sock")
    server = Server(str(path), App)
    path.chmod(0o666)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point(site, path)


def point(site, path):
    for link in ("upstream.sock", "flower.sock"):
        link = Path("/srv") / site["app"] / link
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def connect(site, port, *protocols, name=None):
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    if port != site["https_port"]:
        return plain
    context = trusting()
    context.set_alpn_protocols(protocols or ["http/1.1"])
    return context.wrap_socket(plain, server_hostname=name or site["name"])


def answered(response):
    headers = [[name.lower(), value] for name, value in response.getheaders()]
    response.read()
    return {"status": response.status, "headers": headers}


def ask(site, method, target, headers=None, body=None, port=None):
    """Put a well-formed question, by default over TLS."""
    connection = http.client.HTTPConnection(site["name"])
    connection.sock = connect(site, port or site["https_port"])
    try:
        connection.request(method, target, body, {"Host": site["name"], **(headers or {})})
        return answered(connection.getresponse())
    finally:
        connection.close()


def say(site, words, port=None, tls=True):
    """Send what no client library would, and read what comes back."""
    port = port or site["https_port"]
    with connect(site, port) if tls else socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(words)
        response = http.client.HTTPResponse(connection, method="GET")
        response.begin()
        return answered(response)


def from_the_app(site):
    found = {}
    for status in STATUSES:
        found[f"app {status}"] = ask(site, "GET", f"/{status}")
        found[f"own {status}"] = ask(site, "GET", f"/own/{status}")
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        found[f"app {method}"] = ask(site, method, "/200", body=b"x" if method == "POST" else None)
    found["app readyz"] = ask(site, "GET", f"{site['prefix']}/readyz")
    found["static of the app"] = ask(site, "GET", "/static/nowhere.css")
    return found


def from_files(site):
    found = {"static": ask(site, "GET", "/static/site.css")}
    tag = dict(map(tuple, found["static"]["headers"]))["etag"]
    for name, headers in {
        "304": {"If-None-Match": tag}, "206": {"Range": "bytes=0-1"}, "416": {"Range": "bytes=99-"},
        "412": {"If-Match": '"x"'},
    }.items():  # fmt: skip
        found[f"static {name}"] = ask(site, "GET", "/static/site.css", headers)
    return found | {"static 405": ask(site, "POST", "/static/site.css", body=b"x")}


def from_nginx(site):
    """Ask for what nginx refuses by itself."""
    host = f"Host: {site['name']}\r\n".encode()
    found = {}
    for who, own in {"browser": BROWSER, "program": {}}.items():
        found[f"413 {who}"] = ask(site, "POST", "/", {**own, **MUCH})
        found[f"400 header {who}"] = ask(site, "GET", "/", {**own, "X-Wide": "x" * 9000})
        found[f"414 {who}"] = ask(site, "GET", "/" + "x" * 9000, own)
    for where, port in (("tls", site["https_port"]), ("plain", site["http_port"])):
        found[f"400 line {where}"] = say(site, b"GET / HTTP/1.1 x\r\n" + host + b"\r\n", port)
        found[f"400 host {where}"] = say(site, b"GET / HTTP/1.1\r\n\r\n", port)
        found[f"400 path {where}"] = say(site, b"GET /../.. HTTP/1.1\r\n" + host + b"\r\n", port)
        found[f"505 {where}"] = say(site, b"GET / HTTP/3.1\r\n" + host + b"\r\n", port)
        coded = host + b"Transfer-Encoding: gzip\r\n\r\n"
        found[f"501 {where}"] = say(site, b"POST / HTTP/1.1\r\n" + coded, port)
        found[f"405 {where}"] = say(site, b"TRACE / HTTP/1.1\r\n" + host + b"\r\n", port)
    found["421"] = ask(site, "GET", "/", {"Host": "other.example.org"})
    found["400 no tls"] = say(site, b"GET / HTTP/1.1\r\n" + host + b"\r\n", tls=False)
    return found


def without_tls(site):
    found = {"308": ask(site, "GET", "/page?a=1", port=site["http_port"])}
    for page in ("readyz", "livez"):
        target = f"{site['prefix']}/{page}?own"
        found[f"plain {page}"] = ask(site, "GET", target, port=site["http_port"])
        if site["health_port"]:
            found[f"health {page}"] = ask(site, "GET", f"/{page}?own", port=site["health_port"])
    if site["health_port"]:
        found["health 404"] = ask(site, "GET", "/", port=site["health_port"])
    return found


def from_flower(site):
    if not site["authorize"]:
        return {}
    admin = {"Cookie": "as=admin"}
    return {
        "flower": ask(site, "GET", "/flower/", admin),
        "flower rows": ask(site, "POST", "/flower/tasks/datatable", admin, b"x"),
        "flower 403": ask(site, "GET", "/flower/", {"Cookie": "as=viewer"}),
        "flower 403 method": ask(site, "POST", "/flower/", admin, b"x"),
        "flower sign in": ask(site, "GET", "/flower/"),
        "flower 401": ask(site, "POST", "/flower/tasks/datatable", {}, b"x"),
        "flower question": ask(site, "GET", "/flower/-/authorize", admin),
    }


def of_its_status(site):
    if not site["status"]:
        return {}
    folder = Path(f"/run/{site['app']}/status")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("public.html", "public.json"):
        (folder / name).write_text(name)
    return {f"status page{end}": ask(site, "GET", site["status"] + end) for end in ("", ".json")}


def in_maintenance(site):
    with closed(site):
        paths = {"page": "/200", "static": "/static/site.css", "flower": "/flower/"}
        return {
            f"maintenance {name} {who}": ask(site, "GET", path, own)
            for name, path in paths.items()
            for who, own in {"browser": BROWSER, "program": {}}.items()
        }


def when_it_fails(site):
    """Ask of an app that is slow, also two things at once, then of one that is away, then too often."""
    found = {}
    waiting = threading.Thread(target=ask, args=(site, "GET", "/slow"))
    waiting.start()
    time.sleep(0.3)
    for who, own in {"browser": BROWSER, "program": {}}.items():
        found[f"429 at once {who}"] = ask(site, "GET", "/", own)
    waiting.join()
    for who, own in {"browser": BROWSER, "program": {}}.items():
        found[f"504 {who}"] = ask(site, "GET", "/slow", own)
    point(site, Path("/run/nowhere.sock"))
    for who, own in {"browser": BROWSER, "program": {}}.items():
        found[f"502 {who}"] = ask(site, "GET", "/", own)
        found[f"502 plain {who}"] = ask(site, "GET", f"{site['prefix']}/readyz", own, port=site["http_port"])
        found[f"502 {who} static"] = ask(site, "GET", "/static/nowhere", own)
    for _ in range(20):
        ask(site, "GET", "/")
    for who, own in {"browser": BROWSER, "program": {}}.items():
        found[f"429 {who}"] = ask(site, "GET", "/", own)
    return found


def main(sites):
    for site in sites:
        lay_out(site)
    told = {site["app"]: {} for site in sites}
    looks = (from_the_app, from_files, from_nginx, without_tls, from_flower, of_its_status, in_maintenance)
    with nginx(COPY, sites):
        for site in sites:
            for look in looks:
                told[site["app"]] |= look(site)
    patience = (r"proxy_read_timeout \S+;", "proxy_read_timeout 2s;"), (r"(limit_conn \S+) \d+;", r"\1 1;")
    often = (r"rate=\d+r/s", "rate=1r/m"), (r"burst=\d+", "burst=19")
    with nginx(COPY, sites, *often, *patience):
        for site in sites:
            told[site["app"]] |= when_it_fails(site)
    for site in sites:
        (Path("/srv") / site["app"] / "current").unlink()
    print(json.dumps(told))


main(json.loads(sys.argv[1]))
