"""A Sentry of our own, as far as its clients see it: it takes envelopes, or does not.

The protocol is described on Sentry's "Envelopes" page: lines of JSON, a header for the envelope and one for
each item, then the item's bytes.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def unpacked(body: bytes, encoding: str | None) -> bytes:
    """Return a body as it was before it was packed."""
    if encoding == "br":  # where brotli is installed, Sentry's client uses it
        import brotli

        return brotli.decompress(body)
    return gzip.decompress(body) if encoding == "gzip" else body


class Ingest:
    """A server on a loopback port.

    :param status: what it answers; None to accept and never answer.
    """

    def __init__(self, status: int | None = 200) -> None:
        """Listen; entering the context begins to serve."""
        self.raw: list[bytes] = []
        self._over = threading.Event()
        ingest = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                ingest.raw.append(self.path.encode() + bytes(self.headers))
                self.answer()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = unpacked(body, self.headers.get("Content-Encoding"))
                # Headers too: a secret may leave by any way.
                ingest.raw.append(bytes(self.headers) + body)
                self.answer()

            def answer(self):
                if status is None:
                    ingest._over.wait()
                    return
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.dsn = f"http://publickey@127.0.0.1:{self._server.server_port}/1"

    def __enter__(self) -> Ingest:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of who still waits, and stop."""
        self._over.set()
        self.stop()

    def stop(self) -> None:
        """Be gone: whoever calls now is refused."""
        self._server.shutdown()
        self._server.server_close()

    def items(self, kind: str) -> list[dict]:
        """Return the items of a kind (``event``, ``transaction``) received so far."""
        return [item for raw in list(self.raw) for item in _items(raw) if item.pop("item type") == kind]

    def wait_for(self, kind: str, count: int = 1, timeout: float = 60) -> list[dict]:
        """Return the items of a kind once there are enough.

        :raises AssertionError: if there are not in time; its words hold what there is.
        """
        deadline = time.monotonic() + timeout
        while len(self.items(kind)) < count:
            assert time.monotonic() < deadline, self.raw
            time.sleep(0.02)
        return self.items(kind)


def _items(raw: bytes) -> list[dict]:
    lines = raw.partition(b"\n\n")[2].splitlines()[1:]
    # A client that states an item's length could put line ends into it; this one sends one line each.
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [{**json.loads(payload), "item type": json.loads(header)["type"]} for header, payload in pairs]
