"""What cannot work is refused by its name, and a value that may be a secret is not shown with the refusal.

Each case is a host of one inventory, so that all are tried in one run of Ansible; nothing is reached.
"""

from __future__ import annotations

import pytest
import yaml
from refusing import assert_passed, assert_refused, play, slug
from rendering import ROOT

PARTS = ("settings", "limits", "checks", "celery", "hooks")
# No refusal may print this.
HIDDEN = "correct-horse-battery"
RIGHT = {
    "nothing but what is required": {},
    "everything given": {
        "app_secrets": {"token": HIDDEN, "settings": HIDDEN},
        "app_environment": {"MAIL_RESET_TOKEN": 24, "API_KEY": "", "HOME_URL": "https://www.example.org/@me"},
        "app_environment_allowed_names": ["MAIL_RESET_TOKEN"],
        "app_secret_environment": {"DATABASE_URL": "token", "STRIPE_API_KEY": "token"},
        "app_secret_files": {"SETTINGS_FILE_PATH": "settings"},
        "app_checks": [
            {"check": "postgresql"},
            {"check": "redis", "url": "redis://10.0.0.1:6379/0", "timeout_seconds": 0.5},
            {"check": "http", "name": "billing", "url": "http://127.0.0.1:9000/healthz"},
            {"check": "disk", "path": "/srv", "minimum_free_percent": 10},
        ],
        "app_celery": "shop.worker:app",
        "app_broker_url": "amqp://demo@queue.example.org/demo",
        "app_worker_queues": ["mail", "reports.daily"],
        "app_worker_memory_max": "50%",
        "app_beat_scheduler": "shop.beat:Scheduler",
        "app_flower_enabled": True,
        "app_flower_sign_in_path": "/in?to=/flower/",
        "app_ops_prefix": "/-/ops",
        "app_log_scrub_keys": ["iban", "x-account"],
        "app_sentry_traces_sample_rate": 0.1,
    },
    "no limit but the last two": {
        "app_database_statement_timeout_seconds": 0,
        "app_request_deadline_seconds": 0,
        "app_blocked_seconds": 0,
    },
}
# What is given, and the words of the refusal: the variable, and what to do.
REFUSED = {
    "a check of no known kind": (
        {"app_checks": [{"check": "postgress"}]},
        ["app_checks, item 1, check", "did you mean `postgresql`?"],
    ),
    "a misspelt key of a check": (
        {"app_checks": [{"check": "disk"}, {"check": "disk", "pth": "/"}]},
        ["app_checks, item 2, pth", "did you mean `path`?"],
    ),
    "a key of another kind of check": (
        {"app_checks": [{"check": "disk", "url": "http://x"}]},
        ["app_checks, item 1 (disk) has keys that are not its own: url"],
    ),
    "an http check without a url": (
        {"app_checks": [{"check": "http"}]},
        ["app_checks, item 1 (http)", "url"],
    ),
    "a check that takes too long": (
        {"app_checks": [{"check": "disk", "timeout_seconds": 5}]},
        ["app_checks, item 1 (disk) is not right", "1.5 at most"],
    ),
    "two checks of one name": (
        {"app_checks": [{"check": "disk"}, {"check": "disk", "path": "/srv"}]},
        ["disk, disk", "a name of its own"],
    ),
    "a database check without a database": (
        {"app_checks": [{"check": "postgresql"}]},
        ["asks postgresql", "no DATABASE_URL", "app_database_url"],
    ),
    "a password in a check's url": (
        {"app_checks": [{"check": "postgresql", "url": f"postgresql://u:{HIDDEN}@db/x"}]},
        ["carries a password", "app_secret_environment"],
    ),
    "a password in app_redis_url": (
        {"app_redis_url": f"redis://:{HIDDEN}@cache/0"},
        ["app_redis_url", "carries a password"],
    ),
    "a password in app_broker_url": (
        {"app_broker_url": f"amqp://u:{HIDDEN}@mq/"},
        ["app_broker_url", "carries", "broker_password"],
    ),
    "a broker that is nowhere": (
        {"app_broker": "rabbitmq"},
        ["app_broker is rabbitmq", "no group brokers"],
    ),
    "a password in a setting's url": (
        {"app_environment": {"BROKER": f"amqp://u:{HIDDEN}@mq/"}},
        ["app_environment holds BROKER", "app_secret_environment", "app_environment_allowed_names"],
    ),
    "settings with names of secrets": (
        {"app_environment": {"SECRET_KEY": HIDDEN, "smtp_password": HIDDEN, "KEY_OF_C": "c major"}},
        ["app_environment holds SECRET_KEY, smtp_password, which look like secrets", "app_secrets"],
    ),
    "a secret that is not there": (
        {"app_secrets": {"other": HIDDEN}, "app_secret_environment": {"A": "nowhere"}},
        ["names nowhere", "It holds: other"],
    ),
    "a variable from two places": (
        {"app_secrets": {"a": HIDDEN}, "app_secret_environment": {"A": "a"}, "app_environment": {"A": "b"}},
        ["more than one of app_environment", "Keep one"],
    ),
    "a variable that cannot be one": (
        {"app_environment": {"A B": "x"}},
        ["app_environment", "A B", "letters"],
    ),
    "the prefix among the settings": (
        {"app_environment": {"FLASK_OPS_PREFIX": "/-"}},
        ["FLASK_OPS_PREFIX is app_ops_prefix"],
    ),
    "a prefix that ends in a slash": ({"app_ops_prefix": "/-/"}, ["app_ops_prefix is", "begins with /"]),
    "a prefix that climbs": ({"app_ops_prefix": "/a/.."}, ["app_ops_prefix is"]),
    "a deadline below the statement timeout": (
        {"app_request_deadline_seconds": 10},
        ["each of these must be below the next", "app_request_deadline_seconds (10)"],
    ),
    "a deadline above the graceful timeout": (
        {"app_request_deadline_seconds": 30},
        ["each of these must be below the next", "app_web_graceful_timeout_seconds (30)"],
    ),
    "a blocked worker noticed after the deadline": (
        {"app_blocked_seconds": 26},
        ["app_blocked_seconds (26) below the deadline"],
    ),
    "nginx less patient than the app": ({"nginx_proxy_timeout": "30s"}, ["nginx_proxy_timeout (30s)"]),
    "a sample rate above 1": (
        {"app_sentry_traces_sample_rate": 5},
        ["app_sentry_traces_sample_rate is 5", "from 0 to 1"],
    ),
    "a worker without a thread": ({"app_web_threads": 0}, ["app_web_threads is 0", "from 1"]),
    "Flower without Celery": ({"app_flower_enabled": True}, ["app_flower_enabled needs app_celery"]),
    "a Celery app that is a path": ({"app_celery": "shop/worker.py"}, ["app_celery is", "shop.worker:app"]),
    "Celery without a broker": ({"app_celery": "shop"}, ["no group brokers", "app_broker_url"]),
    "a beat on each of two hosts": (
        {"app_celery": "shop", "app_broker_url": "redis://queue.example.org/0"},
        ["each of the 2 hosts", "app_beat_scheduler", "app_beat_enabled"],
    ),
    "a queue with a comma": (
        {"app_celery": "shop", "app_worker_queues": ["a,b"]},
        ["app_worker_queues", "queues are letters"],
    ),
    "a gate that is no path": (
        {"app_flower_authorize_path": "/a; deny all"},
        ["app_flower_authorize_path is", "give a path of the app"],
    ),
    "a worker of no process": ({"app_worker_concurrency": 0}, ["app_worker_concurrency is 0", "from 1"]),
    "a worker without memory": ({"app_worker_memory_max": "much"}, ["app_worker_memory_max is much"]),
    "a key with a comma": ({"app_log_scrub_keys": ["a,b"]}, ["app_log_scrub_keys holds", "a,b"]),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """Run every case once, each a host, and return all that a person would have seen."""
    folder = tmp_path_factory.mktemp("preflight")
    role = folder / "roles/app"
    (role / "tasks").mkdir(parents=True)
    for part in ("defaults", "vars", "meta", *(f"tasks/preflight_{name}.yml" for name in PARTS)):
        (role / part).symlink_to(ROOT / "roles/app" / part)
    # What is left out looks at the host itself.
    tasks = [{"name": name, "ansible.builtin.import_tasks": f"preflight_{name}.yml"} for name in PARTS[:2]]
    (role / "tasks/main.yml").write_text(yaml.safe_dump(tasks))
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all").symlink_to(ROOT / "playbooks/group_vars")
    names = {"name": "Refuse misspelt variables", "check_declaration": {"roles_path": f"{ROOT}/roles"}}
    look = {"name": "Look", "hosts": "all", "gather_facts": False, "pre_tasks": [names], "roles": ["app"]}
    cases = {**RIGHT, **{name: given for name, (given, _words) in REFUSED.items()}}
    shared = {"ansible_connection": "local", "app_name": "demo", "app_wsgi": "demo:app", "app_source": "x"}
    hosts = {slug(name): {"app_server_names": ["x.example.org"], **given} for name, given in cases.items()}
    # As many as a fleet has at least.
    fleet = {"app_servers": {"hosts": dict.fromkeys(list(hosts)[:2])}}
    return play(folder, [look], {"vars": shared, "hosts": hosts, "children": fleet})


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes(said, case):
    assert_passed(said, slug(case))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_naming_it_and_the_remedy(said, case):
    assert_refused(said, slug(case), REFUSED[case][1])


def test_refusals_show_no_value_that_may_be_a_secret(said):
    assert HIDDEN not in said
