"""gixy-ng finds nothing in what lands in /etc/nginx, but for what is waived here, each with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GIXY = Path(sys.executable).with_name("gixy")
VERSIONS = {12: "1.22.1", 13: "1.26.3"}
# By check: what the finding's place holds, and why it stays.
WAIVED = {
    "add_header_redefinition": (
        "location @unsatisfiable",
        "nginx has added the headers before it finds the range wrong, and would add them again",
    ),
    "status_page_exposed": (
        "location = /nginx_status",
        "it is on the internal listener, at an address that the firewall keeps to the monitoring hosts",
    ),
    "proxy_pass_normalized": (
        "$acme_token",
        "letters, digits, _ and - alone: there is nothing in it to decode",
    ),
    "try_files_is_evil_too": (
        "location /static/",
        "a cache of open files would go on with the release just left; looking for a file takes microseconds",
    ),
    "ssl_ecdh_curve": (
        "X25519MLKEM768",
        "rendered for Debian 13 alone, whose OpenSSL 3.5 has it; test_rendered_files holds that",
    ),
}
# It goes by upstream's numbers, and Debian mends old ones: https://security-tracker.debian.org is what tells.
NOT_ASKED = "nginx_cves"
HOSTS = ["inbox-12", "inbox-13", "board-12", "board-13", "odd-12", "relayed-12", "relayed-13", "quick-13"]
HOSTS += ["issuing-12", "issuing-13", "asking-12", "asking-13", "cached-12", "cached-13"]


def findings(host) -> list[dict]:
    """Return what gixy finds in a host's tree."""
    tree = host.root / "etc/nginx/nginx.conf"
    done = subprocess.run(
        [GIXY, "-f", "json", "--skips", NOT_ASKED, "--nginx-version", VERSIONS[host.debian], tree],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout, done.stderr
    # It says so, and goes on, when an include leads nowhere: only the package's own file may be missing.
    missing = [line for line in done.stderr.splitlines() if "not found" in line.lower()]
    assert all(line.endswith("/mime.types") for line in missing), missing
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found(rendered) -> dict[str, list[dict]]:
    return {name: findings(rendered.hosts[name]) for name in HOSTS}


def is_waived(finding: dict) -> bool:
    place, _reason = WAIVED.get(finding["plugin"], ("nowhere", ""))
    return place in finding["config"]


@pytest.mark.parametrize("name", HOSTS)
def test_gixy_finds_nothing_that_is_not_waived(found, name):
    left = [
        f"{one['severity']} {one['plugin']}: {one['reason']}\n{one['config']}"
        for one in found[name]
        if not is_waived(one)
    ]
    assert not left, "\n".join(left)


def test_every_waiver_is_needed(found):
    used = {one["plugin"] for findings in found.values() for one in findings if is_waived(one)}
    assert used == set(WAIVED)


def test_gixy_finds_what_is_wrong(rendered, tmp_path):
    """That it ran at all, and read the files that others include."""
    host = rendered.hosts["inbox-13"]
    tree = tmp_path / "nginx"
    subprocess.run(["cp", "-r", host.root / "etc/nginx", tree], check=True)
    site = tree / "sites-enabled/inbox.conf"
    site.write_text(site.read_text().replace("proxy_pass http://$release_upstream;", "return 302 /x$uri;", 1))
    done = subprocess.run(
        [GIXY, "-f", "json", "--skips", NOT_ASKED, tree / "nginx.conf"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "http_splitting" in {one["plugin"] for one in json.loads(done.stdout)}, done.stderr
