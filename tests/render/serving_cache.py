"""Run inside a sandbox: what each site's cache keeps, for whom, and how often the app is asked.

`python3 -c <this file> <JSON>`: the JSON is a list of sites; prints by site what was answered, how often the
app was asked for it, and what the log says. The app stands on sockets named as a release's are.
"""

import collections
import contextlib
import email.utils
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import standing
from standing import Quiet, closed, nginx, point, trusting

COPY = Path("/run/nginx-cache")
CONTEXT = trusting()
OLD, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb"
CROWD = 200
PUBLIC = "public, max-age=600"
PAST, FUTURE = (email.utils.formatdate(time.time() + 600 * sign, usegmt=True) for sign in (-1, 1))
# By the last word of the path: what the answer says of itself.
KEPT = {
    "declared": [("Cache-Control", PUBLIC)],
    "shared": [("Cache-Control", "s-maxage=600")],
    "in-capitals": [("Cache-Control", "Max-Age=600, PUBLIC")],
    "expired-by-the-older-header": [("Cache-Control", PUBLIC), ("Expires", PAST)],
    "redirect": [("Cache-Control", PUBLIC), ("Location", "/there")],
    "missing": [("Cache-Control", PUBLIC)],
}
NEVER = {
    "undeclared": [],
    "fresh-alone": [("Cache-Control", "max-age=600")],
    "public-alone": [("Cache-Control", "public")],
    "private": [("Cache-Control", f"private, {PUBLIC}")],
    "private-on-a-line-of-its-own": [("Cache-Control", PUBLIC), ("Cache-Control", "private")],
    "no-store": [("Cache-Control", f"no-store, {PUBLIC}")],
    "no-cache": [("Cache-Control", f"no-cache, {PUBLIC}")],
    "to-be-asked-about": [("Cache-Control", f"{PUBLIC}, must-revalidate")],
    "of-no-age": [("Cache-Control", "public, max-age=0")],
    "older-header": [("Expires", FUTURE)],
    "nginx-header": [("X-Accel-Expires", "600")],
    "nginx-header-private": [("X-Accel-Expires", "600"), ("Cache-Control", "private")],
    "with-a-cookie": [("Cache-Control", PUBLIC), ("Set-Cookie", "session=secret")],
    "vary-by-anything": [("Cache-Control", PUBLIC), ("Vary", "*")],
    "error": [("Cache-Control", PUBLIC)],
    "refused": [("Cache-Control", PUBLIC)],
    "part": [("Cache-Control", PUBLIC)],
    "long": [("Cache-Control", PUBLIC)],
    "of-no-length": [("Cache-Control", PUBLIC)],
    "streamed": [("Cache-Control", PUBLIC), ("X-Accel-Buffering", "no")],
}
STATUSES = {"redirect": 302, "missing": 404, "error": 500, "refused": 403, "part": 206}
OTHER = {
    "by-language": [("Cache-Control", PUBLIC), ("Vary", "Accept-Language")],
    "tagged": [("Cache-Control", PUBLIC), ("ETag", '"tag"'), ("X-Frame-Options", "DENY")],
    "short": [("Cache-Control", "public, max-age=3")],
    "quick": [("Cache-Control", "public, max-age=1")],
    "bulky": [("Cache-Control", PUBLIC)],
}
HEADERS = {**KEPT, **NEVER, **OTHER}
PERSONAL = {
    "cookie": {"Cookie": "session=1"},
    "cookie that nginx takes for none": {"Cookie": "0"},
    "authorization": {"Authorization": "Bearer x"},
    "authorization that nginx takes for none": {"Authorization": "0"},
    "range": {"Range": "bytes=0-3"},
    "condition": {"If-Match": '"x"'},
}


