"""How a container is started on this machine or that, and what is said when it is not what is wanted."""

from __future__ import annotations

import pytest
from target_host import container, runtime
from target_host.inventory import Host, Inventory
from target_host.shell import TargetHostError

HOST = Host("app1", 2201, ("8443:8443",), image="localhost/x:1")
ALL = "CapEff:\t000001ffffffffff\n"
NO_RESOURCE = "CapEff:\t000001fffeffffff\n"
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             96365                96365                processes
Max open files            1024                 20000                files
"""


@pytest.fixture
def inventory(tmp_path):
    return Inventory(tmp_path / "t-one", (HOST,), tmp_path / "state")


def made(inventory, host=HOST, **labels):
    given = {
        option.removeprefix("--label=target_host.").partition("=")[0]: option.partition("=")[2].partition(
            "="
        )[2]
        for option in container.create_options(inventory, host, [])
        if option.startswith("--label=")
    }
    labels = {f"target_host.{key}": value for key, value in {**given, **labels}.items()}
    return container.Container("target-t-one-app1", "app1", running=True, labels=labels)


def test_root_with_every_capability_keeps_podmans_own_limits():
    assert runtime.limit_options(runtime.parse_facts(ALL + LIMITS, "4194304\n")) == []


def test_without_sys_resource_limits_stay_at_or_below_what_the_machine_allows():
    facts = runtime.parse_facts(NO_RESOURCE + LIMITS, "32768\n")
    assert runtime.limit_options(facts) == ["--ulimit=nofile=20000:20000", "--ulimit=nproc=32768:32768"]


def test_process_limit_below_pid_max_is_kept():
    facts = runtime.parse_facts(NO_RESOURCE + LIMITS, "4194304\n")
    assert runtime.limit_options(facts)[1] == "--ulimit=nproc=96365:96365"


def test_unlimited_processes_mean_pid_max():
    limits = LIMITS.replace("96365                96365    ", "unlimited            unlimited")
    assert runtime.parse_facts(NO_RESOURCE + limits, "32768\n").nproc == 32768


def test_container_is_not_privileged(inventory):
    options = container.create_options(inventory, HOST, [])
    assert not any(option.startswith("--privileged") for option in options)
    (dropped,) = (option for option in options if option.startswith("--cap-drop="))
    assert {"SYS_MODULE", "SYS_TIME", "SYS_BOOT"} <= set(dropped.partition("=")[2].split(","))


def test_every_port_is_published_on_the_loopback_alone(inventory):
    options = container.create_options(inventory, HOST, [])
    ports = [option for option in options if option.startswith("--publish=")]
    assert ports == ["--publish=127.0.0.1:2201:22", "--publish=127.0.0.1:8443:8443"]


def test_container_gets_the_address_its_host_asks_for(inventory):
    host = Host("app1", 2201, (), address="10.0.0.11")
    assert "--ip=10.0.0.11" in container.create_options(inventory, host, [])
    assert not any(option.startswith("--ip=") for option in container.create_options(inventory, HOST, []))


def test_network_is_made_around_the_addresses_its_hosts_ask_for(tmp_path):
    def asking(*addresses):
        hosts = tuple(Host(f"app{n}", 2201 + n, (), address=each) for n, each in enumerate(addresses))
        return container.network_options(Inventory(tmp_path / "t-one", hosts, tmp_path / "state"))

    assert asking(None, None) == []
    assert asking("10.0.0.11", None, "10.0.0.12") == ["--subnet=10.0.0.0/24"]
    with pytest.raises(TargetHostError, match=r"10\.0\.0\.0/24, 10\.0\.1\.0/24"):
        asking("10.0.0.11", "10.0.1.11")


def test_unchanged_container_is_worth_no_word(inventory):
    assert container.differences(inventory, HOST, made(inventory)) == []


def test_other_ports_are_refused_with_both_values_and_the_way_out(inventory):
    with pytest.raises(TargetHostError, match=r"2201:22,8443:8443.*2201:22,9443:8443") as refusal:
        container.differences(
            inventory, Host("app1", 2201, ("9443:8443",), image="localhost/x:1"), made(inventory)
        )
    assert f"make down INVENTORY={inventory.path} HOST=app1 && make up INVENTORY={inventory.path}" in str(
        refusal.value
    )


def test_other_debian_is_refused(inventory):
    with pytest.raises(TargetHostError, match="its debian: 13; the inventory's: 12"):
        container.differences(inventory, Host("app1", 2201, HOST.ports, 12, HOST.image), made(inventory))


def test_older_image_is_told_and_kept(inventory):
    (warning,) = container.differences(inventory, HOST, made(inventory, image="localhost/x:0"))
    assert "older image, and is kept" in warning


def test_container_of_another_checkout_is_not_touched(inventory, monkeypatch):
    labels = made(inventory, state_dir="/elsewhere/.local/t-one").labels
    listing = [{"Names": ["target-t-one-app1"], "State": "running", "Labels": labels}]
    monkeypatch.setattr(container, "run", lambda *_, **__: FakeResult(listing))
    with pytest.raises(TargetHostError, match=r"its? state is in /elsewhere|/elsewhere/\.local/t-one"):
        container.existing(inventory)


class FakeResult:
    returncode = 0
    stderr = ""

    def __init__(self, listing):
        import json

        self.stdout = json.dumps(listing)


@pytest.fixture
def hybrid_controllers(monkeypatch, tmp_path):
    """Return the file that lists what a machine left to the second kind of cgroups, not there yet."""
    path = tmp_path / "cgroup.controllers"
    monkeypatch.setattr(runtime, "HYBRID_CONTROLLERS_PATH", path)
    monkeypatch.delenv("TARGET_HOST_RUNTIME", raising=False)
    return path


def test_podman_chooses_where_cgroups_are_of_one_kind(hybrid_controllers):
    assert runtime.podman_options() == []
    hybrid_controllers.write_text("\n")
    assert runtime.podman_options() == []


def test_runc_is_taken_where_crun_refuses_hybrid_cgroups(hybrid_controllers):
    hybrid_controllers.write_text("hugetlb\n")
    assert runtime.podman_options() == ["--runtime", "runc"]


def test_runtime_a_person_names_is_taken(hybrid_controllers, monkeypatch):
    hybrid_controllers.write_text("hugetlb\n")
    monkeypatch.setenv("TARGET_HOST_RUNTIME", "crun")
    assert runtime.podman_options() == ["--runtime", "crun"]
