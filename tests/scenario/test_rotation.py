"""A secret changes without a new release: nobody is refused, and nobody is signed out before time."""

from __future__ import annotations

import json
import secrets
from types import SimpleNamespace

import pytest
from load import Load
from observing import status_of
from relaying import sign_in

pytestmark = pytest.mark.long

FOLDER = "/etc/APP/credentials.encrypted"


def seen(site, visitor) -> dict[str, int]:
    """Return how the pages and the API answer to what a visitor was given."""
    return {
        "session": site.web.get("/admin/health", headers=visitor.session).status,
        "token": site.web.get("/api/v1/messages", headers=visitor.token).status,
    }


def visit(site) -> SimpleNamespace:
    """Sign in to pages and API."""
    session = sign_in(site.web, site.sender.secret("admin_password"))
    return SimpleNamespace(session=session, token=site.sender.bearer())


@pytest.fixture(scope="module")
def rotated(spare, tmp_path_factory):
    """Change the secret key under load, the old one still good; then take the old one away."""
    names = [path.name for path in (spare.state_dir / "secrets").iterdir()]
    held = {name: spare.sender.secret(name) for name in names}
    given = {**held, "secret_key": secrets.token_hex(32), "secret_key_fallbacks": [held["secret_key"]]}
    # In a file: everybody on this machine may read a command line.
    path = tmp_path_factory.mktemp("rotation") / "vars.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"app_secrets": given}))
    story = SimpleNamespace(before=status_of(spare)["active"], early=visit(spare))
    with Load(spare) as load:
        story.play = spare.play(
            "site", "--tags=app", f"--extra-vars=@{path}", label="site.yml with a new key"
        ).ok()
    story.load, story.after = load, status_of(spare)["active"]
    story.late = visit(spare)
    story.between = {"early": seen(spare, story.early), "late": seen(spare, story.late)}
    # The inventory holds the old key alone: the new one was never good for long.
    story.back = spare.play("site", "--tags=app", label="site.yml with the key of before").ok()
    story.at_last = {"early": seen(spare, story.early), "late": seen(spare, story.late)}
    return story


GOOD = {"session": 200, "token": 200}


def test_secret_is_read_without_a_new_release(rotated):
    assert rotated.after == rotated.before
    assert "app : Restart app" in str(rotated.play.changed_tasks)


def test_no_request_is_lost_to_a_changed_secret(rotated):
    assert rotated.load.failures == [], rotated.load.words


def test_nobody_is_signed_out_by_a_changed_key(rotated):
    assert rotated.between == {"early": GOOD, "late": GOOD}


def test_key_that_was_taken_away_is_good_for_nothing(rotated):
    assert rotated.at_last == {"early": GOOD, "late": {"session": 302, "token": 401}}


def test_secret_that_is_declared_no_more_is_moved_aside_encrypted(spare, rotated):
    folder = FOLDER.replace("APP", spare.app)
    assert "secret_key_fallbacks" not in spare.sudo(f"ls {folder}").split()
    kept = spare.sudo(f"ls /var/backups/mirror/*{folder}/secret_key_fallbacks").split()
    assert kept
    old = spare.sender.secret("secret_key")
    assert old not in spare.sudo(f"cat {kept[-1]}")
    assert spare.sudo(f"systemd-creds decrypt --name=app_secret_key_fallbacks {kept[-1]} -") == old


# A site of somebody else's, which logs where nginx's sandbox lets nobody write.
LEGACY = "server { listen 127.0.0.1:9997; access_log /srv/legacy-of-tests.log; return 204; }\n"
DROP_IN = "/etc/systemd/system/nginx.service.d/50-sandbox.conf"


@pytest.fixture(scope="module")
def refused(spare):
    """Install nginx's sandbox on a host where nginx needs more than it lets it."""
    site = "/etc/nginx/sites-enabled/legacy-of-tests.conf"
    spare.sudo(f"cat > {site} && rm {DROP_IN} && systemctl daemon-reload", stdin=LEGACY.encode())
    spare.sudo("systemctl restart nginx")
    yield spare.play("site", "--tags=nginx", label="site.yml with a sandbox that nginx cannot work in")
    spare.sudo(
        f"rm -f {site} /srv/legacy-of-tests.log; mv {DROP_IN}.refused {DROP_IN}; systemctl daemon-reload"
    )
    spare.sudo("systemctl restart nginx")


def test_sandbox_a_service_does_not_answer_under_is_taken_off(spare, refused):
    assert refused.returncode == 2, refused.tail()
    for word in ("nginx.service does not answer", f"{DROP_IN}.refused", "Without it, it answers"):
        assert word in refused.words, refused.tail()
    assert spare.web.get("/readyz").status == 200
    assert spare.sudo("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9997/") == "204"
    assert spare.sudo("systemctl show --value -p ProtectSystem nginx").strip() == "no"
