"""Each law finds the defect it is there for: spoil one place of the tree, and the law names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import test_addresses
import test_alerts
import test_dashboards
import test_documents
import test_file_sizes
import test_handler_rules
import test_mirror_trees
import test_playbook_syntax
import test_prometheus_contract
import test_role_contracts
import test_role_variables
import test_secrets
import test_task_rules
import test_time_limits
from bundle import Bundle

MODULES = [
    test_addresses,
    test_alerts,
    test_dashboards,
    test_documents,
    test_file_sizes,
    test_handler_rules,
    test_mirror_trees,
    test_prometheus_contract,
    test_role_contracts,
    test_role_variables,
    test_secrets,
    test_task_rules,
    test_time_limits,
]
LAWS = {
    name: function.findings
    for module in MODULES
    for name, function in vars(module).items()
    if hasattr(function, "findings")
}
# In pieces, so that the laws do not find it here.
PRIVATE_KEY = "-----BEGIN " + "PRIVATE KEY-----\n"
TRUST_ANYBODY = "StrictHostKeyChecking=" + "no"
HOME_PATH = "/home" + "/me/app"


@dataclass(frozen=True)
class Spoil:
    """One defect: a piece of a file replaced, or text added at its end; a law's finding holds `says`."""

    law: str
    path: str
    old: str | None = None
    new: str = ""
    says: str = ""

    @property
    def id(self) -> str:
        return f"{self.law.removeprefix('test_')}-{self.path}-{self.says or self.new.strip()[:30]}"

    def apply(self, text: str) -> str:
        if self.old is None:
            return text + self.new
        assert re.search(self.old, text), (
            f"{self.path} holds no {self.old!r} any more: choose another piece to spoil"
        )
        return re.sub(self.old, lambda _match: self.new, text, count=1)


def after(path: str, text: str, law: str, says: str = "") -> Spoil:
    """Spoil a file by text at its end."""
    return Spoil(law, path, None, text, says)


def task(text: str, law: str, says: str = "", path: str = "roles/redis/tasks/service.yml") -> Spoil:
    """Spoil a role by one task more."""
    return after(path, f"\n{text}\n", law, says)


AGREE = "test_defaults_and_argument_spec_agree_in_keys_and_values"
ALIAS = "test_every_entry_point_is_an_alias_of_main"
MAIN = "test_main_is_only_the_list_of_fixed_verbs"
NOUN = "test_one_noun_names_role_tag_and_test"
PREFIX = "test_every_variable_begins_with_its_roles_name"
FOREIGN = "test_a_role_reads_no_other_roles_variables"
DECLARED = "test_every_variable_a_role_reads_is_declared"
CHANGED = "test_every_command_says_when_it_changed_something"
READS = "test_only_commands_that_read_never_change_anything"
MODES = "test_modes_are_quoted_octal_strings"
NAMES = "test_every_task_and_play_has_a_name_that_begins_with_a_capital"
TESTED = "test_nginx_is_tested_before_it_is_reloaded"
MIRROR = "test_every_mirror_file_is_installed_by_exactly_one_role"
LEVEL = "test_jinja_in_mirror_files_stays_at_one_level_of_if"
NEST = "test_time_limits_nest_from_nginx_to_systemd"
SECRETS = "test_tasks_that_handle_secrets_log_nothing"
KEYS = "test_host_keys_are_always_checked"
LOCKS = "test_locks_carry_hashes_and_no_index"
LINKS = "test_links_lead_somewhere"
FAMILIES = "test_document_names_every_family_with_its_type_and_labels"
DRAWN = "test_dashboards_are_what_the_generator_draws"
BOARDS = "grafana/dashboards/"
SHOWS = "test_every_panel_says_what_it_shows"
TOLD_APART = "test_every_dashboard_is_told_from_the_others"
CHOOSE = "test_every_dashboard_lets_choose_source_app_and_host"
PROMQL = "test_every_expression_of_a_dashboard_parses"
ASKS = "test_dashboards_ask_for_nothing_the_document_does_not_name"
OTHERS = "test_document_names_the_series_of_others_that_are_read"
LIES = "test_no_panel_lies_on_another"
SAYS = "test_every_alert_says_how_urgent_it_is_and_what_it_means"
RUNBOOK = "test_every_alert_has_a_runbook"
BOTH = "test_every_alert_is_tested_to_fire_and_to_stay_quiet"

