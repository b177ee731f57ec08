"""Run inside a sandbox: what sites answer over HTTP/3, and over HTTP/2 to the same questions.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints answers by site, by question, by version,
and the lines of each log. curl is the client.
"""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

from standing import Quiet, Server, closed, nginx

COPY, LOGS = Path("/run/nginx-http3"), Path("/var/log/nginx")
VERSIONS = {"2": "--http2", "3": "--http3-only"}
OTHER = "other.example.org"
# What a client says of itself that nobody is to believe.
CLAIMS = {
    "X-Ops-Internal": "1",
    "X-Request-ID": "forged",
    "X-Forwarded-For": "192.0.2.66",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": OTHER,
    "Forwarded": "for=192.0.2.66",
}
MUCH = {"Content-Length": str(11 * 1024 * 1024)}
CAME, GO_ON = threading.Event(), threading.Event()


class App(Quiet):
    """Answers with the headers it was asked with, `/own` with an Alt-Svc of its own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/held":
            CAME.set()
            GO_ON.wait(10)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = {"site": self.server.site, "path": self.path, "headers": headers}
        body = json.dumps(asked).encode()
        self.send_response(404 if self.path == "/404" else 200)
        if self.path == "/own":
            self.send_header("Alt-Svc", "clear")
        self.send_header("X-Release", "r1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(site):
    path = Path(f"/run/{site['app']}-http3.sock")
    server = Server(str(path), App)
    server.site = site["app"]
    path.chmod(0o666)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point(site, path)


def point(site, path):
    link = Path(f"/srv/{site['app']}/upstream.sock")
    link.unlink(missing_ok=True)
    link.symlink_to(path)


def command(site, version, path, *, name=None, headers=None, to="127.0.0.1", port=None, more=()):
    name, port = name or site["name"], port or site["https_port"]
    said = [word for key, value in (headers or {}).items() for word in ("--header", f"{key}: {value}")]
    common = ["curl", "--silent", "--show-error", "--insecure", "--include", "--max-time", "10"]
    resolve = ["--resolve", f"{name}:{port}:{to}"]
    return [*common, VERSIONS[version], *resolve, *said, *more, f"https://{name}:{port}{path}"]


def ask(site, version, path="/", **how):
    """Return version, status, every header line and text of an answer, or why there was none."""
    words = command(site, version, path, **how)
    for _ in range(5):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        # curl may give up, with 95, where nginx refuses a body that it is just about to send.
        if done.returncode != 95:
            break
    if done.returncode:
        return {"status": None, "text": done.stderr}
    head, _, text = done.stdout.partition("\n\n")
    first, *lines = head.splitlines()
    spoken, status = re.match(r"HTTP/(\d)\S* (\d+)", first).groups()
    headers = [line.split(": ", 1) for line in lines]
    return {"version": spoken, "status": int(status), "headers": headers, "text": text}


def answers(site, version):
    found = {
        "page": ask(site, version, "/page?token=unlogged", headers=CLAIMS),
        "error of the app": ask(site, version, "/404"),
        "own": ask(site, version, "/own"),
        "static": ask(site, version, "/static/site.css"),
        "too much": ask(site, version, headers=MUCH, more=["--data", "x"]),
        "by ipv6": ask(site, version, to="[::1]"),
        "unknown name": ask(site, version, name=OTHER),
        "no name": ask(site, version, name="127.0.0.1"),
        "another host": ask(site, version, headers={"Host": OTHER}),
        "metrics": ask(site, version, "/metrics", headers=CLAIMS),
        "internal port": ask(site, version, port=9180),
    }
    return found | {"closed": in_maintenance(site, version), "away": away(site, version)}


def in_maintenance(site, version):
    with closed(site):
        return ask(site, version)


def away(site, version):
    """Ask a site whose app does not listen, where no connection to it is kept."""
    link = Path(f"/srv/{site['app']}/upstream.sock")
    path = link.readlink()
    point(site, Path("/run/nowhere.sock"))
    try:
        return ask(site, version, "/readyz")
    finally:
        point(site, path)


def limited(site):
    """Ask two things at once where one is allowed, then more often than allowed."""
    CAME.clear()
    GO_ON.clear()
    with subprocess.Popen(command(site, "3", "/held"), stdout=subprocess.DEVNULL):
        CAME.wait(10)
        at_once = ask(site, "3")
        GO_ON.set()
    for _ in range(9):
        ask(site, "3")
    return {"at once": {"3": at_once}, "too often": {"3": ask(site, "3")}}


def main(sites):
    for site in sites:
        serve(site)
        static = Path("/srv") / site["app"] / "static"
        static.mkdir(exist_ok=True)
        (static / "site.css").write_text("a {}")
        (static.parent / "current").symlink_to(static.parent)
    with nginx(COPY, sites):
        told = {site["app"]: {version: answers(site, version) for version in VERSIONS} for site in sites}
        told = {app: {key: {v: by[v][key] for v in VERSIONS} for key in by["3"]} for app, by in told.items()}
    often = (r"rate=\d+r/s", "rate=1r/m"), (r"burst=\d+", "burst=8"), (r"(limit_conn \S+) \d+;", r"\1 1;")
    with nginx(COPY, sites, *often):
        for site in sites:
            told[site["app"]] |= limited(site)
    for site in sites:
        lines = (LOGS / f"{site['app']}.access.log").read_text().splitlines()
        told[site["app"]]["log"] = list(map(json.loads, lines))
    print(json.dumps(told))


main(json.loads(sys.argv[1]))
