"""Run inside a sandbox: send requests that are not what they seem, many at a time, and ask beside them.

`python3 -c <this file> <JSON>`: the JSON holds the site, and the path of a file with the requests; prints,
for each, what its connection was answered, what a visitor beside it was answered, and what the app counted.
"""

import concurrent.futures
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from standing import trusting

SILENCE_SECONDS = 3
AT_ONCE = 24
CONTEXT, HTTP2 = trusting(), trusting()
HTTP2.set_alpn_protocols(["h2"])
# Frames' types and flags.
DATA, HEADERS, RST_STREAM = 0, 1, 3
END_STREAM = 1
OWN = threading.local()


def connect(site, context=CONTEXT):
    plain = socket.create_connection(("127.0.0.1", site["https_port"]), timeout=10)
    return context.wrap_socket(plain, server_hostname=site["name"])


class Said(io.BytesIO):
    """What came back, as http.client reads it."""

    def makefile(self, _mode):
        return self

    def close(self):
        """Stay open: the next answer follows."""


def answers(data):
    """Return status and id of each answer in what came back; the id only where the app answered."""
    if data and not data.startswith(b"HTTP/"):
        # To what it takes for HTTP 0.9 nginx says its page alone.
        return [[0.9, None]]
    found, said = [], Said(data)
    while said.tell() < len(data):
        response = http.client.HTTPResponse(said, method="GET")
        try:
            response.begin()
            body = response.read()
        except http.client.HTTPException as error:
            return [*found, ["unreadable", repr(error)]]
        if response.status == 100:
            continue
        found.append([response.status, json.loads(body)["id"] if response.getheader("X-App") else None])
    return found


def visit(site, name):
    """Ask on a connection that stays open; the answer must be to this question."""
    for fresh in (False, True):
        if fresh or not hasattr(OWN, "connection"):
            OWN.connection = http.client.HTTPConnection(site["name"])
            OWN.connection.sock = connect(site)
        try:
            OWN.connection.request("GET", "/visit", headers={"Host": site["name"], "X-Id": name})
            response = OWN.connection.getresponse()
            return [response.status, json.loads(response.read()).get("id")]
        except (OSError, http.client.HTTPException, ValueError) as error:
            if fresh:
                return ["lost", repr(error)]
            # nginx closes a connection after a thousand requests.
            name += "'"
    return None


def send(site, request):
    """Send one request with a last, good one behind it, and read until nothing more comes."""
    last = f"l{request['id']}"
    closing = f"GET /last HTTP/1.1\r\nHost: {site['name']}\r\nX-Id: {last}\r\nConnection: close\r\n\r\n"
    data = b""
    with connect(site) as connection:
        connection.settimeout(SILENCE_SECONDS)
        try:
            connection.sendall(request["bytes"].encode("latin-1") + closing.encode())
            while piece := connection.recv(65536):
                data += piece
        except OSError:
            pass
    head = b" HEAD " in b" " + request["bytes"].encode("latin-1")[:5]
    return {
        "answers": [] if head else answers(data),
        "visit": visit(site, f"v{request['id']}"),
        "head": head,
    }


class Streams:
    """A connection of HTTP/2: all that was said on it, and which streams are over."""

    def __init__(self, connection):
        self.connection, self.said, self.read, self.over, self.closed = connection, b"", 0, set(), False

    def send(self, data):
        try:
            self.connection.sendall(data.encode("latin-1"))
        except OSError:
            self.closed = True

    def wait(self, stream):
        """Read until a stream is over, or nothing more comes."""
        while stream not in self.over and not self.closed:
            try:
                piece = self.connection.recv(65536)
            except TimeoutError:
                return
            except OSError:
                piece = b""
            self.said += piece
            self.closed = not piece
            self.look()

    def look(self):
        while len(self.said) >= self.read + 9:
            head = self.said[self.read : self.read + 9]
            size, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:])
            if len(self.said) < self.read + 9 + size:
                return
            self.read += 9 + size
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.over.add(stream)


def send_http2(site, request):
    """Send one request over HTTP/2 and, when it is answered, a good one on the same connection."""
    with connect(site, HTTP2) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.settimeout(SILENCE_SECONDS)
        streams = Streams(connection)
        for stream, part in ((1, "bytes"), (3, "last")):
            streams.send(request[part])
            streams.wait(stream)
    return {
        "said": streams.said.decode("latin-1"),
        "closed": streams.closed,
        "visit": visit(site, f"v{request['id']}"),
    }


def main(told):
    site, requests = told["site"], json.loads(Path(told["requests"]).read_text())
    subprocess.run(["nginx"], check=True)
    try:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            sending = send_http2 if told["http2"] else send
            found = list(pool.map(lambda request: sending(site, request), requests))
        seconds = time.monotonic() - began
        connection = http.client.HTTPConnection(site["name"])
        connection.sock = connect(site)
        connection.request("GET", "/counts", headers={"Host": site["name"]})
        counts = json.loads(connection.getresponse().read())
        print(json.dumps({"found": found, "counts": counts, "seconds": seconds}))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)


main(json.loads(sys.argv[1]))