SPOILS = [
    Spoil(SAYS, "prometheus/rules/web.yml", "severity: page", "severity: urgent", "SiteDown is urgent"),
    Spoil(SAYS, "prometheus/rules/data.yml", "description: More.*", "more: x", "has no description"),
    Spoil(RUNBOOK, "prometheus/rules/web.yml", "SiteDown.md", "Site.md", "runbook_url of SiteDown"),
    Spoil(RUNBOOK, "docs/runbooks/SiteDown.md", "## How to undo", "## Undo", "wants the sections"),
    Spoil(RUNBOOK, "docs/runbooks/HostDown.md", "Nothing is changed.", "", "nothing stands below"),
    after("docs/runbooks/Ghost.md", "# Ghost\n", RUNBOOK, "is about no alert"),
    Spoil(BOTH, "tests/render/alerts/HostDown.yml", "name: quiet", "name: calm", "of HostDown"),
    Spoil(
        BOTH, "tests/render/alerts/HostDown.yml", "exp_alerts: .{exp_.*\n", "exp_alerts: []}\n", "of HostDown"
    ),
    after("tests/render/alerts/Ghost.yml", "tests: []\n", BOTH, "is about no alert"),
    Spoil(AGREE, "roles/redis/defaults/main.yml", "256mb", "512mb", "redis_maxmemory is '512mb'"),
    Spoil(
        AGREE,
        "roles/nginx/defaults/main.yml",
        "nginx_http_port: 80\n",
        'nginx_http_port: "80"\n',
        "nginx_http_port",
    ),
    Spoil(
        AGREE,
        "roles/redis/defaults/main.yml",
        r"redis_socket_path: .*\n",
        "",
        "redis_socket_path has no line",
    ),
    after("roles/redis/defaults/main.yml", "redis_unknown: 1\n", AGREE, "redis_unknown is not in"),
    after(
        "roles/app/defaults/main.yml", "app_name: inbox\n", AGREE, "app_name is required, and has a default"
    ),
    Spoil(
        ALIAS,
        "roles/redis/meta/argument_specs.yml",
        r"preflight: \*redis",
        "preflight: {options: {}}",
        "preflight is written out",
    ),
    Spoil(
        ALIAS,
        "roles/redis/meta/argument_specs.yml",
        r"preflight: \*redis",
        "ghost: *redis",
        "no tasks/ghost.yml",
    ),
    Spoil(
        "test_role_readmes_are_written_from_the_spec",
        "roles/redis/README.md",
        "256mb",
        "1mb",
        "roles/redis/README.md",
    ),
    task("- name: Work\n  ansible.builtin.debug:", MAIN, "main.yml holds", "roles/redis/tasks/main.yml"),
    Spoil(MAIN, "roles/redis/tasks/main.yml", "install.yml", "deploy.yml", "none of the verbs"),
    Spoil(
        MAIN,
        "roles/redis/tasks/main.yml",
        "(?s)configure.yml(.*)service.yml",
        "service.yml\n\n- name: Late\n  ansible.builtin.import_tasks: configure.yml",
        "order them",
    ),
    after(
        "roles/redis/tasks/orphan.yml", "---\n", "test_every_task_file_is_entered_by_somebody", "orphan.yml"
    ),
    Spoil(
        "test_every_task_file_is_entered_by_somebody",
        "playbooks/rollback.yml",
        "tasks_from: rollback",
        "tasks_from: back",
        "back.yml",
    ),
    Spoil(NOUN, "playbooks/site.yml", r"tags: \[redis\]", "tags: [broker]", "tag it [redis]"),
    Spoil(NOUN, "roles/redis/meta/main.yml", "role_name: redis", "role_name: broker", "role_name is broker"),
    after("roles/ghost/tasks/main.yml", "---\n", NOUN, "tests/target/test_ghost.py"),
    after(
        "playbooks/group_vars/all.yml",
        "redis_memory: 1mb\n",
        "test_wiring_hands_over_only_what_a_role_declares",
        "redis_memory",
    ),
    after("roles/redis/defaults/main.yml", "memory: 1\n", PREFIX, "call it redis_memory"),
    after("roles/redis/vars/main.yml", "redis_internal: 1\n", PREFIX, "call it __redis_internal"),
    task(
        "- name: Look\n  ansible.builtin.stat: {path: /x}\n  register: redis_seen",
        PREFIX,
        "register redis_seen",
    ),
    task("- name: Set\n  ansible.builtin.set_fact: {seen: 1}", PREFIX, "set_fact seen"),
    Spoil(
        PREFIX, "playbooks/status.yml", "(?s)register: __release_words", "register: words", "register words"
    ),
    task('- name: Peek\n  ansible.builtin.debug: {msg: "{{ nginx_http_port }}"}', FOREIGN, "nginx_http_port"),
    task("- name: Peek\n  ansible.builtin.debug: {}\n  when: __app_root == '/'", FOREIGN, "__app_root"),
    after("nginx/conf.d/limits.conf.j2", "# {{ app_name }}\n", FOREIGN, "nginx/conf.d/limits.conf.j2"),
    task(
        '- name: Peek\n  ansible.builtin.debug: {msg: "{{ redis_maxmemroy }}"}', DECLARED, "redis_maxmemroy"
    ),
    task('- name: Peek\n  ansible.builtin.debug: {msg: "{{ nowhere }}"}', DECLARED, "nowhere"),
    Spoil(
        "test_every_default_is_read_by_somebody",
        "roles/postgresql/templates/postgresql.conf.j2",
        r"shared_buffers = \{\{.*\}\}",
        "shared_buffers = 1MB",
        "postgresql_shared_buffers",
    ),
    task("- name: Run\n  ansible.builtin.command: redis-cli flushall", CHANGED, "has no changed_when"),
    task(
        "- name: Run\n  ansible.builtin.shell: redis-cli flushall\n  changed_when: false",
        READS,
        "redis-cli flushall",
    ),
    task(
        "- name: Run\n  ansible.builtin.command: systemctl restart x\n  changed_when: false",
        READS,
        "systemctl restart",
    ),
    task("- name: Copy\n  copy: {src: a, dest: /b}", "test_every_module_is_named_in_full", "copy is neither"),
    Spoil(MODES, "roles/redis/tasks/configure.yml", 'mode: "0640"', "mode: 0640", "mode 416"),
    Spoil(MODES, "roles/app/tasks/configure.yml", 'mode: "0700"', "mode: 700", "mode 700"),
    task("- ansible.builtin.debug: {}", NAMES, "has no name"),
    task("- name: start it\n  ansible.builtin.debug: {}", NAMES, "start it"),
    after(
        "roles/redis/handlers/main.yml",
        "\n- name: Forget redis\n  ansible.builtin.debug:\n",
        "test_every_handler_is_notified",
        "Forget redis",
    ),
    Spoil(
        "test_every_notify_resolves_within_its_role",
        "roles/redis/tasks/configure.yml",
        "notify: Restart redis",
        "notify: Restart Redis",
        "Restart Redis",
    ),
    Spoil(
        "test_handlers_carry_their_roles_name",
        "roles/redis/handlers/main.yml",
        "name: Restart redis",
        "name: Restart the broker",
        "Restart the broker",
    ),
    Spoil(TESTED, "roles/nginx/handlers/main.yml", "nginx -t -q", "true", "comes before `nginx -t`"),
    Spoil(TESTED, "roles/nginx/handlers/main.yml", r"  listen: \[.*\n", "", "comes before `nginx -t`"),
    Spoil(
        "test_every_role_flushes_its_handlers_at_its_end",
        "roles/redis/tasks/service.yml",
        r"(?s)- name: Apply what changed.*$",
        "",
        "roles/redis",
    ),
    after("nginx/conf.d/extra.conf", "gzip on;\n", MIRROR, "no role installs it"),
    after("systemd/README.md", "words\n", MIRROR, "systemd/README.md"),
    Spoil(MIRROR, "roles/nginx/vars/main.yml", "conf.d/tls.conf", "conf.d/ssl.conf", "not in the tree"),
    Spoil(
        MIRROR,
        "roles/base/tasks/configure.yml",
        r"50-limits.conf\]",
        "50-limits.conf, system/app-web@.socket]",
        "leave it to one role",
    ),
    Spoil(
        "test_roles_reach_the_mirror_by_links",
        "roles/nginx/tasks/configure.yml",
        "dest: /etc/nginx",
        "dest: /usr/nginx",
        "/usr/nginx",
    ),
    after("nginx/conf.d/logging.conf", "# {{ x }}\n", "test_only_templates_end_in_j2", "add .j2"),
    Spoil(
        "test_only_templates_end_in_j2",
        "systemd/journald.conf.d/50-limits.conf.j2",
        "(?s).*",
        "[Journal]\n",
        "drop .j2",
    ),
    after("nginx/nginx.conf.j2", "{% for x in y %}{% endfor %}\n", LEVEL, "for"),
    after(
        "roles/app/templates/unit_frame.j2",
        "{% if a %}{% if b %}{% endif %}{% endif %}\n",
        LEVEL,
        "inside another",
    ),
    Spoil(
        NEST,
        "roles/app/defaults/main.yml",
        "app_web_keepalive_seconds: 5",
        "app_web_keepalive_seconds: 1",
        "gunicorn's keepalive is 1 s",
    ),
    Spoil(
        NEST,
        "nginx/sites-enabled/app.conf.j2",
        r"keepalive_timeout \{\{.*\}\}",
        "keepalive_timeout 1m",
        "gunicorn's keepalive is 5 s",
    ),
    Spoil(
        NEST,
        "systemd/system/app-web@.service.j2",
        "TimeoutStopSec=.*",
        "TimeoutStopSec=30s",
        "TimeoutStopSec is 30 s",
    ),
    Spoil(
        NEST,
        "roles/app/vars/main.yml",
        r"app_stop_timeout_seconds \+ 5",
        "app_stop_timeout_seconds",
        "releasectl's stop timeout",
    ),
    Spoil(
        "test_releasectl_waits_longer_than_a_worker_may_finish_its_tasks",
        "roles/app/vars/main.yml",
        r"app_worker_stop_timeout_seconds \+ 5",
        "app_worker_stop_timeout_seconds",
        "releasectl's is 120 s",
    ),
    Spoil(
        "test_nginx_waits_longer_than_a_stopping_release_may_take",
        "roles/nginx/defaults/main.yml",
        "nginx_proxy_timeout: 60s",
        "nginx_proxy_timeout: 20s",
        "proxy_read_timeout is 20 s",
    ),
    Spoil(
        "test_time_limits_of_a_request_nest_from_the_database_to_nginx",
        "roles/app/defaults/main.yml",
        "app_request_deadline_seconds: 25",
        "app_request_deadline_seconds: 20",
        "the request's deadline is 20 s",
    ),
    Spoil(
        "test_flask_ops_reads_every_gunicorn_setting_the_host_gives",
        "roles/app/vars/main.yml",
        "GUNICORN_WORKERS:",
        "GUNICORN_ARBITERS:",
        "GUNICORN_ARBITERS",
    ),
    after("roles/redis/tasks/main.yml", "#\n" * 60, "test_a_roles_main_fits_one_screen", "roles/redis"),
    after(
        "roles/redis/tasks/install.yml",
        "#\n" * 120,
        "test_task_files_stay_near_a_hundred_lines",
        "roles/redis",
    ),
    after(
        "systemd/system/app-web@.socket.j2",
        "#\n" * 70,
        "test_units_and_nginx_files_fit_one_screen_and_a_half",
        "app-web@.socket",
    ),
    after("docs/key.md", PRIVATE_KEY, "test_no_private_key_is_in_the_tree", "docs/key.md:1"),
    after(
        "roles/redis/defaults/main.yml",
        "redis_password: hunter2\n",
        "test_no_variable_has_a_secret_as_its_default",
        "redis_password",
    ),
    after(
        "inventory/spoilt/hosts.yml",
        "app_secrets:\n  signing: x\n",
        "test_no_variable_has_a_secret_as_its_default",
        "app_secrets.signing",
    ),
    Spoil(SECRETS, "roles/app/tasks/configure.yml", "  no_log: true\n", "", "add no_log"),
    Spoil(SECRETS, "roles/app/tasks/configure.yml", "  diff: false\n", "", "add diff: false"),
    # By another name: a password that the wiring handed over, and a list in vars that holds it.
    Spoil(SECRETS, "roles/postgresql/tasks/configure_network.yml", "  no_log: true\n", "", "add no_log"),
    Spoil(SECRETS, "roles/redis/tasks/configure_clients.yml", "  no_log: true\n", "", "add no_log"),
    task(
        '- name: Show\n  ansible.builtin.debug: {msg: "{{ app_secrets | to_json }}"}',
        SECRETS,
        "Show",
        "roles/app/tasks/service.yml",
    ),
    after(
        "roles/app/templates/app.env.j2",
        "{{ app_secrets }}\n",
        "test_no_template_holds_a_secret",
        "app.env.j2",
    ),
    Spoil(KEYS, "ansible.cfg", "host_key_checking = True", "host_key_checking = " + "False", "ansible.cfg"),
    after("docs/ssh.md", f"ssh -o {TRUST_ANYBODY} host\n", KEYS, "docs/ssh.md:1"),
    after(
        "roles/redis/tasks/service.yml",
        f"# {HOME_PATH}\n",
        "test_no_developers_path_is_shipped",
        "roles/redis/tasks/service.yml",
    ),
    after("requirements/dev.txt", "left-pad==1.0\n", LOCKS, "left-pad==1.0 has no hash"),
    after("requirements/dev.txt", "--index-url x\n", LOCKS, "names an index"),
    after("app_skeleton/uv.lock", "version = 1\n", "test_no_project_file_names_an_index", "uv.lock"),
    Spoil(FAMILIES, "docs/prometheus.md", r"`app_info`", "`app_news`", "app_news"),
    Spoil(FAMILIES, "docs/prometheus.md", r"(?m)^\| `tls_observed.*\n", "", "tls_observed"),
    Spoil(
        FAMILIES,
        "app_skeleton/flask_ops/src/flask_ops/task_metrics.py",
        r'\("task", "state"\)',
        '("task",)',
        "flask_ops_tasks_total",
    ),
    Spoil(FAMILIES, "roles/app/files/releasectl/exposition.py", "phase=phase", "step=phase", "phase_seconds"),
    Spoil(
        "test_document_names_every_series_the_rules_record",
        "prometheus/rules/data.yml",
        "record: instance:postgresql_connections:ratio",
        "record: instance:postgresql_sessions:ratio",
        "postgresql_sessions",
    ),
    Spoil(
        "test_document_names_the_ports_and_paths_that_are_scraped",
        "docs/prometheus.md",
        "port 9121",
        "port 9122",
        "redis",
    ),
    Spoil(
        "test_document_counts_the_buckets",
        "app_skeleton/flask_ops/src/flask_ops/process_metrics.py",
        r"LAG_BUCKETS = \(0.001, ",
        "LAG_BUCKETS = (",
        "the event loop",
    ),
    Spoil(DRAWN, f"{BOARDS}redis.json", "Past maxclients.", "Past what?", "run `make dashboards`"),
    after(f"{BOARDS}old.json", "{}", DRAWN, "is drawn by nobody"),
    Spoil(TOLD_APART, f"{BOARDS}redis.json", "flask-app-redis", "flask-app-hosts", "that of"),
    Spoil(TOLD_APART, f"{BOARDS}redis.json", "flask-app-redis", "", "has no uid"),
    Spoil(TOLD_APART, f"{BOARDS}redis.json", "flask-app-redis", "flask/app", "takes no uid"),
    Spoil(TOLD_APART, f"{BOARDS}redis.json", '"uid": "flask', '"id": 7,\n "uid": "flask', "has an id"),
    Spoil(CHOOSE, f"{BOARDS}redis.json", '"name": "instance"', '"name": "host"', "its variables are"),
    Spoil(CHOOSE, f"{BOARDS}redis.json", r"\$\{datasource\}", "P1809F7CD0C75ACF3", "the chosen data source"),
    Spoil(SHOWS, f"{BOARDS}redis.json", '"title": "Keys"', '"title": ""', "has no title"),
    Spoil(
        SHOWS, f"{BOARDS}redis.json", '"In all databases.', '"", "was": "', "panel Keys has no description"
    ),
    Spoil(
        SHOWS, f"{BOARDS}redis.json", '"unit": "bytes"', '"unit": "octets"', "panel Memory used has the unit"
    ),
    Spoil(SHOWS, f"{BOARDS}redis.json", '"thresholds": ', '"limits": ', "panel Answers has no thresholds"),
    Spoil(SHOWS, f"{BOARDS}redis.json", '"color": "red"', '"color": "green"', "nothing looks different"),
    Spoil(
        "test_no_curve_reads_a_month_for_each_of_its_points",
        f"{BOARDS}redis.json",
        r"\[5m\]",
        "[30d]",
        "more than a day",
    ),
    Spoil(SHOWS, f"{BOARDS}redis.json", '"legendFormat": "Keys"', '"legendFormat": ""', "does not name its"),
    Spoil(
        SHOWS, f"{BOARDS}hosts.json", '"value": "suffix: x"', '"value": "x"', "panel Hosts has the unit 'x'"
    ),
    Spoil(LIES, f"{BOARDS}redis.json", '"w": 4,\n    "x": 4', '"w": 4,\n    "x": 3', "lies on"),
    Spoil(
        LIES, f"{BOARDS}redis.json", '"w": 8,\n    "x": 16', '"w": 9,\n    "x": 16', "beyond the right edge"
    ),
    Spoil(LIES, f"{BOARDS}redis.json", '"id": 3', '"id": 2', "two panels have one id"),
    Spoil(
        "test_every_legend_names_labels_that_there_are",
        f"{BOARDS}redis.json",
        r"\{\{db\}\}",
        "{{database}}",
        "names series by database",
    ),
    Spoil(PROMQL, f"{BOARDS}redis.json", r"sum by \(db\) \(", "sum by (db) ((", "is no PromQL"),
    Spoil(
        PROMQL, f"{BOARDS}redis.json", r"\[5m\]", "[$__rate_interval]", "no dashboard offers: __rate_interval"
    ),
    Spoil(ASKS, f"{BOARDS}redis.json", "redis_db_keys", "redis_db_key", "asks for redis_db_key, of which"),
    Spoil(
        ASKS, f"{BOARDS}tasks.json", "flask_ops_tasks_total", "flask_ops_task_total", "flask_ops_task_total,"
    ),
    Spoil(ASKS, f"{BOARDS}tasks.json", r"\{state=~", "{status=~", "flask_ops_tasks_total by status"),
    Spoil(
        ASKS,
        "docs/prometheus.md",
        r"(?m)^\| `app:queue_tasks:max` .*\n",
        "",
        "asks for app:queue_tasks:max, of",
    ),
    Spoil(
        "test_dashboards_ask_about_the_chosen_app",
        f"{BOARDS}redis.json",
        r', app=\\"\$app\\"',
        "",
        "of every app",
    ),
    Spoil(OTHERS, "docs/prometheus.md", "`node_load1`", "`node_load15`", "names node_load15, which nothing"),
    Spoil(OTHERS, "prometheus/rules/hosts.yml", "nginx_up == 0", "nginx_down == 0", "reads nginx_down"),
    after("docs/new.md", "[gone](gone.md)\n", LINKS, "links to gone.md"),
    after("docs/new.md", "# One\n[here](#two)\n", LINKS, "links to #two"),
    after(
        "README.md", "\nSee `playbooks/fly.yml`.\n", "test_paths_the_readme_names_exist", "playbooks/fly.yml"
    ),
    after("docs/new.md", "Run `make coffee`.\n", "test_make_targets_the_documents_name_exist", "make coffee"),
]


