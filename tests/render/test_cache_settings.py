"""What is said of the cache is refused by name where nginx could not do it; without a path there is none.

Each case is a host of one inventory, so that all are tried in one run of Ansible; nothing is reached.
"""

from __future__ import annotations

import re

import pytest
import yaml
from refusing import assert_passed, assert_refused, play, slug
from rendering import ROOT

RIGHT = {
    "nothing": {},
    "the whole site": {"nginx_cache_paths": ["/"]},
    "two paths": {"nginx_cache_paths": ["/feed", "/api/v1.0/prices"], "nginx_cache_max_size": "2g"},
    "a short stay": {"nginx_cache_inactive": "30s"},
}
REFUSED = {
    "a path without a slash": (
        {"nginx_cache_paths": ["/a", "feed"]},
        ["nginx_cache_paths", '"feed"', "/feed"],
    ),
    "a path that ends in one": ({"nginx_cache_paths": ["/feed/"]}, ["nginx_cache_paths", '"/feed/"']),
    "a pattern": ({"nginx_cache_paths": ["/feed.*)"]}, ["nginx_cache_paths", "/feed.*)"]),
    "a path that climbs": ({"nginx_cache_paths": ["/a/.."]}, ["nginx_cache_paths", "/a/.."]),
    "a size without a unit": ({"nginx_cache_max_size": "256"}, ["nginx_cache_max_size", "'256'", "256m"]),
    "no room": ({"nginx_cache_max_size": "0m"}, ["nginx_cache_max_size", "'0m'"]),
    "a time without a unit": ({"nginx_cache_inactive": "10"}, ["nginx_cache_inactive", "'10'", "10m"]),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """Run the role's own checks of these settings on every host, and return all that was said."""
    folder = tmp_path_factory.mktemp("cache")
    role = folder / "roles/nginx"
    (role / "tasks").mkdir(parents=True)
    for part in ("defaults", "vars", "tasks/preflight_cache.yml"):
        (role / part).symlink_to(ROOT / "roles/nginx" / part)
    tasks = [{"name": "Look", "ansible.builtin.import_tasks": "preflight_cache.yml"}]
    (role / "tasks/main.yml").write_text(yaml.safe_dump(tasks))
    look = {"name": "Look", "hosts": "all", "gather_facts": False, "roles": ["nginx"]}
    cases = RIGHT | {name: given for name, (given, _words) in REFUSED.items()}
    hosts = {slug(name): given for name, given in cases.items()}
    return play(folder, [look], {"vars": {"ansible_connection": "local"}, "hosts": hosts})


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes(said, case):
    assert_passed(said, slug(case))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_naming_it_and_the_remedy(said, case):
    assert_refused(said, slug(case), REFUSED[case][1])


def test_only_who_names_a_path_has_a_cache(rendered):
    """Not even processes of nginx's that would look after one."""
    for host in rendered.hosts.values():
        caching = host.name.startswith(("cached", "odd"))
        place = host.read(f"/etc/nginx/sites-enabled/{host.app}.cache.conf")
        zones = re.findall(
            r"^proxy_cache_path /var/lib/nginx/(\S+) .*keys_zone=(\S+):4m$", place, re.MULTILINE
        )
        assert zones == ([(f"{host.app}.cache", f"{host.app}.cache")] if caching else []), host.name
        given = host.read(f"/etc/nginx/snippets/{host.app}.cache.conf")
        assert re.findall(r"^ *set \$cache_zone (\S+);", given, re.MULTILINE) == (
            ["off", f"{host.app}.cache", "off", "off"] if caching else ["off"]
        ), host.name


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        (
            "cached-12",
            ["/feed", "/feed/", "/feed/a.b", "/livez", "/a.b/c"],
            ["/", "/feeds", "/x/feed", "/aXb/c", "/FEED"],
        ),
        ("odd-12", ["/", "/feed", "/a/b"], []),
    ],
)
def test_path_means_itself_and_what_is_below_it(rendered, name, inside, outside):
    host = rendered.hosts[name]
    given = host.read(f"/etc/nginx/snippets/{host.app}.cache.conf")
    pattern = re.compile(re.search(r'if \(\$uri ~ "(.*)"\) \{\n    set \$cache_zone \S+\.cache;', given)[1])
    assert [path for path in inside if not pattern.search(path)] == []
    assert [path for path in outside if pattern.search(path)] == []
