"""Run inside a sandbox: a small app on each site's socket, nginx before it, and what clients are answered.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints answers by site, by question.
It stands for gunicorn alone: what is looked at is what nginx makes of requests and answers.
"""

import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

from standing import Quiet, Server, trusting

STREAMS = {
    "/events": {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"},
    "/lines": {"Content-Type": "text/plain", "X-Accel-Buffering": "no"},
}


ARRIVED = threading.Event()


# What the app says to nginx's question whether somebody may see Flower.
WHO = {"as=admin": 204, "as=viewer": 403}


class App(Quiet):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == self.server.authorize:
            return self.send(WHO.get(self.headers.get("Cookie"), 401), b"")
        if path in STREAMS:
            return self.stream(STREAMS[path])
        if path == "/redirect":
            return self.send(302, b"", Location=f"http://{self.server.site}/elsewhere")
        if path == "/text":
            return self.send(200, b"a line of text\n" * 300, **{"Content-Type": "text/plain"})
        length = int(self.headers.get("Content-Length") or 0)
        asked = {"path": self.path, "length": len(self.rfile.read(length))}
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({**asked, "headers": headers}).encode()
        return self.send(200, body, **{"Content-Type": "application/json", "X-Release": "r1"})

    do_POST = do_HEAD = do_GET

    def send(self, status, body, **headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, headers):
        """Send two events, the second when the first has arrived."""
        self.send_response(200)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            ARRIVED.wait(5)
        self.wfile.write(b"0\r\n\r\n")


def serve(site, link="upstream.sock"):
    """Listen where the site's nginx looks."""
    path = Path(f"/run/{site['app']}.{link}")
    server = Server(str(path), App)
    server.site, server.authorize = site["app"], site["authorize"] if link == "upstream.sock" else None
    path.chmod(0o666)
    Path(f"/srv/{site['app']}/{link}").symlink_to(path)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def first_event(response):
    """Read until the first event is there, and let the app go on; return what was there by then."""
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    packed, text = response.getheader("Content-Encoding") == "gzip", b""
    while not text.endswith(b"\n\n") and (piece := response.read1(65536)):
        text += reader.decompress(piece) if packed else piece
    ARRIVED.set()
    return text.decode()


def ask(port, target, host, *, tls=False, method="GET", body=None, headers=None, address="127.0.0.1"):
    """Return status, headers and text of one answer, or why there was none."""
    if tls:
        context = trusting()
        connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
        # The name is in the handshake, the address is this host's.
        connection._create_connection = lambda _named, *rest: socket.create_connection((address, port), *rest)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        chunked = {"encode_chunked": True} if hasattr(body, "__next__") else {}
        sent = {"Host": host, **({"Transfer-Encoding": "chunked"} if chunked else {}), **(headers or {})}
        ARRIVED.clear()
        connection.request(method, target, body=body, headers=sent, **chunked)
        response = connection.getresponse()
        answer = {"status": response.status, "headers": {k.lower(): v for k, v in response.getheaders()}}
        first = first_event(response) if target in STREAMS else ""
        return {**answer, "first": first, "text": response.read().decode("latin-1")}
    except (OSError, http.client.HTTPException) as error:
        return {"status": None, "text": type(error).__name__, "headers": {}}
    finally:
        connection.close()


def answers(site):
    """Ask one site everything."""
    name, plain, secure, health = site["name"], site["http_port"], site["https_port"], site["health_port"]
    prefix = site["prefix"]
    pages = ["livez", "readyz", "startupz", "version", "metrics"]
    found = {f"plain {page}": ask(plain, f"{prefix}/{page}?q=1", name) for page in pages}
    found |= {f"public {page}": ask(secure, f"{prefix}/{page}", name, tls=True) for page in pages}
    found |= {f"internal {page}": ask(9180, f"/{page}?q=1", name) for page in pages}
    for host in ("10.0.0.7", "other.example.org", name) if health else ():
        found |= {f"health {page} {host}": ask(health, f"/{page}", host) for page in [*pages, "", "text"]}
    if health and site["ipv6"]:
        found["health by ipv6"] = ask(health, "/readyz", "[::1]", address="::1")
    claims = {"X-Ops-Internal": "1", "X-Forwarded-For": "192.0.2.66"}
    found["plain claims"] = ask(plain, f"{prefix}/readyz", name, headers=claims)
    found["health claims"] = ask(health, "/readyz", name, headers=claims) if health else None
    found["plain page"] = ask(plain, "/text?a=1", name, method="POST", body=b"x")
    found["plain stranger"] = ask(plain, f"{prefix}/readyz", "other.example.org")
    found["redirect"] = ask(secure, "/redirect", name, tls=True)
    found["text"] = ask(secure, "/text", name, tls=True)
    found["compressed"] = ask(secure, "/text", name, tls=True, headers={"Accept-Encoding": "gzip"})
    for path in STREAMS:
        found[path] = ask(secure, path, name, tls=True, headers={"Accept-Encoding": "gzip"})
    megabyte = iter([b"x" * 65536] * 16)
    found["chunked upload"] = ask(secure, "/upload", name, tls=True, method="POST", body=megabyte)
    return found


def flower(site):
    """Ask a site's Flower as several people, and with what could change something."""
    name, port = site["name"], site["https_port"]
    found = {}
    for who in ("admin", "viewer", "nobody"):
        cookie = {} if who == "nobody" else {"Cookie": f"as={who}"}
        for method, page in (
            ("GET", ""), ("HEAD", "tasks"), ("POST", "api/worker/shutdown/x"), ("DELETE", ""),
            ("POST", "tasks/datatable"), ("GET", "-/authorize"), ("OPTIONS", ""),
        ):  # fmt: skip
            # A body that the question to the app must not take along.
            body = b"x" * 9 if method in ("POST", "GET") else None
            answer = ask(port, f"/flower/{page}", name, tls=True, method=method, body=body, headers=cookie)
            found[f"{who} {method} {page}"] = answer
    return found


def main(sites):
    for site in sites:
        serve(site)
        if site["authorize"]:
            serve(site, "flower.sock")
    subprocess.run(["nginx"], check=True)
    try:
        told = {site["app"]: answers(site) for site in sites}
        for site in sites:
            told[site["app"]]["flower"] = flower(site)
        print(json.dumps(told))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)


main(json.loads(sys.argv[1]))