@contextmanager
def spoilt(tree: Path, spoil: Spoil) -> Iterator[Bundle]:
    """Spoil one file of the copied tree, and put it back."""
    path = tree / spoil.path
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_text(spoil.apply(before or ""))
        yield Bundle(tree)
    finally:
        if before is None:
            path.unlink()
            for folder in path.parents:
                if folder == tree or any(folder.iterdir()):
                    break
                folder.rmdir()
        else:
            path.write_text(before)


@pytest.fixture(scope="module")
def unspoilt(copied_tree) -> Callable[[str], set[str]]:
    """Return what a law says of the copy as it is; asked once a law."""
    bundle = Bundle(copied_tree)
    return cache(lambda law: set(LAWS[law](bundle)))


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=spoil.id) for spoil in SPOILS])
def test_a_violation_is_found(copied_tree, unspoilt, spoil):
    before = unspoilt(spoil.law)
    with spoilt(copied_tree, spoil) as bundle:
        new = set(LAWS[spoil.law](bundle)) - before
    assert any(spoil.says in finding for finding in new), f"{spoil.law} said: {sorted(new) or 'nothing'}"
    unplaced = [finding for finding in new if not re.match(r"[\w@./-]+(:\d+)?: ", finding)]
    assert not unplaced, f"does not begin with file and line: {unplaced}"


