"""Run inside a sandbox: which of two releases each of many clients gets, while links move.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints by site which release answered which
client at each stage, what else was asked, and what a hammering of all of them lost. nginx is not reloaded.
"""

import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import standing
from standing import Quiet, nginx_workers, point, trusting

CLIENTS = 160
OLD, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb"
HASHED = "/static/new.3f2a1b0c9d8e.css"
# Made once, and of nobody's certificates: it is who answers that is looked at.
CONTEXT = trusting()
HAMMER_SECONDS = 4


class App(Quiet):
    """Answers with its release; while it drains, it ends each connection, as gunicorn does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"{self.server.release} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.draining:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


class Server(standing.Server):
    request_queue_size = 256
    draining = False


class Site:
    """One site: two releases, the old one active, and clients each with an address or a cookie of its own."""

    def __init__(self, told):
        self.told, self.root = told, Path("/srv") / told["app"]
        self.servers, self.sockets, self.connections = {}, {}, {}
        for release in (OLD, NEW):
            path = Path(f"/run/{told['app']}-{release}.sock")
            server = Server(str(path), App)
            server.release = release
            path.chmod(0o666)
            self.servers[release], self.sockets[release] = server, path
            static = self.root / "releases" / release / "static"
            static.mkdir(parents=True, exist_ok=True)
            (static / "site.css").write_text(release)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        (self.root / "releases" / NEW / HASHED.lstrip("/")).write_text(NEW)
        point(self.root / "upstream.sock", self.sockets[OLD])
        point(self.root / "current", Path("releases") / OLD)

    def share(self, percent):
        """Give clients the new release as releasectl does."""
        folder = self.root / "canary.d" / f"{percent}-{NEW}"
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(1, percent // 5 + 1):
            (folder / f"{slot:02}").touch()
        point(folder / "release", Path("../../releases") / NEW)
        self.servers[NEW].draining = False
        point(self.root / "canary.sock", self.sockets[NEW])
        point(self.root / "canary", folder.relative_to(self.root))

    def withdraw(self, *, tidy=True):
        point(self.root / "canary.sock", "upstream.sock")
        self.servers[NEW].draining = True
        if tidy:
            (self.root / "canary").unlink()

    def switch(self, release):
        """Let the active release be another one."""
        point(self.root / "upstream.sock", self.sockets[release])
        self.servers[release].draining = False
        self.servers[OLD if release == NEW else NEW].draining = True

    def connect(self, number):
        source = f"127.1.{number // 200}.{number % 200 + 1}" if self.told["by_address"] else "127.0.0.1"
        plain = socket.create_connection(("127.0.0.1", self.told["https_port"]), 10, (source, 0))
        connection = http.client.HTTPConnection(self.told["name"])
        connection.sock = CONTEXT.wrap_socket(plain, server_hostname=self.told["name"])
        return connection

    def put(self, connection, number, target="/page", method="GET"):
        headers = {"Host": self.told["name"], "Cookie": f"session=s{number}"}
        while True:
            connection.request(method, target, b"a=1" if method == "POST" else None, headers)
            response = connection.getresponse()
            status, text = response.status, response.read().decode()
            # All clients of one address, told apart by their cookies, are faster than one client may be.
            if status != 429:
                return status, text
            time.sleep(0.05)

    def ask(self, number, *words):
        """Ask on the client's own connection, kept from one stage to the next."""
        connection = self.connections.pop(number, None) or self.connect(number)
        answer = self.put(connection, number, *words)
        if connection.sock is not None:
            self.connections[number] = connection
        return answer

    def everybody(self, *words):
        """Return what each client is answered."""
        return [self.ask(number, *words) for number in range(CLIENTS)]


def plain(site, target):
    """Ask for health over the plain port."""
    connection = http.client.HTTPConnection("127.0.0.1", site.told["http_port"], timeout=10)
    connection.request("GET", f"{site.told['prefix']}{target}", headers={"Host": site.told["name"]})
    return connection.getresponse().read().decode()


def story(site):
    """Give, raise, lower, withdraw and promote; return who got what."""
    told = {"before": site.everybody()}
    site.share(25)
    told["quarter"], told["quarter by post"] = site.everybody(), site.everybody("/page", "POST")
    told["encoded"] = site.everybody("/a%20b//c?d=e%2Ff")
    told["files"], told["hashed"] = site.everybody("/static/site.css"), site.everybody(HASHED)
    told["readyz"] = plain(site, "/readyz")
    site.share(50)
    told["half"] = site.everybody()
    site.share(25)
    told["quarter again"] = site.everybody()
    site.withdraw(tidy=False)
    # nginx's kept connections end with one more answer each; whoever asked this time sees no difference.
    site.everybody()
    told["turned"] = site.everybody()
    site.withdraw()
    told["withdrawn"] = site.everybody()
    site.share(25)
    site.switch(NEW)
    site.everybody()
    told["promoted"] = site.everybody()
    site.withdraw()
    site.servers[NEW].draining = False
    told["after"] = site.everybody()
    site.switch(OLD)
    return told


def hammered(site):
    """Give, raise, withdraw and promote over and over while clients ask; return what was lost."""
    lost, counts, going = [], {}, threading.Event()

    def visit(number):
        connection = None
        while not going.wait(0.01):
            try:
                connection = connection or site.connect(number)
                status, text = site.put(connection, number, "/page", "POST" if number % 2 else "GET")
            except (OSError, http.client.HTTPException) as error:
                lost.append(f"{number}: {type(error).__name__} {error}")
                connection = None
                continue
            if status == 200:
                counts[text.split()[0]] = counts.get(text.split()[0], 0) + 1
            else:
                lost.append(f"{number}: {status} {text[:80]}")

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    end, turns = time.monotonic() + HAMMER_SECONDS, 0
    while time.monotonic() < end:
        for act in (
            lambda: site.share(25), lambda: site.share(75), lambda: site.withdraw(tidy=False), site.withdraw,
            lambda: site.share(50), lambda: site.switch(NEW), site.withdraw, lambda: site.switch(OLD),
        ):  # fmt: skip
            act()
            time.sleep(0.01)
        turns += 1
    going.set()
    for thread in threads:
        thread.join(20)
    return {"lost": lost[:20], "counts": counts, "turns": turns}


def main(sites):
    os.umask(0o022)
    made = [Site(told) for told in sites]
    subprocess.run(["nginx"], check=True)
    try:
        before = nginx_workers()
        told = {site.told["app"]: {"story": story(site), "hammered": hammered(site)} for site in made}
        print(json.dumps({"sites": told, "workers": [before, nginx_workers()]}))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)
        for site in made:
            for name in ("current", "upstream.sock", "canary.sock"):
                (site.root / name).unlink()


main(json.loads(sys.argv[1]))
