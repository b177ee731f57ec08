"""nginx with the project's own files in front of the servers that are measured."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from . import PROJECT_DIR
from .processes import stop

TREE = PROJECT_DIR / "nginx"
# Its listener has no place among those of the servers that are measured.
NOBODYS = "conf.d/default_server.conf.j2"
SITE_FILES = (
    "sites-enabled/app.conf.j2",
    "sites-enabled/app.cache.conf.j2",
    "sites-enabled/app.canary.conf.j2",
    "sites-enabled/app.maintenance.conf.j2",
)
CERTIFICATE, KEY = "certificate.pem", "key.pem"
# nginx as its own manual puts it before an app, and nothing else: what the project's site is compared with.
PLAIN_SITE = """\
upstream {name} {{
    server unix:{upstream};
    keepalive 32;
}}

server {{
    listen 127.0.0.1:{port};
    access_log off;

    location / {{
        proxy_pass http://{name};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """One site.

    :param upstream: the socket it passes requests on to.
    :param has_tls: whether it is asked over TLS.
    :param is_plain: whether it is `PLAIN_SITE` and none of the project's.
    :param cached: the path below which it caches; empty: none.
    :param answer: JSON that nginx answers everything with by itself; the upstream is not asked.
    """

    upstream: Path
    has_tls: bool = False
    is_plain: bool = False
    cached: str = ""
    answer: str = ""


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nothing listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def render(folder: Path, sites: Mapping[str, Site], ports: Mapping[str, int]) -> None:
    """Render the project's tree into a folder, one site for each server.

    :param ports: of the sites.
    """
    defaults = yaml.safe_load((PROJECT_DIR / "roles/nginx/defaults/main.yml").read_text())
    tables = yaml.safe_load((PROJECT_DIR / "roles/nginx/vars/main.yml").read_text())
    frame = defaults | {
        "__nginx_tls_protocols": tables["__nginx_tls_protocols"],
        "__nginx_tls_groups": "X25519:prime256v1:secp384r1",
        "__nginx_hsts": f"max-age={defaults['nginx_hsts_max_age_seconds']}",
        "__nginx_trusted_proxies": "",
        "__nginx_http3_offer": "",
    }
    for path in ["nginx.conf.j2", *_files("conf.d", "*"), *_files("snippets", "[!a]*")]:
        if path != NOBODYS:
            _write(folder / path.removesuffix(".j2"), _rendered(path, frame), folder)
    for name, site in sites.items():
        if site.is_plain:
            text = PLAIN_SITE.format(name=name, upstream=site.upstream, port=ports[name])
            _write(folder / f"sites-enabled/{name}.conf", text, folder)
        else:
            _render_site(folder, name, site, ports[name], defaults)
    (folder / "modules-enabled").mkdir()
    for name in ("log", "lib"):
        (folder / name).mkdir()
    shutil.copy("/etc/nginx/mime.types", folder)


def _files(below: str, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(TREE)) for path in (TREE / below).glob(pattern))


def _render_site(folder: Path, name: str, site: Site, port: int, defaults: dict[str, object]) -> None:
    variables = defaults | {
        "nginx_site_name": name,
        "nginx_site_server_names": ["localhost"],
        "nginx_site_root": folder,
        "nginx_site_upstream_path": site.upstream,
        "nginx_site_certificate_path": folder / CERTIFICATE,
        "nginx_site_private_key_path": folder / KEY,
        "nginx_https_port": f"127.0.0.1:{port}",
        # All of the load comes from one address.
        "nginx_client_requests_per_second": 1_000_000,
        "nginx_client_connections": 65_535,
        "nginx_ipv6_enabled": False,
        "nginx_cache_paths": [site.cached] if site.cached else [],
        "__nginx_cache_pattern": f"^({re.escape(site.cached)})(/|$)",
        "__nginx_port_suffix": f":{port}",
        "__nginx_listen_http2": "",
        "__nginx_http2_directive": "",
        "__nginx_listen_proxy_protocol": "",
        "__nginx_listen_loopback": "",
        "__nginx_listen_quic": "",
        "__nginx_site_word": re.sub(r"\W", "_", name),
        "__nginx_maintenance_admitted": "",
    }
    for path in [*SITE_FILES, *_files("snippets", "app.*")]:
        text = _rendered(path, variables)
        if not site.has_tls:
            text = re.sub(
                r"(listen 127\.0\.0\.1:\d+) ssl.*;", r"\1;", re.sub(r".*ssl_certificate.*", "", text)
            )
        if site.answer:
            returned = f"default_type application/json; return 200 '{site.answer}';"
            text = text.replace("proxy_pass http://$release_upstream;", returned)
        _write(folder / path.removesuffix(".j2").replace("/app.", f"/{name}."), text, folder)


def make_certificate(folder: Path) -> None:
    """Make a certificate as the project's sites have one: ECDSA on P-256."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=localhost", "-days", "2", "-out", CERTIFICATE, "-keyout", KEY]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _rendered(name: str, variables: dict[str, object]) -> str:
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(**options)
    environment.filters["regex_escape"] = re.escape
    return environment.from_string((TREE / name).read_text()).render(variables)


def _write(path: Path, text: str, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    places = {"/var/log/nginx": "log", "/var/lib/nginx": "lib", "/run/nginx.pid": "nginx.pid"}
    for place, ours in places.items():
        text = text.replace(place, f"{folder}/{ours}")
    path.write_text(text)


@contextmanager
def serve(folder: Path, sites: Mapping[str, Site]) -> Iterator[tuple[dict[str, int], int]]:
    """Run nginx; yield the port of each site and the master's process id."""
    ports = dict(zip(sites, free_ports(len(sites)), strict=True))
    if any(site.has_tls for site in sites.values()):
        make_certificate(folder)
    render(folder, sites, ports)
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"]
    with (folder / "log/output").open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        for port in ports.values():
            _wait_for(port, server, folder)
        yield ports, server.pid
    finally:
        stop(server, signal.SIGTERM)


def _wait_for(port: int, server: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    words = (folder / "log/output").read_text() + (folder / "log/error.log").read_text()
    raise RuntimeError(f"nginx did not start:\n{words}")