def test_a_registry_of_this_machine_is_found(copied_tree, monkeypatch):
    monkeypatch.setattr(test_addresses, "registry_hosts", lambda: {"packages.example.test"})
    spoil = after("docs/new.md", "https://packages.example.test/simple\n", "")
    with spoilt(copied_tree, spoil) as bundle:
        findings = list(LAWS["test_no_registry_of_this_machine_is_named"](bundle))
    assert any(finding.startswith("docs/new.md:1: ") for finding in findings), findings


def test_registries_are_read_from_the_clients_settings(monkeypatch):
    settings = [
        "global.index-url='https://user:word@pypi.example.test/simple'",
        "URIs: http://packages.example.test/debian",
    ]
    monkeypatch.setattr(test_addresses, "client_settings", lambda: settings)
    assert test_addresses.registry_hosts() == {"pypi.example.test", "packages.example.test"}


def test_a_playbook_that_does_not_parse_is_found(copied_tree):
    spoil = after("playbooks/spoilt.yml", "- name: Spoilt\n  hosts: all\n  roles: [nowhere]\n", "")
    with spoilt(copied_tree, spoil) as bundle:
        done = test_playbook_syntax.syntax_check(bundle, [spoil.path])
    assert done.returncode != 0
    assert "nowhere" in done.stderr + done.stdout


def test_every_law_is_seen_to_fail():
    seen = {spoil.law for spoil in SPOILS} | {"test_no_registry_of_this_machine_is_named"}
    assert sorted(LAWS.keys() - seen) == []
