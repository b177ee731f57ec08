"""What an inventory may say about a target host, and what is refused."""

from __future__ import annotations

import json
import shlex

import pytest
from target_host import inventory
from target_host.shell import PROJECT_DIR, TargetHostError

PLAIN = {"ansible_port": 2201, "target_host_ports": ["8443:8443"]}


def test_only_hosts_with_published_ports_are_ours():
    hosts = inventory.parse({"app1": PLAIN, "elsewhere": {"ansible_host": "192.0.2.1"}})
    assert [host.name for host in hosts] == ["app1"]


def test_empty_list_of_ports_still_makes_a_target_host():
    (host,) = inventory.parse({"db1": {"ansible_port": 2202, "target_host_ports": []}})
    assert host.ports == ()


def test_debian_13_unless_said_otherwise():
    hosts = inventory.parse(
        {"a": PLAIN, "b": {"ansible_port": 2202, "target_host_ports": [], "target_host_debian": 12}}
    )
    assert [host.debian for host in hosts] == [13, 12]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ansible_port", None),
        ("ansible_port", "2201"),
        ("ansible_port", True),
        ("ansible_port", 70000),
        ("target_host_ports", "8443:8443"),
        ("target_host_ports", [1342]),  # what YAML makes of an unquoted 22:22
        ("target_host_ports", ["0.0.0.0:8443:8443"]),
        ("target_host_ports", ["8443:70000"]),
        ("target_host_ports", ["{{ port }}:8443"]),
        ("target_host_debian", 11),
        ("target_host_debian", "13"),
        ("base_address", "10.0.0.300"),
    ],
)
def test_unusable_value_is_refused_by_the_names_of_host_and_variable(variable, value):
    with pytest.raises(TargetHostError, match=rf"^app1: {variable} is "):
        inventory.parse({"app1": {**PLAIN, variable: value}})


def test_port_claimed_twice_is_refused_with_both_names():
    with pytest.raises(TargetHostError, match="8443 is claimed by app1 and by app2"):
        inventory.parse({"app1": PLAIN, "app2": {"ansible_port": 2202, "target_host_ports": ["8443:443"]}})


@pytest.mark.parametrize("name", ["App1", "app_1", "-app", "a" * 41, "a/b"])
def test_name_that_podman_or_dns_would_not_take_is_refused(name):
    with pytest.raises(TargetHostError, match="lower-case"):
        inventory.parse({name: PLAIN})


def test_inventory_is_named_by_its_folder(tmp_path):
    folder = tmp_path / "t-deploy"
    folder.mkdir()
    (folder / "hosts.yml").write_text("{}")
    assert inventory.inventory_name(folder) == inventory.inventory_name(folder / "hosts.yml") == "t-deploy"
    assert inventory.state_dir_of(folder) == PROJECT_DIR / ".local/t-deploy"


def test_written_inventory_pins_keys_and_keeps_checking_them(tmp_path):
    state_dir = tmp_path / "with space"
    path = inventory.write_inventory(
        tmp_path / "t-one",
        {"a": PLAIN},
        groups={"app_servers": ["a"]},
        group_vars={"x": 1},
        state_dir=state_dir,
    )
    everything = json.loads((path / "hosts.yml").read_text())["all"]
    arguments = shlex.split(everything["vars"]["ansible_ssh_common_args"])
    assert f'UserKnownHostsFile="{state_dir}/ssh/known_hosts"' in arguments
    assert "StrictHostKeyChecking=yes" in arguments
    assert everything["vars"]["x"] == 1
    assert everything["children"] == {"app_servers": {"hosts": {"a": {}}}}


def test_unknown_host_is_answered_with_those_that_exist(tmp_path):
    hosts = inventory.parse({"app1": PLAIN})
    with pytest.raises(TargetHostError, match="it has: app1"):
        inventory.Inventory(tmp_path / "t", hosts, tmp_path).host("app2")
