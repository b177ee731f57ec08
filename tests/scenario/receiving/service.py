"""The service that webhooks are handed on to: writes down what it is given, and takes its time.

Runs on the host's own Python, on its loopback: `service.py <port> <folder>`. A delivery says itself how long
it takes: one with `{"waits": [30, 0]}` is answered after 30 seconds the first time it comes, or as soon as
there is a file of its key's name in the folder, and at once the second time and every further one.
Each line of `notes` in the folder is a JSON object: what happened, when, and the delivery's key.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[2])
lock = threading.Lock()
came: Counter[str] = Counter()


def note(what: str, key: str, **more: object) -> None:
    line = json.dumps({"what": what, "key": key, "at": time.time(), **more})
    with lock, (FOLDER / "notes").open("a") as file:
        file.write(f"{line}\n")


def work(key: str, seconds: int) -> None:
    until = time.time() + seconds
    while time.time() < until and not (FOLDER / key).exists():
        time.sleep(0.05)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Idempotency-Key"]
        with lock:
            turn = came[key]
            came[key] += 1
        note("began", key, peer=self.client_address[1])
        waits = order.get("waits", [0])
        work(key, waits[min(turn, len(waits) - 1)])
        note("ended", key)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    # Workers connect when they like; the standard library's five would be refused under load.
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
