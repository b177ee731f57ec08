"""Run inside a sandbox: what each site's nginx answers before, in and after maintenance, never reloaded.

`python3 -c <this file> <JSON>`: the JSON holds sites, and two closures as releasectl writes them (name of the
folder, files); prints answers by site, by occasion, by question, and nginx's workers before and after.
"""

import http.client
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from standing import Quiet, Server, nginx_workers, trusting

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
WHO = {"browser": {"Accept": BROWSER}, "program": {"Accept": "*/*"}, "silent": {}}
TOO_MUCH = {"Content-Length": str(11 * 1024 * 1024)}
# By name: method, target, headers, body.
PUBLIC = {
    "page": ("GET", "/orders?token=x", {}, None),
    "post": ("POST", "/orders", {}, b"a=1"),
    "put": ("PUT", "/orders/1", {}, b"a=1"),
    "head": ("HEAD", "/orders", {}, None),
    "too much": ("POST", "/upload", TOO_MUCH, None),
    "static": ("GET", "/static/site.css", {}, None),
    "static of the app": ("GET", "/static/nowhere.css", {}, None),
    "flower": ("GET", "/flower/", {}, None),
    "metrics": ("GET", "/metrics", {}, None),
    "reason": ("GET", "/maintenance/reason.html", {}, None),
    "reason by two slashes": ("GET", "//maintenance/reason.html", {}, None),
    "reason by encoded slashes": ("GET", "/%2Fmaintenance/reason.json", {}, None),
    "health with more": ("GET", "/livez/more", {}, None),
}
PAGES = ("livez", "readyz", "startupz", "version")
# Made once, and of nobody's certificates: it is who answers that is looked at.
CONTEXT = trusting()
HAMMER_SECONDS = 3


class App(Quiet):
    """Answers everything with its path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"the app's {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_HEAD = do_GET


def lay_out(site):
    """Let an app listen where the site's nginx looks, and put a static file beside it."""
    root, path = Path("/srv") / site["app"], Path(f"/run/{site['app']}-maintenance.sock")
    server = Server(str(path), App)
    path.chmod(0o666)
    for link in ("upstream.sock", "flower.sock"):
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(path)
    (root / "current").unlink(missing_ok=True)
    (root / "static").mkdir(exist_ok=True)
    (root / "static/site.css").write_text("a file")
    (root / "current").symlink_to(root)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def point(site, closure):
    """Close the site as releasectl does."""
    root = Path("/srv") / site["app"]
    folder = root / "maintenance.d" / closure["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in closure["files"].items():
        (folder / name).write_text(text)
    fresh = root / ".maintenance.new"
    fresh.symlink_to(folder.relative_to(root))
    fresh.replace(root / "maintenance")


def release(site, *, all_of_it=True):
    root = Path("/srv") / site["app"]
    (root / "maintenance").unlink()
    if all_of_it:
        shutil.rmtree(root / "maintenance.d")


def connect(site, port, source="127.0.0.1"):
    """Return a connection, over TLS to the TLS port."""
    connection = http.client.HTTPConnection(site["name"], timeout=30)
    connection.sock = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
    if port == site["https_port"]:
        connection.sock = CONTEXT.wrap_socket(connection.sock, server_hostname=site["name"])
    return connection


def put(connection, site, method, target, headers=None, body=None):
    connection.request(method, target, body, {"Host": site["name"], **(headers or {})})
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return {"status": response.status, "headers": found, "text": response.read().decode()}


def ask(site, port, *question, source="127.0.0.1"):
    connection = connect(site, port, source)
    try:
        return put(connection, site, *question)
    finally:
        connection.close()


def everything(site):
    """Ask a site all that a client could."""
    secure, plain, found = site["https_port"], site["http_port"], {}
    for name, (method, target, headers, body) in PUBLIC.items():
        for who, own in WHO.items():
            found[f"{who} {name}"] = ask(site, secure, method, target, {**own, **headers}, body)
    for source in ("127.0.0.2", "127.0.1.77", "127.0.2.1"):
        for name in ("page", "static", "flower"):
            method, target, headers, body = PUBLIC[name]
            found[f"{source} {name}"] = ask(site, secure, method, target, headers, body, source=source)
    forged = {"X-Forwarded-For": "127.0.0.2", "X-Real-IP": "127.0.0.2"}
    found["forged page"] = ask(site, secure, "GET", "/orders", forged)
    for page in PAGES:
        for where, port in (("public", secure), ("plain", plain)):
            found[f"{where} {page}"] = ask(site, port, "GET", f"{site['prefix']}/{page}")
        found[f"internal {page}"] = ask(site, 9180, "GET", f"/{page}")
    for page in ("livez", "readyz") if site["health_port"] else ():
        found[f"health {page}"] = ask(site, site["health_port"], "GET", f"/{page}")
    found["plain page"] = ask(site, plain, "GET", "/orders")
    return found


def hammered(site, closure):
    """Close and open a site many times a second while four clients ask; count the answers."""
    seen, going = {}, threading.Event()

    def visit(number):
        connection = connect(site, site["https_port"])
        own = list(WHO.values())[number % 2]
        while not going.is_set():
            answer = put(connection, site, "POST" if number > 1 else "GET", "/orders", own, b"a=1")
            text = answer["text"].replace(answer["headers"].get("x-request-id", "-"), "ID")
            key = json.dumps([answer["status"], answer["headers"].get("retry-after"), text])
            seen[key] = seen.get(key, 0) + 1

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    end, turns = time.monotonic() + HAMMER_SECONDS, 0
    while time.monotonic() < end:
        point(site, closure)
        time.sleep(0.002)
        release(site, all_of_it=turns % 2 == 0)
        time.sleep(0.002)
        turns += 1
    going.set()
    for thread in threads:
        thread.join(20)
    return {"answers": seen, "turns": turns, "stuck": sum(thread.is_alive() for thread in threads)}


def main(told):
    sites, (first, second) = told["sites"], told["closures"]
    # Root's shell may be set to anything; nginx's workers read what releasectl wrote with this.
    os.umask(0o022)
    for site in sites:
        lay_out(site)
    answers = {site["app"]: {} for site in sites}

    def keep(occasion, look):
        for site in sites:
            answers[site["app"]][occasion] = look(site)

    subprocess.run(["nginx"], check=True)
    try:
        before = nginx_workers()
        keep("before", everything)
        for site in sites:
            point(site, first)
        keep("first", everything)
        for site in sites[1:]:
            release(site)
        keep("first alone", lambda site: ask(site, site["https_port"], "GET", "/orders"))
        for site in sites:
            point(site, second)
        keep("second", everything)
        for site in sites:
            release(site)
        keep("after", everything)
        keep("hammered", lambda site: hammered(site, first))
        print(json.dumps({"sites": answers, "workers": [before, nginx_workers()]}))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)
        for site in sites:
            (Path("/srv") / site["app"] / "current").unlink()


main(json.loads(sys.argv[1]))
