"""Two inventories name one database's host for apps on others: neither undoes what the other needs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from target_host import api
from testbed import plays, sites

NAME = "notes"


def lines(site, command):
    """Return what a command prints, in lines."""
    return site.sudo(command).splitlines()


def doors(site):
    """Return who may come to PostgreSQL over the network: database, role, address."""
    asked = "SELECT database[1], user_name[1], address FROM pg_hba_file_rules WHERE type = 'hostssl'"
    return site.sudo(f'psql -tA -c "{asked}"', user="postgres").split()


def users(site):
    """Return Redis's users."""
    words = "REDISCLI_AUTH=$(cat /etc/redis-credentials/default) redis-cli -s /run/redis/redis.sock acl users"
    return sorted(lines(site, words))


def let_in(site):
    """Return how many addresses the kernel lets in to Redis."""
    return site.sudo("nft list set inet redis_clients v4").count("10.213.")


def second_inventory(fleet, groups, name=NAME):
    """Write the inventory of a second app that the fleet's hosts serve, and return it."""
    members = [site.declaration for site in fleet.sites]
    variables = {**fleet.data.vars, "app_name": name, "app_server_names": [f"{name}.localhost"]}
    return api.write_inventory(
        sites.INVENTORY_DIR / f"{fleet.data.declaration.fleet_name}-{name}",
        {member.name: member.host_vars() for member in members},
        groups=groups,
        group_vars=variables,
        state_dir=fleet.data.state_dir,
    )


@pytest.fixture(scope="module")
def shared(fleet):
    """Bring a second app's part to the host of the database and Redis, and take it away again."""
    inventory = second_inventory(
        fleet, {"app_servers": ["app2"], "databases": ["data1"], "brokers": ["data1"]}
    )
    seen = SimpleNamespace(inventory=inventory, pids=[fleet.data.pids()])
    parts = ("--tags", "postgresql,redis")
    seen.second = plays.run(inventory, "site", parts, name="f-notes", say=fleet.say, label="a second app")
    seen.pids.append(fleet.data.pids())
    seen.doors, seen.users = doors(fleet.data), users(fleet.data)
    seen.first = fleet.play("site", *parts, label="the first app's parts again")
    return seen


def test_each_app_has_its_own_way_in(shared, fleet):
    shared.second.ok()
    own = {f"{fleet.app}|{fleet.app}|{site.declaration.address}" for site in fleet.apps}
    assert set(shared.doors) == own | {f"{NAME}|{NAME}|{fleet.apps[1].declaration.address}"}
    assert shared.users == ["default", fleet.app, NAME]


def test_second_inventory_restarts_neither_database_nor_redis(shared):
    assert shared.pids[1] == shared.pids[0]


def test_first_inventory_finds_nothing_to_change(shared):
    assert shared.first.ok().changed == 0, shared.first.changed_tasks


def test_app_of_the_databases_own_host_stays_on_its_socket(shared, fleet):
    """It declares no other host, and must not take the way in from the others."""
    inventory = second_inventory(fleet, {"app_servers": ["data1"], "databases": ["data1"]}, name="local")
    parts = ("--tags", "postgresql")
    play = plays.run(inventory, "site", parts, name="f-local", say=fleet.say, label="a local app").ok()
    assert "Restart postgresql" not in play.output
    assert doors(fleet.data) == shared.doors
    again = fleet.play("site", *parts, label="the first app's database again").ok()
    assert again.changed == 0, again.changed_tasks


def test_app_that_would_use_redis_without_a_password_is_refused(fleet, shared):
    inventory = second_inventory(fleet, {"app_servers": ["data1"], "brokers": ["data1"]}, name="local")
    play = plays.run(
        inventory, "site", ("--tags", "redis"), name="f-local", say=fleet.say, label="no password"
    )
    assert play.returncode == 2
    assert "its socket, without a password" in play.words, play.tail()
    assert play.changed == 0


def test_removed_app_comes_in_no_more_and_the_other_does(fleet, shared):
    plays.run(
        shared.inventory,
        "remove",
        ("--limit", "data1"),
        name="f-notes",
        extra={"app_remove_confirmed": NAME},
        say=fleet.say,
        label="remove the second app",
    ).ok()
    assert {door.partition("|")[0] for door in doors(fleet.data)} == {fleet.app}
    assert users(fleet.data) == ["default", fleet.app]
    assert let_in(fleet.data) == len(fleet.apps)
    assert fleet.apps[1].web.get("/readyz").status == 200
    kept = fleet.data.sudo("psql -tAc 'SELECT datname FROM pg_database'", user="postgres").split()
    assert NAME in kept
