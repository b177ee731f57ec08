"""Where Sentry's envelopes go: an answer for each, and a count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Ingest(ThreadingHTTPServer):
    """Takes envelopes and drops them."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a port of the loopback."""
        super().__init__(("127.0.0.1", 0), _Taking)
        self.envelopes = 0

    @property
    def dsn(self) -> str:
        """The address in Sentry's form; the key in it opens nothing."""
        return f"http://bench@127.0.0.1:{self.server_address[1]}/1"


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ingest

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.envelopes += 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def serve() -> Iterator[Ingest]:
    """Run it in a thread of this process, which sleeps while others are measured."""
    with Ingest() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)
