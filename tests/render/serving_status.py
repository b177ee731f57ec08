"""Run inside a sandbox: the status page of each site, inside and in public, open and in maintenance.

`python3 <this file> <JSON>`: the JSON is a list of sites; prints answers by site, by occasion, by question.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from standing import Quiet, Server, closed, trusting

CONTEXT = trusting()


class App(Quiet):
    """Answers everything with its path."""

    def do_GET(self):
        body = f"the app's {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def lay_out(site):
    """Let an app listen where the site's nginx looks, and lay down what releasectl renders."""
    path, link = Path(f"/run/{site['app']}-status.sock"), Path("/srv") / site["app"] / "upstream.sock"
    server = Server(str(path), App)
    path.chmod(0o666)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = Path(f"/run/{site['app']}/status")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "index.json", "public.html", "public.json"):
        (folder / name).write_text(f"{name} of {site['app']}")
    return folder


def ask(site, port, target, method="GET"):
    connection = http.client.HTTPConnection(site["name"], timeout=10)
    connection.sock = socket.create_connection(("127.0.0.1", port), 10)
    if port == site["https_port"]:
        connection.sock = CONTEXT.wrap_socket(connection.sock, server_hostname=site["name"])
    try:
        connection.request(method, target, headers={"Host": site["name"]})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return {"status": response.status, "headers": headers, "text": response.read().decode()}
    finally:
        connection.close()


def everything(site):
    found = {f"inside {page}": ask(site, 9180, page) for page in ("/status", "/status.json", "/status/")}
    public = ("/how/it.is", "/how/it.is.json", "/how/itXis", "/how/it.is/more", "/status", "/status.json")
    found |= {f"public {page}": ask(site, site["https_port"], page) for page in public}
    found["public post"] = ask(site, site["https_port"], "/how/it.is", "POST")
    found["plain"] = ask(site, site["http_port"], "/how/it.is")
    return found


def main(sites):
    folders = [lay_out(site) for site in sites]
    subprocess.run(["nginx"], check=True)
    told = {}
    try:
        for site, folder in zip(sites, folders, strict=True):
            told[site["app"]] = {"open": everything(site)}
            with closed(site):
                told[site["app"]]["closed"] = everything(site)
            for path in folder.iterdir():
                path.unlink()
            told[site["app"]]["before the first"] = everything(site)
        print(json.dumps(told))
    finally:
        subprocess.run(["nginx", "-s", "stop"], check=True)


main(json.loads(sys.argv[1]))
