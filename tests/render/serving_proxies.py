"""Run inside a sandbox: who the app, the log and the limits take a client for, behind proxies and without.

`python3 -c <this file> <JSON>`: the JSON holds the sites, and whether they are reached by the PROXY protocol;
prints answers by site, by question, and the clients of each log. Proxies connect from 127.0.9.0/24.
"""

import http.client
import http.server
import json
import socket
import struct
import sys
import threading
from pathlib import Path

from standing import Quiet, Server, closed, nginx, trusting

COPY, LOGS = Path("/run/nginx-proxies"), Path("/var/log/nginx")
# Not 127.0.0.1, where the host serves itself.
EDGE, PROXY, STRANGER, CLIENT = "127.0.0.7", "127.0.9.3", "127.0.8.3", "203.0.113.9"


class App(Quiet):
    """Answers with the headers it was asked with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(site):
    path, link = Path(f"/run/{site['app']}-proxies.sock"), Path(f"/srv/{site['app']}/upstream.sock")
    server = Server(str(path), App)
    path.chmod(0o666)
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def first_version(client, port):
    return f"PROXY TCP4 {client} {EDGE} 4711 {port}\r\n".encode()


def second_version(client, port):
    addresses = socket.inet_aton(client) + socket.inet_aton(EDGE) + struct.pack("!HH", 4711, port)
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack("!H", len(addresses)) + addresses


def ask(site, source, *, says=b"", headers=None, plain=False, to=EDGE, name=None, path="/"):
    """Ask from an address, perhaps after some bytes; return status and text, or what went wrong."""
    port = site["http_port"] if plain else site["https_port"]
    try:
        with socket.create_connection((to, port), 10, (source, 0)) as connected:
            connected.sendall(says)
            if not plain:
                context = trusting()
                connected = context.wrap_socket(connected, server_hostname=name or site["name"])
            client = http.client.HTTPConnection(site["name"])
            client.sock = connected
            client.request("GET", path, headers={"Host": name or site["name"], **(headers or {})})
            response = client.getresponse()
            return {"status": response.status, "text": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        return {"status": None, "text": repr(error)}


def by_header(site):
    """Ask with the header that proxies set."""

    def forwarded(*addresses):
        return {
            "X-Forwarded-For": ", ".join(addresses),
            "X-Real-IP": "192.0.2.66",
            "Forwarded": "for=192.0.2.66",
        }

    health = f"{site['prefix']}/livez"
    return {
        "proxy": ask(site, PROXY, headers=forwarded(CLIENT), path="/by-proxy"),
        "proxy, plain": ask(site, PROXY, headers=forwarded(CLIENT), plain=True, path=health),
        "two proxies": ask(site, PROXY, headers=forwarded("192.0.2.66", CLIENT, "127.0.9.8")),
        "proxy, six": ask(site, PROXY, headers=forwarded("2001:db8:77::1")),
        "proxy, nonsense": ask(site, PROXY, headers=forwarded("nonsense")),
        "proxy, silent": ask(site, PROXY),
        "stranger": ask(site, STRANGER, headers=forwarded(CLIENT), path="/by-stranger"),
        "stranger, plain": ask(site, STRANGER, headers=forwarded(CLIENT), plain=True, path=health),
    }


def by_protocol(site):
    """Ask over connections that begin with the PROXY protocol."""
    forged = {"X-Forwarded-For": "192.0.2.66"}
    port, health = site["https_port"], f"{site['prefix']}/livez"
    first, second = first_version(CLIENT, port), second_version(CLIENT, port)
    own = {"to": "127.0.0.1"}
    return {
        "proxy": ask(site, PROXY, says=first, headers=forged, path="/by-proxy"),
        "proxy, version 2": ask(site, PROXY, says=second, headers=forged),
        "proxy, plain": ask(site, PROXY, says=first, headers=forged, plain=True, path=health),
        "stranger": ask(site, STRANGER, says=first, headers=forged, path="/by-stranger"),
        "silent": ask(site, PROXY),
        "silent, plain": ask(site, PROXY, plain=True, path=health),
        "unknown name": ask(site, PROXY, says=first, name="other.example.org"),
        "host itself": ask(site, "127.0.0.1", **own),
        "host itself, unknown name": ask(site, "127.0.0.1", name="other.example.org", **own),
        "host itself, speaking it": ask(site, "127.0.0.1", says=first, **own),
    }


def told_as(site, client, by_the_protocol):
    """Return how a proxy asks for a client."""
    if by_the_protocol:
        return {"says": first_version(client, site["https_port"])}
    return {"headers": {"X-Forwarded-For": client}}


def limited(site, protocol):
    """Ask more often than allowed in one client's name, then in another's, by the same proxy."""
    for _ in range(9):
        ask(site, PROXY, **told_as(site, CLIENT, protocol))
    return {
        "one too many": ask(site, PROXY, **told_as(site, CLIENT, protocol)),
        "another client": ask(site, PROXY, **told_as(site, "203.0.113.10", protocol)),
    }


def in_maintenance(site, protocol):
    """Ask a closed site in the name of somebody it is open for, and of somebody else."""
    with closed(site):
        return {
            "closed, admitted": ask(site, PROXY, **told_as(site, CLIENT, protocol)),
            "closed, others": ask(site, PROXY, **told_as(site, "198.51.100.1", protocol)),
            "closed, forged": ask(site, STRANGER, **told_as(site, CLIENT, protocol)),
        }


def logged(site):
    lines = map(json.loads, (LOGS / f"{site['app']}.access.log").read_text().splitlines())
    return {line["path"]: line["client"] for line in lines if line["path"].startswith("/by-")}


def main(told):
    sites, protocol = told["sites"], told["protocol"]
    for site in sites:
        serve(site)
    found = {site["app"]: {} for site in sites}
    with nginx(COPY, sites):
        for site in sites:
            found[site["app"]] |= (by_protocol if protocol else by_header)(site)
            found[site["app"]] |= in_maintenance(site, protocol)
    with nginx(COPY, sites, (r"rate=\d+r/s", "rate=1r/m"), (r"burst=\d+", "burst=8")):
        for site in sites:
            found[site["app"]] |= limited(site, protocol)
    for site in sites:
        found[site["app"]]["log"] = logged(site)
    print(json.dumps(found))


main(json.loads(sys.argv[1]))
