"""Run inside a sandbox: what an ACME server, and a host that shares a certificate, are answered.

`python3 -c <this file> <JSON>`: the JSON holds the site that issues and the one that asks it; prints
the answers by question.
"""

import http.client
import json
import socket
import sys
from pathlib import Path

from standing import nginx, trusting

COPY = Path("/run/nginx-acme")
ISSUER = ("127.0.0.31", 9281)
TOKEN, CHALLENGES = "aZ09-_" * 7, "/.well-known/acme-challenge/"


def ask(name, target, *, method="GET", to=("127.0.0.1", 80), tls=False):
    """Return status and text of one answer, or what went wrong."""
    try:
        connected = socket.create_connection(to, 10)
        if tls:
            connected = trusting().wrap_socket(connected, server_hostname=name)
        client = http.client.HTTPConnection(name)
        client.sock = connected
        client.request(method, target, headers={"Host": name, "Cookie": "session=1"})
        response = client.getresponse()
        return {"status": response.status, "text": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        return {"status": None, "text": repr(error)}


def lay_out(site):
    folder = Path("/var/lib/tlsctl/webroot") / CHALLENGES.strip("/")
    folder.mkdir(parents=True)
    (folder / TOKEN).write_text("the answer")
    (folder / "no.token").write_text("no answer")
    sealed = Path(f"/var/lib/tlsctl/{site['app']}/sealed")
    sealed.mkdir(parents=True)
    (sealed / "www2.cms").write_text("sealed")
    (sealed.parent / "last_run.json").write_text("not for others")


def challenges(name, **how):
    """Ask a site as an ACME server and as others would."""
    return {
        "token": ask(name, CHALLENGES + TOKEN, **how),
        "token, query": ask(name, f"{CHALLENGES}{TOKEN}?a=b", **how),
        "token, HEAD": ask(name, CHALLENGES + TOKEN, method="HEAD", **how),
        "token, POST": ask(name, CHALLENGES + TOKEN, method="POST", **how),
        "unknown token": ask(name, CHALLENGES + "unknown", **how),
        "no token": ask(name, CHALLENGES + "no.token", **how),
        "too long": ask(name, CHALLENGES + "a" * 129, **how),
        "none": ask(name, CHALLENGES, **how),
        "climbing": ask(name, CHALLENGES + "..%2f..%2fsealed%2fwww2.cms", **how),
        "climbing, plainly": ask(name, CHALLENGES + "../../sealed/www2.cms", **how),
        "another folder": ask(name, "/.well-known/security.txt", **how),
    }


def main(told):
    issuing, asking = told
    lay_out(issuing)
    with nginx(COPY, []):
        found = {
            "issuing": challenges(issuing["name"]),
            "asking": challenges(asking["name"]),
            "asking over tls": challenges(asking["name"], to=("127.0.0.1", 443), tls=True),
        }
        inside = {
            "sealed": "/sealed/www2.cms",
            "for an unknown host": "/sealed/www3.cms",
            "all sealed": "/sealed/",
            "beside it": "/sealed../last_run.json",
            "climbing": "/sealed/..%2flast_run.json",
            "anything": "/",
            "metrics": "/tls/metrics",
        }
        found["inside"] = {
            question: ask(issuing["name"], path, to=ISSUER, tls=True) for question, path in inside.items()
        }
        found["inside"]["without tls"] = ask(issuing["name"], inside["sealed"], to=ISSUER)
    print(json.dumps(found))


main(json.loads(sys.argv[1]))
