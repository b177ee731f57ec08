"""check_declaration: a misspelt variable stops the run, one of the user's own does not."""

from __future__ import annotations

import pytest

SPEC = """
argument_specs:
  main:
    short_description: x
    options:
      {role}_https_port: {{type: int, default: 443}}
      {role}_users: {{type: list, default: []}}
  deploy:
    options:
      {role}_archive: {{type: path}}
"""
REMOVED = "nginx_tls_port: nginx_https_port\n"


@pytest.fixture
def checked(project):
    for role in ("nginx", "app"):
        project.write(f"roles/{role}/meta/argument_specs.yml", SPEC.format(role=role))
    project.write("roles/nginx/meta/removed_variables.yml", REMOVED)
    project.write("roles/nginx/defaults/main.yml", "nginx_undeclared_default: 1\n__nginx_internal: 1\n")
    return project


def check(project, declared, *options, **arguments):
    project.write("inventory/group_vars/all.yml", declared)
    arguments = {"roles_path": "{{ playbook_dir }}/roles", **arguments}
    return project.play([{"name": "Check", "check_declaration": arguments}], *options)


def test_declared_and_foreign_variables_pass(checked):
    declared = """
nginx_https_port: 8443
nginx_archive: /x
app_users: []
__nginx_internal: 1
target_host_image: trixie
my_https: 1
web_https_port: 8443
vault_password_of_mine: x
"""
    run = check(checked, declared, "--check")
    assert run.code == 0, run.output
    assert run.last["checked"] == 7
    assert run.last["changed"] is False


def test_all_findings_are_named_at_once_with_file_and_remedy(checked):
    declared = "nginx_htps_port: 1\nngnix_https_port: true\nnginx_tls_port: 2\napp_zzz: 3\nnginx_users: []\n"
    run = check(checked, declared, "-e", "app_user=x")
    assert run.code == 2
    message = run.last["msg"]
    assert (
        "host web1: unknown variable `nginx_htps_port` in inventory/group_vars/all.yml:1,"
        " did you mean `nginx_https_port`?" in message
    )
    assert "unknown variable `ngnix_https_port` in inventory/group_vars/all.yml:2, did you mean" in message
    assert (
        "removed variable `nginx_tls_port` in inventory/group_vars/all.yml:3, use now: nginx_https" in message
    )
    assert "unknown variable `app_zzz` in inventory/group_vars/all.yml:4, no variable of role app" in message
    assert "unknown variable `app_user` in " in message
    assert "did you mean `app_users`?" in message
    assert len(run.last["unknown_variables"]) == 5


def test_allowed_name_passes(checked):
    run = check(checked, "nginx_team: blue\n", allow=["nginx_team"])
    assert run.code == 0, run.output


def test_roles_own_defaults_are_not_the_users(checked):
    checked.role("nginx", [{"check_declaration": {"roles_path": "{{ playbook_dir }}/roles"}}])
    run = checked.play(roles=["nginx"])
    assert run.code == 0, run.output


def test_host_and_play_variables_and_registered_names_are_looked_at(checked):
    checked.inventory["all"]["hosts"]["web1"]["nginx_usrs"] = []
    tasks = [
        {"ansible.builtin.set_fact": {"app_userz": []}},
        {"check_declaration": {"roles_path": "{{ playbook_dir }}/roles"}},
    ]
    run = checked.play(tasks, vars={"nginx_arhive": "/x"})
    assert [found["name"] for found in run.last["unknown_variables"]] == [
        "app_userz",
        "nginx_arhive",
        "nginx_usrs",
    ]


def test_folder_without_roles_is_an_error_not_a_pass(checked):
    run = check(checked, "a: 1\n", roles_path="/nonexistent")
    assert run.code == 2
    assert "no role with meta/argument_specs.yml in /nonexistent" in run.last["msg"]


ITEMS = """
argument_specs:
  main:
    options:
      app_checks:
        type: list
        elements: dict
        default: []
        options:
          check: {type: str, choices: [postgresql, redis, http]}
          timeout_seconds: {type: float}
"""


def test_keys_and_words_of_a_list_of_mappings_are_looked_at(checked):
    checked.write("roles/app/meta/argument_specs.yml", ITEMS)
    declared = """
app_checks:
  - {check: postgress}
  - {check: redis, timout_seconds: 2}
  - {check: carrier-pigeon}
  - {check: "{{ kind }}"}
kind: http
"""
    run = check(checked, declared)
    assert run.code == 2
    for words in (
        "unknown value 'postgress' of `app_checks, item 1, check` in inventory/group_vars/all.yml:2, did you"
        " mean `postgresql`?",
        "unknown key `app_checks, item 2, timout_seconds`",
        "did you mean `timeout_seconds`?",
        "it is one of http, postgresql, redis",
    ):
        assert words in run.last["msg"]
    assert len(run.last["unknown_variables"]) == 3


@pytest.mark.parametrize("value", ["[]", '"{{ others }}"', "[{check: http, timeout_seconds: 1}]", "[5]"])
def test_right_or_unfinished_lists_of_mappings_pass(checked, value):
    checked.write("roles/app/meta/argument_specs.yml", ITEMS)
    run = check(checked, f"app_checks: {value}\nothers: []\n")
    assert run.code == 0, run.output
