"""nginx with the project's own files in front of the servers that are measured."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import yaml

from . import PROJECT_DIR
from .processes import stop

TREE = PROJECT_DIR / "nginx"
FILES = ("nginx.conf.j2", "snippets/proxy_headers.conf", "conf.d/logging.conf", "conf.d/proxy.conf")
FILES += ("conf.d/compression.conf", "conf.d/limits.conf", "conf.d/problems.conf", "conf.d/static.conf")
FILES += ("conf.d/maintenance.conf", "snippets/problems.conf", "snippets/maintenance_headers.conf")
FILES += ("snippets/maintenance_page.conf", "snippets/maintenance_problem.conf")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nothing listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


def render(folder: Path, ports: dict[str, int]) -> None:
    """Render the project's tree into a folder, one site for each server.

    The site is the project's but for TLS: encryption costs the same in every variant, so it would only make
    the ratios smaller.

    :param ports: a site's name to its port; it passes requests on to ``<name>.sock`` beside the folder.
    """
    defaults = yaml.safe_load((PROJECT_DIR / "roles/nginx/defaults/main.yml").read_text())
    for name in FILES:
        _write(folder / name.removesuffix(".j2"), _rendered(name, defaults), folder)
    for name, port in ports.items():
        site = defaults | {
            "nginx_site_name": name,
            "nginx_site_server_names": ["localhost"],
            "nginx_site_root": folder,
            "nginx_site_upstream_path": folder.parent / f"{name}.sock",
            "nginx_https_port": f"127.0.0.1:{port}",
            # All of the load comes from one address.
            "nginx_client_requests_per_second": 1_000_000,
            "nginx_ipv6_enabled": False,
            "__nginx_port_suffix": f":{port}",
            "__nginx_listen_http2": "",
            "__nginx_http2_directive": "",
            "__nginx_site_word": re.sub(r"\W", "_", name),
            "__nginx_maintenance_admitted": "",
        }
        text = _rendered("sites-enabled/app.conf.j2", site)
        text = re.sub(r"(listen 127\.0\.0\.1:\d+) ssl.*;", r"\1;", re.sub(r".*ssl_certificate.*", "", text))
        _write(folder / f"sites-enabled/{name}.conf", text, folder)
        parts = ("snippets/app.flower", "snippets/app.maintenance", "sites-enabled/app.maintenance")
        for part in (*parts, "snippets/app.canary", "sites-enabled/app.canary"):
            path = folder / f"{part.replace('/app.', f'/{name}.')}.conf"
            _write(path, _rendered(f"{part}.conf.j2", site), folder)
    (folder / "modules-enabled").mkdir()
    (folder / "log").mkdir()
    shutil.copy("/etc/nginx/mime.types", folder)


def _rendered(name: str, variables: dict[str, object]) -> str:
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "keep_trailing_newline": True}
    environment = jinja2.Environment(**options)
    environment.filters["regex_escape"] = re.escape
    return environment.from_string((TREE / name).read_text()).render(variables)


def _write(path: Path, text: str, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text.replace("/var/log/nginx", f"{folder}/log").replace("/run/nginx.pid", f"{folder}/nginx.pid")
    path.write_text(text)


@contextmanager
def serve(folder: Path, names: Iterable[str]) -> Iterator[tuple[dict[str, int], int]]:
    """Run nginx; yield the port of each site and the master's process id."""
    names = list(names)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    render(folder, ports)
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
