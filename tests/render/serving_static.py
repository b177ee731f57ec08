"""Run inside a sandbox: the static files of two releases, nginx before them, and what clients are answered.

`python3 -c <this file> <JSON>`: the JSON holds sites, the files of each release in base64, and the questions;
prints answers by site, by question. A small app behind nginx answers what neither release has.
"""

import base64
import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from standing import Quiet, Server, trusting


class App(Quiet):
    """Answers everything with its own words."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"the app")


def lay_out(root, releases):
    """Put each release's files where a host has them, and point a link of the release's name there."""
    for name, files in releases.items():
        for path, content in files.items():
            file = root / "releases" / name / "static" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(base64.b64decode(content))
        (root / name).symlink_to(root / "releases" / name)


def serve(root, socket_path):
    """Listen where the site's nginx looks."""
    server = Server(str(socket_path), App)
    socket_path.chmod(0o666)
    link = root / "upstream.sock"
    link.unlink(missing_ok=True)
    link.symlink_to(socket_path)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def ask(site, target, headers):
    """Return status, headers and body of one answer."""
    context = trusting()
    connection = http.client.HTTPSConnection(site["name"], site["https_port"], timeout=10, context=context)
    # The name is in the handshake, the address is this host's.
    connection._create_connection = lambda _named, *rest: socket.create_connection(
        ("127.0.0.1", site["https_port"]), *rest
    )
    try:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        found = [[name.lower(), value] for name, value in response.getheaders()]
        body = base64.b64encode(response.read()).decode()
        return {"status": response.status, "headers": found, "body": body}
    finally:
        connection.close()


def main(told):
    roots = {site["app"]: Path("/srv") / site["app"] for site in told["sites"]}
    for app, root in roots.items():
        lay_out(root, told["releases"])
        serve(root, Path(f"/run/{app}-static.sock"))
    subprocess.run(["nginx"], check=True)
    try:
        questions = told["questions"].items()
        print(
            json.dumps({s["app"]: {name: ask(s, *words) for name, words in questions} for s in told["sites"]})
        )
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)
        for root in roots.values():
            (root / "upstream.sock").unlink()


main(json.loads(sys.argv[1]))
