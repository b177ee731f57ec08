"""Two inventories name one host: two apps side by side, and taking one away leaves the other as it was."""

from __future__ import annotations

import re
from types import SimpleNamespace

import further_apps
import pytest
from observing import failed_units, status_of, units_up
from testbed import durations

NAME = "notes-2"
DECLARATION = f"""
app_name: {NAME}
app_server_names: [{NAME}.localhost]
app_wsgi: app:app
app_required_secrets: []
"""
CODE = '''"""An app that imports nothing of this project."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def notes():
    return "notes of the second app"
'''


@pytest.fixture(scope="module")
def second(spare, tmp_path_factory):
    """Provision a second app on the host, by an inventory of its own; return it with what was seen."""
    source = tmp_path_factory.mktemp("second") / NAME
    source.mkdir()
    (source / "app.py").write_text(CODE)
    (source / "requirements.txt").write_text("flask\n")
    app = further_apps.declare(
        spare, DECLARATION, {"app_source": str(source)}, groups=("app_servers", "databases", "brokers")
    )
    seen = SimpleNamespace(
        inventory=app.inventory,
        web=app.web,
        pids=[spare.pids()],
        active=status_of(spare)["active"],
        openings=openings(spare),
    )
    app.provision()
    seen.pids.append(spare.pids())
    return seen


def test_second_app_leaves_the_firsts_processes_alone(second):
    assert second.pids[1] == second.pids[0]


def test_both_apps_answer_by_their_names(spare, second):
    assert second.web.get("/").text == "notes of the second app"
    assert "<h1>" in spare.web.get("/").text
    assert second.web.get("/api/v1/messages").status == 404
    assert second.web.get("/readyz").json()["status"] == "ready"


def test_metrics_of_each_app_are_its_own(spare, second):
    for name, port in ((spare.web.name, 9180), (second.web.name, 9180)):
        shown = spare.sudo(f"curl -sS -H 'Host: {name}' http://127.0.0.1:{port}/readyz")
        release = status_of(spare, name.partition(".")[0])["active"]
        assert release in shown, (name, shown)


def test_apps_do_not_reach_each_others_data(spare, second):
    for user, other in ((spare.app, NAME), (NAME, spare.app)):
        refused = spare.host.run(f"sudo -n -u {user} psql -d {other} -c 'select 1'")
        assert refused.rc != 0, (user, other)
        for path in (f"/etc/{other}/app.env", f"/srv/{other}/shared", f"/srv/{other}/deps"):
            assert spare.host.run(f"sudo -n -u {user} find {path} -type f -exec head -c1 {{}} +").rc != 0, (
                path
            )


def openings(site):
    """Return what the firewall lets in, as `app: what`."""
    return set(re.findall(r'comment "(.*?)"', site.sudo("nft list chain inet firewall openings")))


def test_each_app_opens_its_own_and_keeps_the_others_open(spare, second):
    assert {f"{spare.app}: ssh", f"{spare.app}: site"} <= second.openings
    assert openings(spare) - second.openings == {f"{NAME}: ssh", f"{NAME}: site"}
    assert second.openings <= openings(spare)


def test_each_inventory_finds_nothing_to_change(spare, second):
    for inventory, label in ((None, "first"), (second.inventory, "second")):
        play = spare.play("site", inventory=inventory, label=f"site.yml of the {label} app again").ok()
        assert play.changed == 0, play.changed_tasks
    assert spare.pids() == second.pids[0]


@pytest.fixture(scope="module")
def removed(spare, second):
    """Take the second app away; return what was seen."""
    spare.sudo(f"touch /srv/{NAME}/shared/kept", user=NAME)
    unasked = spare.play("remove", inventory=second.inventory, label="remove without saying what")
    active = status_of(spare, NAME)["active"]
    play = spare.play(
        "remove",
        inventory=second.inventory,
        extra={"app_remove_confirmed": NAME},
        label="remove the second app",
    )
    durations.record(f"{spare.name} remove.yml", play.seconds)
    return SimpleNamespace(unasked=unasked, active=active, play=play)


def test_removal_wants_the_apps_name(removed):
    assert removed.unasked.returncode == 2
    assert f"app_remove_confirmed={NAME}" in removed.unasked.words, removed.unasked.tail()
    assert removed.active, "the app that was not named is gone"


def test_removed_app_is_gone(spare, removed):
    removed.play.ok()
    assert units_up(spare, NAME) == []
    left = spare.sudo(
        f"ls -d /etc/systemd/system/{NAME}* /etc/systemd/system/*.wants/{NAME}* /etc/nginx/*/{NAME}* "
        f"/srv/{NAME}/releases /srv/{NAME}/current /run/{NAME} /etc/releasectl/{NAME}* 2>/dev/null || true"
    )
    assert left == ""


def test_removed_app_leaves_the_way_to_log_in_open_alone(spare, second, removed):
    assert openings(spare) == second.openings | {f"{NAME}: ssh"}


def test_removed_app_answers_nobody(second, removed):
    with pytest.raises(OSError, match=r"(?i)unrecognized.name"):
        second.web.get("/")


def test_what_cannot_be_made_again_is_kept(spare, removed):
    assert spare.sudo(f"ls /srv/{NAME}/shared").split() == ["kept"]
    assert NAME in spare.sudo("psql -tAc 'select datname from pg_database'", user="postgres").split()
    spare.sudo(f"test -s /srv/{NAME}/ledger.jsonl")
    assert f"dropdb {NAME}" in removed.play.words, removed.play.tail()


def test_first_app_is_untouched_by_the_removal(spare, second, removed):
    assert spare.pids() == second.pids[0]
    assert spare.web.get("/readyz").json() == {"status": "ready", "release": second.active}
    assert failed_units(spare) == ""
    assert status_of(spare)["problems"] == []


def test_first_inventory_finds_nothing_to_change_after_the_removal(spare, removed):
    play = spare.play("site", label="site.yml of the first app after the removal").ok()
    assert play.changed == 0, play.changed_tasks
