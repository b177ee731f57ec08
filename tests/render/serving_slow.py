"""Run inside a sandbox: slowhttptest's three kinds of slow clients at once, and visitors beside them.

`python3 -c <this file> <JSON>`: the JSON holds the site, seconds and connections of each kind; prints what
the visitors were answered and after how long, what slowhttptest says, when three slow clients were cut off.
The app has one worker and takes one connection at a time: whoever held it would hold everybody.
"""

import http.client
import http.server
import json
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

from standing import Quiet, trusting

CONTEXT = trusting()
CALM_SECONDS = 5
# More than nginx reads ahead, and than the kernel takes in for a client that does not read.
ANSWER, FILE = b"x" * 300_000, 20_000_000


class App(Quiet):
    """Answers `/livez` with more than nginx reads ahead, and everything else with a word."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = ANSWER if self.path == "/livez" else b"a page"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


class Server(socketserver.UnixStreamServer):
    request_queue_size = 512


def serve(site):
    path, link = Path(f"/run/{site['app']}-slow.sock"), Path(f"/srv/{site['app']}/upstream.sock")
    server = Server(str(path), App)
    path.chmod(0o666)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    files = Path(f"/srv/{site['app']}/previous/static")
    files.mkdir(parents=True)
    (files / "big.bin").write_bytes(bytes(FILE))
    threading.Thread(target=server.serve_forever, daemon=True).start()


def connect(site, receive_buffer=None):
    plain = socket.socket()
    if receive_buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.settimeout(60)
    plain.connect(("127.0.0.1", site["https_port"]))
    return CONTEXT.wrap_socket(plain, server_hostname=site["name"])


def attack(site, seconds, connections):
    """Start slowhttptest three times: slow headers, slow bodies, slow readers."""
    base = ["slowhttptest", "-c", str(connections), "-r", "50", "-l", str(seconds), "-p", "5"]
    # A page that is the app's with TLS and without.
    url = f"{site['scheme']}://{site['name']}/livez"
    kinds = {
        "headers": ["-H", "-i", "5", "-u", url],
        "bodies": ["-B", "-i", "5", "-s", "8192", "-t", "POST", "-u", url],
        "readers": ["-X", "-w", "8", "-y", "16", "-n", "5", "-z", "8", "-k", "1", "-u", url],
    }
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return {kind: subprocess.Popen([*base, *words], **pipe) for kind, words in kinds.items()}


class Visitors:
    """Ask all the time, each question on a connection of its own."""

    def __init__(self, site, number):
        self.took, self.lost, self.done = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(site,)) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def ask(self, site):
        turn = 0
        while not self.done.wait(0.1):
            began, turn = time.monotonic(), turn + 1
            try:
                connection = http.client.HTTPConnection(site["name"])
                connection.sock = connect(site)
                method, body = ("POST", b"x" * 1000) if turn % 2 else ("GET", None)
                connection.request(method, "/page", body, {"Host": site["name"]})
                response = connection.getresponse()
                if (response.status, response.read()) != (200, b"a page"):
                    self.lost.append(response.status)
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
            self.took.append(time.monotonic() - began)

    def finish(self):
        self.done.set()
        for thread in self.threads:
            thread.join(60)


def alone(site):
    """Return how long visitors take when there is nobody else."""
    visitors = Visitors(site, 4)
    time.sleep(CALM_SECONDS)
    visitors.finish()
    return visitors.took


def open_connections(site):
    """Count connections to the site that nginx holds open."""
    said = subprocess.run(["ss", "-Htn", "state", "established"], capture_output=True, text=True, check=True)
    ports = (site["http_port"], site["https_port"])
    return sum(
        any(line.split()[2].endswith(f":{port}") for port in ports) for line in said.stdout.splitlines()
    )


def cut_off(site, found):
    """Be slow in three ways; note after how many seconds each connection is closed."""
    host = f"Host: {site['name']}\r\n"

    def header():
        connection = connect(site)
        began = time.monotonic()
        connection.sendall(f"GET / HTTP/1.1\r\n{host}".encode())
        connection.settimeout(1)
        while time.monotonic() - began < 60:
            try:
                connection.sendall(b"X-A: b\r\n")
                if not connection.recv(999):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        found["header"] = time.monotonic() - began

    def body():
        connection = connect(site)
        connection.sendall(f"POST / HTTP/1.1\r\n{host}Content-Length: 9\r\n\r\nx".encode())
        began = time.monotonic()
        try:
            while connection.recv(999):
                pass
        except OSError:
            pass
        found["body"] = time.monotonic() - began

    def reader():
        connection = connect(site, 4096)
        connection.sendall(f"GET /static/big.bin HTTP/1.1\r\n{host}\r\n".encode())
        time.sleep(45)
        size = 0
        try:
            while piece := connection.recv(65536):
                size += len(piece)
        except OSError:
            pass
        found["reader"] = size

    threads = [threading.Thread(target=one) for one in (header, body, reader)]
    for thread in threads:
        thread.start()
    return threads


def main(told):
    site = told["site"]
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {site['name']}\n")
    serve(site)
    subprocess.run(["nginx"], check=True)
    try:
        calm, cut = alone(site), {}
        threads = cut_off(site, cut)
        attacks = attack(site, told["seconds"], told["connections"])
        visitors = Visitors(site, 4)
        held = []
        while any(one.poll() is None for one in attacks.values()):
            time.sleep(1)
            held.append(open_connections(site))
        visitors.finish()
        said = {kind: one.communicate()[0][-2000:] for kind, one in attacks.items()}
        calm += alone(site)
        for thread in threads:
            thread.join(60)
        print(
            json.dumps(
                {
                    "calm": calm,
                    "took": visitors.took,
                    "lost": visitors.lost,
                    "held": held,
                    "cut": cut,
                    "said": said,
                }
            )
        )
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)
        shutil.rmtree(Path("/srv") / site["app"] / "previous")


main(json.loads(sys.argv[1]))
