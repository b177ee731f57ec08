"""What the scripts in a sandbox share: a stand-in for the app, nginx on a copy of its tree, a client of it.

Debian's own Python runs it there, where this folder is `/scripts`.
"""

import http.server
import os
import re
import shutil
import socketserver
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

TREE = Path("/etc/nginx")


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers on a unix socket, which has no address to tell, and says nothing about it."""

    def address_string(self):
        return "unix"

    def log_message(self, *_words):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def point(link, target):
    """Have a link lead elsewhere, from one instant to the next."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def trusting():
    """Return what a client needs for TLS with anybody: certificates here are the sandbox's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def closed(site):
    """Put a site into maintenance, as releasectl does."""
    folder, link = (Path("/srv") / site["app"] / name for name in ("30-abc", "maintenance"))
    folder.mkdir(exist_ok=True)
    for kind in ("json", "html"):
        (folder / f"reason.{kind}").write_text("Moving house")
    link.symlink_to(folder)
    try:
        yield
    finally:
        link.unlink()


@contextmanager
def nginx(copy, sites, *changes):
    """Run nginx on a copy of its tree, each change, a pattern and its replacement, made in every site."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(TREE, copy, symlinks=True)
    for site in sites:
        path = copy / f"sites-enabled/{site['app']}.conf"
        text = path.read_text()
        for pattern, replacement in changes:
            text, made = re.subn(pattern, replacement, text)
            assert made == 1, (pattern, made)
        path.write_text(text)
    command = ["nginx", "-c", str(copy / "nginx.conf")]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "-s", "stop"], check=True)
        while Path("/run/nginx.pid").exists():
            time.sleep(0.05)


def nginx_workers():
    """Return nginx's worker processes: a reload replaces them."""
    master = Path("/run/nginx.pid").read_text().strip()
    children = Path(f"/proc/{master}/task/{master}/children")
    # nginx goes into the background before its workers are there: one for each processor.
    while len(found := sorted(filter(is_worker, map(int, children.read_text().split())))) < os.cpu_count():
        time.sleep(0.05)
    return found


def is_worker(process):
    """Tell it from what looks after a cache, some of which ends by itself."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"nginx: worker process")
    except OSError:
        return False
