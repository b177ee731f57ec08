"""Visitors of a host while its certificate changes: who downloads, and who comes and goes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from testbed.certifying import Certified

LARGE_MIB = 96
# On the host: downloads a large file slowly on a connection that was used before, and meanwhile asks for a
# small one on new connections, until told to stop. Prints what it saw as JSON.
VISITOR = """
import hashlib, http.client, json, pathlib, socket, ssl, sys, threading, time
port, name = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

def connect():
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    plain = socket.create_connection(("127.0.0.1", port), 20)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    return connection

def ask(connection, path):
    connection.request("GET", path, headers={"Host": f"{name}:{port}"})
    return connection.getresponse()

seen, failures = 0, []
def visit():
    global seen
    while not pathlib.Path("/tmp/enough").exists():
        try:
            connection = connect()
            answer = ask(connection, "/static/small.txt")
            assert (answer.status, answer.read()) == (200, b"small"), answer.status
            connection.close()
            seen += 1
        except Exception as error:
            failures.append(repr(error))
        time.sleep(0.02)

visitor = threading.Thread(target=visit)
visitor.start()
kept = connect()
assert ask(kept, "/static/small.txt").read() == b"small"
large = ask(kept, "/static/large.bin")
digest, length = hashlib.sha256(), 0
pathlib.Path("/tmp/downloading").touch()
while chunk := large.read(1 << 20):
    digest.update(chunk)
    length += len(chunk)
    # Until the new certificate is served the download must not end: buffers hold little of it.
    time.sleep(0 if pathlib.Path("/tmp/enough").exists() else 0.4)
visitor.join()
print(json.dumps({"seen": seen, "failures": failures, "length": length, "sha256": digest.hexdigest()}))
"""


@dataclass
class Visited:
    """What became of a change, and of the visitors meanwhile; `told` is what Prometheus is told then."""

    well: bool
    before: str
    after: str
    seconds: float
    seen: dict
    still: str
    sha256: str
    told: dict[str, float]

    def dropped_nothing(self) -> None:
        """Fail unless every visitor got all of what was asked for."""
        # The download outlived the reload: an old worker was still at it.
        assert "shutting down" in self.still
        assert (self.seen["length"], self.seen["sha256"]) == (LARGE_MIB << 20, self.sha256)
        assert self.seen["failures"] == []
        assert self.seen["seen"] > 20


def during(certified: Certified, change: Callable[[], bool], first: Callable[[], object]) -> Visited:
    """Change a host's certificate under visitors, once they are there and something has been done first."""
    site = certified.site
    static = f"/srv/{site.app}/current/static"
    site.sudo(
        f"rm -f /tmp/enough /tmp/downloading; mkdir -p {static} && cd {static} && "
        f"printf small > small.txt && head -c {LARGE_MIB}M /dev/urandom > large.bin"
    )
    seen = {}

    def visit() -> None:
        command = f"python3 - {certified.ports[1]} {certified.name}"
        seen.update(json.loads(site.sudo(command, stdin=VISITOR.encode(), timeout_seconds=120)))

    visitor = threading.Thread(target=visit)
    visitor.start()
    site.sudo("for i in $(seq 100); do test -e /tmp/downloading && exit 0; sleep 0.1; done; exit 1")
    before, workers = certified.serial(), site.nginx_workers()
    first()
    started = time.monotonic()
    well = change()
    seconds, after, told = time.monotonic() - started, certified.serial(), certified.metrics()
    still = site.sudo(f"ps -o args= -p {','.join(workers)} || true")
    site.sudo("touch /tmp/enough")
    visitor.join(120)
    sha256 = site.sudo(f"sha256sum {static}/large.bin").split()[0]
    return Visited(well, before, after, seconds, seen, still, sha256, told)
