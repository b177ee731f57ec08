"""A Sentry of our own, on the target's loopback: keeps every envelope it is sent, unpacked, in a folder.

Runs on the host's own Python: `ingest.py <port> <folder>`. What it takes is described on Sentry's "Envelopes"
page.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        name = Path(sys.argv[2]) / f"{next(numbers):04}"
        name.with_suffix(".part").write_bytes(body)
        name.with_suffix(".part").rename(name.with_suffix(".envelope"))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
