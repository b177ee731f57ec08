"""The release: one serves, everything agrees which, and it is what the archive said."""

from __future__ import annotations

import json
import secrets

from testbed.sites import until

# On the host: what differs from the digests in release.json. Wheels are unpacked, not kept.
ALTERED = r"""
import hashlib, json, pathlib, sys
release = pathlib.Path(sys.argv[1])
files = json.loads((release / "release.json").read_text())["files"]
kept = {name: digest for name, digest in files.items() if not name.startswith(("wheels/", "requirements"))}
paths = [release / "release.env", release / "sbom.cdx.json"]
paths += [*(release / "src").rglob("*"), *(release / "static").rglob("*")]
found = {str(path.relative_to(release)): path.read_bytes() for path in paths if path.is_file()}
altered = [name for name in kept if hashlib.sha256(found.get(name, b"gone")).hexdigest() != kept[name]]
print(json.dumps({"kept": len(kept), "altered": altered, "added": sorted(found.keys() - kept.keys())}))
"""


def test_public_readiness_names_the_active_release(web, active):
    answer = web.get("/readyz")
    assert answer.status == 200, answer.text[:500]
    assert answer.json() == {"status": "ready", "release": active}


def test_links_agree_on_the_active_release(host, app, active):
    assert host.file(f"/srv/{app}/current").linked_to == f"/srv/{app}/releases/{active}"
    assert host.file(f"/srv/{app}/upstream.sock").linked_to == f"/run/{app}/{active}.sock"


def test_releasectl_finds_no_problem(status):
    assert status["problems"] == []
    assert status["serving"]["ready"] is True
    assert status["locked_by"] is None


def test_one_instance_runs_and_starts_at_boot(host, app, active):
    loaded = host.check_output(
        f"systemctl list-units --all --plain --no-legend '{app}-*@*' | awk '$3 != \"inactive\" {{print $1}}'"
    ).split()
    kinds = ("beat", "flower", "web", "worker")
    units = sorted([*(f"{app}-{kind}@{active}.service" for kind in kinds), f"{app}-web@{active}.socket"])
    assert sorted(loaded) == units
    for unit in units:
        assert host.check_output(f"systemctl is-active {unit}") == "active"
        assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"


def test_release_is_what_its_archive_held(site, app, active):
    told = json.loads(site.sudo(f"python3 - /srv/{app}/releases/{active}", stdin=ALTERED.encode()))
    assert told["kept"] > 0
    assert (told["altered"], told["added"]) == ([], [])


def test_release_says_what_it_is(host, app, active):
    told = json.loads(host.file(f"/srv/{app}/releases/{active}/release.json").content_string)
    assert (told["schema"], told["id"], told["app"], told["wsgi"]) == (1, active, app, "inbox.wsgi:app")
    assert active.endswith(f"-{told['digest'][:7]}")
    assert (
        told["python"]
        == host.check_output("python3 -c 'import platform; print(platform.python_version())'")[:4]
    )


def test_migrations_stand_where_the_release_needs_them(host, app):
    asked = host.check_output(
        f"sudo -n -u {app} psql -tA -d {app} -c 'select version_num from alembic_version'"
    )
    assert asked.strip() != ""


def test_ledger_tells_how_it_came_to_serve(host, app, active):
    ledger = host.file(f"/srv/{app}/ledger.jsonl")
    assert (ledger.user, ledger.mode) == ("root", 0o644)
    entries = [json.loads(line) for line in ledger.content_string.splitlines()]
    done = [
        entry["command"] for entry in entries if entry.get("release") == active and entry["result"] == "done"
    ]
    assert {"stage", "activate"} <= set(done), entries
    for entry in entries:
        assert entry["by"], entry


def test_nothing_is_left_of_the_deploy(host, app):
    assert host.file(f"/srv/{app}/incoming").listdir() == []
    assert host.run(f"find /run/{app} -name '*.drain'").stdout == ""


def test_host_holds_no_compiler_and_no_git(host):
    for program in ("gcc", "cc", "git", "pip"):
        assert not host.exists(program), program


def test_webhook_sent_is_stored_processed_and_shown(host, app, site):
    """Over HTTPS through nginx and gunicorn into PostgreSQL, to the worker through the broker, and back."""
    word = f"order {secrets.token_hex(8)} \u00e9\u20ac\U0001f4e6 <b>"
    delivery_id = secrets.token_hex(8)
    sent = site.sender.send(delivery_id, {"ref": word})
    assert (sent.status, sent.json()["status"]) == (202, "accepted"), sent.text[:500]
    again = site.sender.send(delivery_id, {"ref": word})
    assert (again.status, again.json()["status"]) == (202, "duplicate"), again.text[:500]
    bearer = site.sender.bearer()
    address = f"/api/v1/messages/{sent.json()['id']}"
    assert until(20, lambda: site.web.get(address, headers=bearer).json()["status"] == "done"), site.web.get(
        address, headers=bearer
    ).text
    shown = site.web.get(address, headers=bearer).json()
    assert json.loads(shown["body"]) == {"ref": word}
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["done"]
    query = "select sum(count) from tally where source = 'github' and event = 'push'"
    assert int(host.check_output(f'sudo -n -u {app} psql -tA -d {app} -c "{query}"')) >= 1


def test_webhook_of_a_stranger_is_refused(web):
    answer = web.post_json("/hooks/github", {"ref": "refs/heads/main"})
    assert answer.status == 403, answer.text[:500]
    assert answer.headers["Content-Type"].startswith("application/problem+json")
