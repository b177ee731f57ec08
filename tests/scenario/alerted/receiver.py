"""Somebody who is told of alerts, on the target's loopback: keeps a line for each, with how it was signed.

Runs on the host's own Python: `receiver.py <port> <file>`.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        signed = self.headers.get("Authorization", "")
        with open(sys.argv[2], "a") as file:  # noqa: PTH123 - this is the whole of what it does
            for alert in told["alerts"]:
                file.write(json.dumps({"signed": signed, **alert}) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
