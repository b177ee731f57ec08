"""Run inside a sandbox: what each site's nginx says when the app does not answer, or is not to be asked.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints answers by site, by question, and logs.
nginx runs on copies of its tree, so that a limit can be met within a test, and once without the problem
documents.
"""

import http.client
import http.server
import json
import re
import socket
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from standing import Quiet, Server, nginx, trusting

COPY, LOGS = Path("/run/nginx-problems"), Path("/var/log/nginx")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
WHO = {"program": {"Accept": "*/*"}, "reader": {"Accept": "application/json"}, "silent": {}}
WHO |= {"browser": {"Accept": BROWSER, "User-Agent": "Mozilla/5.0 Chrome/131"}}
TOO_MUCH = {"Content-Length": str(10 * 1024 * 1024 + 1)}

# By name: method, target, headers, body. The app is away.
AWAY = {
    "away": ("GET", "/orders.html?token=not-to-be-logged", {}, None),
    "away post": ("POST", "/orders?token=not-to-be-logged", {}, b"x"),
    "away head": ("HEAD", "/orders", {}, None),
    "away static": ("GET", "/static/nowhere.css", {}, None),
    "too much": ("POST", "/upload?token=not-to-be-logged", TOO_MUCH, None),
    "too many headers": ("GET", "/wide", {"X-Wide": "x" * 9000}, None),
    "too long": ("GET", "/" + "x" * 9000, {}, None),
    "no path": ("GET", "/../../x", {}, None),
    "no question": ("POST", "/flower/tasks/datatable", {}, b"x"),
    "flower": ("GET", "/flower/", {}, None),
}
OWN = (400, 404, 413, 429, 500, 502, 503, 504)
PATHS = ("/@problem", "/problem", "/problems.conf", "/502")


class App(Quiet):
    """Answers with the error it is asked for, and `/slow` never in time."""

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        status = int(self.path.rpartition("own/")[2]) if "own/" in self.path else 200
        body = f"the app's own {self.path}".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/x-own")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "77")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def apps(sites):
    """Let an app listen where each site's nginx looks."""
    made = []
    for site in sites:
        path, link = Path(f"/run/{site['app']}-problems.sock"), Path(f"/srv/{site['app']}/upstream.sock")
        server = Server(str(path), App)
        path.chmod(0o666)
        link.symlink_to(path)
        made += [path, link]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    for path in made:
        path.unlink()


def secured(site, *protocols):
    """Return a connection to a site, its name in the handshake."""
    context = trusting()
    context.set_alpn_protocols(protocols or ["http/1.1"])
    plain = socket.create_connection(("127.0.0.1", site["https_port"]), timeout=10)
    return context.wrap_socket(plain, server_hostname=site["name"])


def ask(site, method, target, headers, body=None):
    """Return status, headers and text of one answer: over TLS, unless the site has a plain port."""
    connection = http.client.HTTPConnection(site["name"])
    plain = site.get("plain_port")
    connection.sock = socket.create_connection(("127.0.0.1", plain), 10) if plain else secured(site)
    try:
        chunked = hasattr(body, "__next__")
        sent = {"Host": site["name"], **headers, **({"Transfer-Encoding": "chunked"} if chunked else {})}
        connection.request(method, target, body, sent, encode_chunked=chunked)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return {"status": response.status, "headers": found, "text": response.read().decode("latin-1")}
    finally:
        connection.close()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def ask_http2(site, headers):
    """Announce a body over HTTP/2, in literal headers (RFC 7541); return status and text of the answer."""
    named = {":method": "POST", ":scheme": "https", ":path": "/upload", ":authority": site["name"], **headers}
    fields = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    block = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)
    with secured(site, "h2") as connection, connection.makefile("rb") as reader:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block))
        status, text, ended = 0, b"", False
        while not ended:
            head = reader.read(9)
            payload = reader.read(int.from_bytes(head[:3], "big"))
            if head[3] == 1:
                status = int(re.search(rb"[\x08\x48]\x03(\d{3})", payload)[1])
            text += payload if head[3] == 0 else b""
            ended = head[3] in (0, 1) and head[4] & 1 == 1
    return {"status": status, "text": text.decode()}


def everybody(site, name, method, target, headers, body):
    """Put one question in everybody's name."""
    return {f"{who} {name}": ask(site, method, target, {**own, **headers}, body) for who, own in WHO.items()}


def away(site):
    """Ask what nginx alone answers."""
    found = {}
    for name, question in AWAY.items():
        if site["authorize"] or name not in ("no question", "flower"):
            found |= everybody(site, name, *question)
    for who, own in WHO.items():
        body = iter([b"x" * 65536] * 161)
        found[f"{who} too many chunks"] = ask(site, "POST", "/upload", own, body)
        found[f"{who} http2"] = ask_http2(site, {**own, **TOO_MUCH})
    plain = {**site, "plain_port": site["http_port"]}
    return found | everybody(plain, "plain readyz", "GET", f"{site['prefix']}/readyz", {}, None)


def limited(site):
    """Ask more often than the copy allows."""
    found = everybody(site, "unready", "GET", "/unready", {}, None)
    found |= everybody(site, "late", "GET", "/slow", {}, None)
    for _ in range(9):
        ask(site, "GET", "/", {})
    found |= everybody(site, "too often", "GET", "/", {}, None)
    return found | everybody(site, "too often head", "HEAD", "/", {}, None)


def there(site):
    """Ask what the app answers."""
    found = {}
    for status in OWN:
        found |= everybody(site, f"own {status}", "GET", f"/own/{status}", {}, None)
    return found | {path: ask(site, "GET", path, {}) for path in PATHS}


def main(sites):
    for link in [Path(f"/srv/{site['app']}/upstream.sock") for site in sites]:
        link.unlink(missing_ok=True)
    told = {site["app"]: {} for site in sites}

    def keep(key, questions):
        for site in sites:
            told[site["app"]][key] = questions(site)

    with nginx(COPY, sites, (r"include snippets/problems\.conf;", "")):
        keep("before", away)
    for log in LOGS.glob("*.log"):
        log.write_text("")
    with nginx(COPY, sites):
        keep("away", away)
        with apps(sites):
            keep("there", there)
    often = (r"rate=\d+r/s", "rate=1r/m"), (r"burst=\d+", "burst=9")
    patience = (r"proxy_read_timeout \S+;", "proxy_read_timeout 1s;")
    unready = (r"(    location / \{)", r"    location = /unready { return 503; }\n\1")
    with nginx(COPY, sites, *often, patience, unready), apps(sites):
        keep("limited", limited)
    for site in sites:
        told[site["app"]]["log"] = (LOGS / f"{site['app']}.access.log").read_text()
    everything = "".join(log.read_text(errors="replace") for log in LOGS.glob("*.log"))
    print(json.dumps({"sites": told, "everything": everything}))


main(json.loads(sys.argv[1]))
