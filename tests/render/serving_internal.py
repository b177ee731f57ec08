"""Run inside a sandbox: internal pages, asked of each site's public listeners in every spelling.

`python3 -c <this file> <JSON>`: the JSON holds sites, pages, ways to write one, methods, headers that claim
to be inside, and the marks by which an internal page is known; prints how many were asked, those that showed
a mark, and what the internal listener shows.
"""

import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from standing import Quiet, Server, trusting

CONTEXT = trusting()
# nginx closes a connection after a thousand.
AT_MOST = 500


class App(Quiet):
    """Shows what flask_ops shows: internal pages to whom nginx says to be inside, and to nobody else."""

    protocol_version = "HTTP/1.1"
    # Counted at the app: what nginx answers by itself proves nothing about the headers it would pass on.
    reached = 0

    def do_GET(self):
        App.reached += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        inside = any(name.lower().replace("_", "-") == "x-ops-internal" for name in self.headers)
        body = b"an internal page" if inside else b"a page"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_GET


def serve(site):
    root, path = Path("/srv") / site["app"], Path(f"/run/{site['app']}-internal.sock")
    server = Server(str(path), App)
    path.chmod(0o666)
    for link in ("upstream.sock", "flower.sock"):
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(path)
    (root / "releasectl.prom").write_text("releasectl_deploys 1\n")
    status = Path(f"/run/{site['app']}/status")
    status.mkdir(parents=True, exist_ok=True)
    for kind in ("html", "json"):
        (status / f"index.{kind}").write_text("who deployed")
        (status / f"public.{kind}").write_text("up")
    threading.Thread(target=server.serve_forever, daemon=True).start()


def connect(site, port, protocol="http/1.1"):
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    if port != site["https_port"]:
        return plain
    CONTEXT.set_alpn_protocols([protocol])
    return CONTEXT.wrap_socket(plain, server_hostname=site["name"])


class Version1:
    """Asks one after the other, on one connection while it lasts."""

    def __init__(self, site, port, version):
        self.site, self.port, self.version = site, port, version
        self.connection = None

    def ask(self, method, target, headers):
        """Return all that comes back."""
        lines = [
            f"{method} {target} HTTP/{self.version}",
            f"Host: {self.site['name']}",
            "Connection: keep-alive",
        ]
        words = "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")
        self.connection = self.connection or connect(self.site, self.port)
        self.connection.sendall(words)
        response = http.client.HTTPResponse(self.connection, method=method)
        try:
            response.begin()
            said = response.read()
            closed = response.will_close
        except (http.client.HTTPException, OSError):
            # Closed without a word, or with a page and no header.
            said, closed = b"", True
        if closed:
            self.connection.close()
            self.connection = None
        return str(response.headers).encode() + said


class Version2:
    """Asks in one stream after the other, all headers literal (RFC 7541, 6.2.2)."""

    def __init__(self, site, port):
        self.site, self.port = site, port
        self.connection = None

    def frame(self, kind, flags, stream, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.connection.sendall(head + payload)

    def begin(self):
        self.connection = connect(self.site, self.port, "h2")
        self.reader, self.stream = self.connection.makefile("rb"), -1
        self.connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(4, 0, 0)
        self.frame(8, 0, 0, (2**30).to_bytes(4, "big"))

    def end(self):
        self.reader.close()
        self.connection.close()
        self.connection = None

    def ask(self, method, target, headers):
        """Return the body that comes back."""
        if self.connection is None:
            self.begin()
        self.stream += 2
        named = [
            (":method", method),
            (":scheme", "https"),
            (":path", target),
            (":authority", self.site["name"]),
        ]
        named += [tuple(line.split(": ", 1)) for line in headers]
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named]
        block = b"".join(b"\0" + length(n) + n + length(v) + v for n, v in fields)
        said, ended = b"", False
        try:
            self.frame(1, 5, self.stream, block)
            while not ended:
                head = self.reader.read(9)
                if len(head) < 9:
                    raise OSError("closed")
                payload = self.reader.read(int.from_bytes(head[:3], "big"))
                if head[3] == 7:
                    raise OSError("sent away")
                if head[3] == 0:
                    said += payload
                own = int.from_bytes(head[5:9], "big") == self.stream
                ended = own and (head[3] == 3 or (head[3] in (0, 1) and head[4] & 1 == 1))
        except OSError:
            self.end()
            return said
        if self.stream > 2 * AT_MOST:
            self.end()
        return said


def length(value):
    """Return a length as HPACK writes it, in seven bits and as many more as it takes."""
    if len(value) < 127:
        return bytes([len(value)])
    rest = len(value) - 127
    return bytes([127, rest]) if rest < 128 else bytes([127, rest % 128 + 128, rest // 128])


def asked(site, told, clients, methods):
    """Put everything to some clients; return how many questions there were, and those that showed a mark."""
    shown, number = [], 0
    claims = told["claims"]
    for name, client in clients.items():
        for page in told["pages"]:
            for way in told["ways"]:
                target = way.replace("PAGE", page.lstrip("/")).replace(
                    "FIRST", f"%{ord(page[1]):02x}{page[2:]}"
                )
                target = target.replace("CODED", "".join(f"%{ord(c):02X}" for c in page[1:]))
                target = target.replace("UPPER", page[1:].upper()).replace("SITE", site["name"])
                for method in methods:
                    # Each claim in turn; all methods and addresses meet several of them.
                    said = client.ask(method, target, claims[number % len(claims)])
                    number += 1
                    if any(mark.encode() in said for mark in told["marks"]):
                        shown.append([name, method, target, said.decode(errors="replace")[:200]])
    return number, shown


def inside(site, pages):
    client = Version1(site, 9180, "1.1")
    return {page: client.ask("GET", page, []).decode() for page in pages}


def main(told):
    for site in told["sites"]:
        serve(site)
    subprocess.run(["nginx"], check=True)
    found = {}
    try:
        for site in told["sites"]:
            secure = site["https_port"]
            clients = {f"HTTP/{version}": Version1(site, secure, version) for version in ("1.0", "1.1")}
            before = App.reached
            number, shown = asked(site, told, clients | {"HTTP/2": Version2(site, secure)}, told["methods"])
            plain = {"without TLS": Version1(site, site["http_port"], "1.1")}
            more, also = asked(site, told, plain, ["GET", "POST"])
            pages = [page for page in told["pages"] if not page.startswith("/-")]
            found[site["app"]] = {
                "asked": number + more,
                "shown": shown + also,
                "reached": App.reached - before,
                "inside": inside(site, pages),
            }
        print(json.dumps(found))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)


main(json.loads(sys.argv[1]))