class App(Quiet):
    """Answers with its release and how often it was asked for this, in words as long as asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        if server.away:
            self.close_connection = True
            return
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise ValueError("nginx did not take the body in")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with server.lock:
            server.counts[f"{self.command} {path}"] += 1
            number = server.counts[f"{self.command} {path}"]
        kind = path.rpartition("/")[2].partition(".")[0]
        time.sleep(server.delay)
        status, headers = STATUSES.get(kind, 200), HEADERS.get(kind, KEPT["declared"])
        if server.failing:
            status, headers = server.failing, []
        words = [
            server.release,
            number,
            self.headers.get("Accept-Language", ""),
            self.headers.get("X-Request-ID"),
        ]
        body = json.dumps(words).encode()
        body += b" " * ({"long": 10_000_000, "bulky": 200_000}.get(kind, len(body)) - len(body))
        self.send_response(status)
        for name, value in [
            *headers,
            ("X-Release", server.claims),
            ("X-Request-ID", self.headers["X-Request-ID"]),
        ]:
            self.send_header(name, value)
        if kind == "of-no-length":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_POST = do_HEAD = do_PUT = do_GET


class Server(standing.Server):
    request_queue_size = 512

    def __init__(self, path, release):
        Path(path).unlink(missing_ok=True)
        super().__init__(str(path), App)
        Path(path).chmod(0o666)
        self.release = self.claims = release
        self.delay, self.failing, self.away = 0, None, False
        self.counts, self.lock = collections.Counter(), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        """Let nobody in any more; the socket's file stays, as a crashed process leaves it."""
        self.away = True
        self.shutdown()
        self.server_close()


