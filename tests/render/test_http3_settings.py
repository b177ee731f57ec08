"""What HTTP/3 asks of a host, refused by name where it is not there, and what the firewall opens for it.

Each case is a host of one inventory, so that all are tried in one run of Ansible; nothing is reached.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import yaml
from refusing import play, refusals
from rendering import ROOT

ON = {"nginx_http3_enabled": True}
PROXIED = {"nginx_trusted_proxy_header": "proxy_protocol", "nginx_trusted_proxies": ["192.0.2.0/29"]}
RIGHT = {
    "off-12": {"debian": "12"},
    "off-13": {"debian": "13"},
    "proxied-13": {"debian": "13", **PROXIED},
    "on-13": {"debian": "13", "nginx_https_port": 8443, **ON},
}
# What is given, and the words of the refusal.
REFUSED = {
    "on-12": ({"debian": "12", **ON}, ["the nginx of Debian 12 has no HTTP/3", "Debian 13"]),
    "relayed-13": ({"debian": "13", **PROXIED, **ON}, ["nginx_trusted_proxy_header is proxy_protocol"]),
}


def role(folder, name: str, tasks: list[dict]) -> None:
    """Write a role of the real one's values and templates, and of these tasks."""
    (folder / name / "tasks").mkdir(parents=True)
    for part in ("defaults", "vars", "templates"):
        (folder / name / part).symlink_to(ROOT / "roles" / name / part)
    (folder / name / "tasks/main.yml").write_text(yaml.safe_dump(tasks))


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> SimpleNamespace:
    """Run the role's own checks of the setting on every host, after its firewall's rules were written."""
    folder = tmp_path_factory.mktemp("http3")
    checks = yaml.safe_load((ROOT / "roles/nginx/tasks/preflight_clients.yml").read_text())
    mine = [task for task in checks if "nginx_http3_enabled" in str(task)]
    assert mine
    role(folder / "roles", "nginx", mine)
    rules = {"src": "app.nft.j2", "dest": f"{folder}/{{{{ inventory_hostname }}}}.nft"}
    role(folder / "roles", "firewall", [{"name": "Write", "ansible.builtin.template": rules}])
    facts = {"distribution_major_version": "{{ debian }}", "cacheable": True}
    pretend = {"name": "Pretend to be that host", "ansible.builtin.set_fact": facts}
    roles = ["firewall", "nginx"]
    look = {"name": "Look", "hosts": "all", "gather_facts": False, "pre_tasks": [pretend], "roles": roles}
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all").symlink_to(ROOT / "playbooks/group_vars")
    hosts = RIGHT | {name: given for name, (given, _words) in REFUSED.items()}
    shared = {"ansible_connection": "local", "app_name": "demo", "app_server_names": ["demo.example.org"]}
    groups = {"app_servers": {"hosts": dict.fromkeys(hosts)}}
    said = play(folder, [look], {"vars": shared, "hosts": hosts, "children": groups})
    return SimpleNamespace(
        refusals={name: refusals(said, name) for name in hosts},
        rules={name: (folder / f"{name}.nft").read_text() for name in hosts},
    )


def test_it_is_refused_where_nginx_has_none_and_with_the_proxy_protocol(ran):
    assert [name for name, words in ran.refusals.items() if words] == list(REFUSED)
    for name, (_given, words) in REFUSED.items():
        for word in [name, "nginx_http3_enabled", "Set nginx_http3_enabled: false", *words]:
            assert word in ran.refusals[name]


def test_firewall_opens_its_port_to_udp_there_alone(ran):
    opened = {
        name: re.findall(r"openings udp dport \{ (.*?) \} accept", rules) for name, rules in ran.rules.items()
    }
    assert opened["on-13"] == ["8443"]
    assert not any(opened[name] for name in RIGHT if name != "on-13")