class Site:
    """One site and its two releases, the old one active."""

    def __init__(self, told):
        self.told, self.root, self.name = told, Path("/srv") / told["app"], told["name"]
        folder = Path(f"/run/{told['app']}-cache")
        folder.mkdir(exist_ok=True)
        self.sockets = {release: folder / f"{release}.sock" for release in (OLD, NEW)}
        self.servers = {release: Server(path, release) for release, path in self.sockets.items()}
        point(self.root / "upstream.sock", self.sockets[OLD])
        point(self.root / "canary.sock", "upstream.sock")
        self.folder = Path(f"/var/lib/nginx/{told['app']}.cache")

    @property
    def old(self):
        return self.servers[OLD]

    def connect(self, source="127.0.0.1"):
        plain = socket.create_connection(("127.0.0.1", self.told["https_port"]), 20, (source, 0))
        connection = http.client.HTTPSConnection(self.name, context=CONTEXT)
        connection.sock = CONTEXT.wrap_socket(plain, server_hostname=self.name)
        return connection

    def put(self, connection, target, headers=None, method="GET", body=None):
        chunked = hasattr(body, "__next__")
        sent = {"Host": self.name, **({"Transfer-Encoding": "chunked"} if chunked else {}), **(headers or {})}
        connection.request(method, target, body, sent, encode_chunked=chunked)
        response = connection.getresponse()
        found = [[name.lower(), value] for name, value in response.getheaders()]
        text = response.read().decode()
        return {"status": response.status, "headers": found, "text": text.strip(), "length": len(text)}

    def ask(self, target, headers=None, method="GET", body=None, source="127.0.0.1"):
        connection = self.connect(source)
        try:
            return self.put(connection, target, headers, method, body)
        finally:
            connection.close()

    def asked(self, path, method="GET"):
        """Return how often the app was asked."""
        return sum(server.counts[f"{method} {path}"] for server in self.servers.values())

    def crowd(self, target):
        """Ask for the same on many connections at once; return what came, and how often the app was asked."""
        before, together, found = self.asked(target), threading.Barrier(CROWD, timeout=60), []

        def visit():
            with contextlib.closing(self.connect()) as connection:
                together.wait()
                found.append(self.put(connection, target))

        threads = [threading.Thread(target=visit) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return {
            "answers": len(found),
            "statuses": sorted({answer["status"] for answer in found}),
            "texts": sorted({json.loads(answer["text"])[1] for answer in found}),
            "ids": len({dict(answer["headers"])["x-request-id"] for answer in found}),
            "asked": self.asked(target) - before,
        }

    def log(self):
        """Return the lines of the log by their request's id."""
        lines = Path(f"/var/log/nginx/{self.told['app']}.access.log").read_text().splitlines()
        return {line["request_id"]: line for line in map(json.loads, lines)}


def twice(site, path, **how):
    """Ask twice; return the answers and how often the app was asked."""
    answers = [site.ask(path, **how) for _ in range(2)]
    return {"answers": answers, "asked": site.asked(path, how.get("method", "GET"))}


def of_kinds(site):
    found = {f"kept {kind}": twice(site, f"/feed/{kind}") for kind in KEPT}
    found |= {f"never {kind}": twice(site, f"/feed/{kind}") for kind in NEVER}
    for path in (
        "/feed",
        "/feed/",
        "/feedback/declared",
        "/other/declared",
        "/a.b/c/declared",
        "/aXb/c/declared",
    ):
        found[f"path {path}"] = twice(site, path)
    for page in ("livez", "readyz", "startupz", "version"):
        found[f"health {page}"] = twice(site, f"{site.told['prefix']}/{page}")
    for method in ("POST", "PUT"):
        found[f"method {method}"] = twice(site, f"/feed/{method}", method=method, body=b"x")
    return found


def of_persons(site):
    """Ask for what is kept, and for what could be, as somebody in particular."""
    found = {}
    for number, (who, headers) in enumerate(PERSONAL.items()):
        path = f"/feed/person-{number}"
        theirs, anybody = [site.ask(path, headers) for _ in range(2)], site.ask(path)
        again, still = site.ask(path, headers), site.ask(path)
        found[who] = [json.loads(one["text"])[1] for one in (*theirs, anybody, again, still)]
    bodies = {"body": b"question", "body in pieces": iter([b"ques", b"tion"])}
    for number, (who, body) in enumerate(bodies.items()):
        path = f"/feed/body-{number}"
        answers = [site.ask(path, body=body), site.ask(path), site.ask(path, body=b"other"), site.ask(path)]
        found[who] = [json.loads(one["text"])[1] for one in answers]
    url = f"https://{site.name}:{site.told['https_port']}/feed/body-2"
    curl = ["curl", "-sk", "--http2", "--connect-to", f"::127.0.0.1:{site.told['https_port']}", url]
    # A body whose length nobody tells, which HTTP/2 alone can have.
    sent = [*curl, "-X", "GET", "-T", "-"]
    answers = [
        subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
        for command, text in ((sent, "question"), (curl, None), (sent, "other"), (curl, None))
    ]
    found["body over HTTP/2"] = [json.loads(text)[1] for text in answers]
    return found


def of_the_rest(site):
    found = {"cold": site.ask("/feed/tagged")}
    found |= {f"warm {number}": site.ask("/feed/tagged") for number in range(2)}
    found["same"] = site.ask("/feed/tagged", {"If-None-Match": '"tag"'})
    found["tagged asked"] = site.asked("/feed/tagged")
    found["head"] = twice(site, "/feed/head", method="HEAD")
    found["get behind head"] = twice(site, "/feed/head")
    languages = [
        site.ask("/feed/by-language", {"Accept-Language": word}) for word in ("de", "en", "de", "en")
    ]
    found["languages"] = [json.loads(answer["text"])[1:3] for answer in languages]
    found["hosts"] = [site.ask(target)["status"] for target in ("/feed/x?a=1", "/feed/x?a=2", "/feed/x?a=1")]
    found["queries asked"] = site.asked("/feed/x")
    return found


def of_time(site):
    """Ask in crowds, before there is an answer, while there is one, and after it was one."""
    found = {}
    site.old.delay = 0.4
    found["cold crowd"] = site.crowd("/feed/crowd")
    found["warm crowd"] = site.crowd("/feed/crowd")
    site.ask("/feed/short")
    time.sleep(4.1)
    found["late crowd"] = site.crowd("/feed/short")
    site.old.delay = 0
    site.ask("/feed/quick")
    time.sleep(2.1)
    found["who comes late"] = json.loads(site.ask("/feed/quick")["text"])[1]
    return found


def when_it_is_away(site):
    found = {}
    site.ask("/feed/quick.away")
    time.sleep(2.1)
    for status in (500, 502, 503, 504):
        site.old.failing = status
        found[f"failing with {status}"] = site.ask("/feed/quick.away")
        found[f"failing with {status} to somebody"] = site.ask("/feed/quick.away", {"Cookie": "a=b"})
    site.old.failing = None
    site.old.stop()
    found["away"] = site.ask("/feed/quick.away")
    found["away, fresh"] = site.ask("/feed/tagged")
    found["away, never asked for"] = site.ask("/feed/unknown")
    found["away, posted"] = site.ask("/feed/quick.away", method="POST", body=b"x")
    found["away, maintenance"] = maintained(site)
    site.sockets[OLD].unlink()
    found["without a socket"] = site.ask("/feed/tagged")
    site.servers[OLD] = Server(site.sockets[OLD], OLD)
    found["back"] = site.ask("/feed/quick.away")
    return found


def maintained(site):
    with closed(site.told):
        return site.ask("/feed/tagged")


def of_releases(site):
    """Switch, there and back; give some the new release; let the old one answer in the new one's place."""
    path, found = "/feed/released", {}

    def answers(*sources):
        return [
            json.loads(site.ask(path, source=source)["text"])[0] for source in sources or ["127.0.0.1"] * 2
        ]

    found["before"] = answers()
    for stage, release in (("switched", NEW), ("back", OLD)):
        point(site.root / "upstream.sock", site.sockets[release])
        # For the connections that nginx keeps to the release just left; nothing drains it here.
        time.sleep(2.5)
        found[stage] = answers()
    found["asked"] = [site.servers[release].counts[f"GET {path}"] for release in (OLD, NEW)]
    if site.told["by_address"]:
        share = site.root / "canary.d/50"
        share.mkdir(parents=True, exist_ok=True)
        for slot in range(1, 11):
            (share / f"{slot:02}").touch()
        point(site.root / "canary.sock", site.sockets[NEW])
        point(site.root / "canary", share)
        sources = [f"127.1.0.{number}" for number in range(1, 41)]
        uncached = [json.loads(site.ask("/other", source=source)["text"])[0] for source in sources]
        found["canary"] = {"by the app": uncached, "by the cache": answers(*sources)}
        found["canary asked"] = [site.servers[release].counts[f"GET {path}"] for release in (OLD, NEW)]
        (site.root / "canary").unlink()
        point(site.root / "canary.sock", "upstream.sock")
    site.old.claims = NEW
    found["in another's name"] = twice(site, "/feed/strange")["asked"]
    site.old.claims = OLD
    return found


def of_its_room(site):
    """Look at the folder, fill it beyond its limit, and empty it as docs/caching.md says."""
    mode = site.folder.stat()
    found = {"mode": oct(mode.st_mode & 0o777), "owner": site.folder.owner()}
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    found["open files"] = [str(path) for path in files if path.stat().st_mode & 0o077]
    found["files"] = len(files)
    if site.told["room"]:
        for number in range(30):
            site.ask(f"/feed/bulky?{number}")
        found["most"] = held(site)
        deadline = time.monotonic() + 40
        while held(site) > site.told["room"] and time.monotonic() < deadline:
            time.sleep(0.5)
        found["left"] = held(site)
    for path in ("/feed/purged", "/feed/purged-too"):
        site.ask(path)
    listed = rf"grep -rlaZ '^KEY: .* https://{site.name}/feed/purged$' {site.folder}"
    subprocess.run(f"{listed} | xargs -0 --no-run-if-empty rm", shell=True, check=True)
    found["purged one"] = [twice(site, path)["asked"] for path in ("/feed/purged", "/feed/purged-too")]
    subprocess.run(["find", str(site.folder), "-type", "f", "-delete"], check=True)
    found["purged"] = [twice(site, path)["asked"] for path in ("/feed/purged", "/feed/purged-too")]
    return found


def held(site):
    sizes = []
    for path in site.folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return sum(sizes)


def main(sites):
    told = {}
    with nginx(COPY, []):
        for site in map(Site, sites):
            stages = (of_kinds, of_persons, of_the_rest, of_time, when_it_is_away, of_releases, of_its_room)
            found = {stage.__name__: stage(site) for stage in stages}
            told[site.told["app"]] = {**found, "log": site.log()}
            for link in ("upstream.sock", "canary.sock"):
                (site.root / link).unlink()
    print(json.dumps(told))


main(json.loads(sys.argv[1]))
