"""The time limits of nginx, gunicorn and systemd nest, as the files that land on a host carry them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import jinja2
from bundle import Bundle, law

SITE = "nginx/sites-enabled/app.conf.j2"
PROXY = "nginx/sites-enabled/app.conf.j2"
UNIT = "systemd/system/app-web@.service.j2"
WORKER_UNIT = "systemd/system/app-worker@.service.j2"
APP_VARS = "roles/app/vars/main.yml"
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}


def seconds(text: Any) -> float:
    """Return a duration such as `2s`, `1m 30s` or `40` in seconds."""
    parts = re.findall(r"(\d+)(ms|s|m|h|)(?:\s+|$)", str(text).strip())
    if not parts:
        raise AssertionError(f"{text!r} is no duration")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def value(bundle: Bundle, template: str) -> str:
    """Return an expression's value under every role's defaults."""
    known = {name: item for role in bundle.roles for name, item in bundle.defaults(role).items()}
    return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(known)


def in_file(bundle: Bundle, path: str, pattern: str) -> tuple[float, str]:
    """Return what the one line that fits `pattern` sets, in seconds, and where it stands."""
    found = [
        (match[1], f"{path}:{number}")
        for number, line in enumerate(bundle.text(path).splitlines(), 1)
        if (match := re.fullmatch(pattern, line.strip()))
    ]
    if len(found) != 1:
        raise AssertionError(
            f"{path}:1: {len(found)} lines read {pattern}; there must be one, or this test looks past it"
        )
    text, where = found[0]
    return seconds(value(bundle, text)), where


def in_vars(bundle: Bundle, mapping: str, key: str) -> tuple[float, str]:
    """Return what a key of a mapping in the app's vars comes to, in seconds, and where it stands."""
    found, where = bundle.vars("app")[mapping], f"{APP_VARS}:{bundle.vars('app').lines[mapping]}"
    return seconds(value(bundle, found[key])), where


@law
def test_time_limits_nest_from_nginx_to_systemd(bundle: Bundle):
    chain = [
        ("nginx's upstream keepalive_timeout", *in_file(bundle, SITE, r"keepalive_timeout (.+);")),
        ("gunicorn's keepalive", *in_vars(bundle, "__app_own_environment", "GUNICORN_KEEPALIVE_SECONDS")),
        (
            "gunicorn's graceful timeout",
            *in_vars(bundle, "__app_own_environment", "GUNICORN_GRACEFUL_TIMEOUT_SECONDS"),
        ),
        ("the unit's TimeoutStopSec", *in_file(bundle, UNIT, r"TimeoutStopSec=(.+)")),
        ("releasectl's stop timeout", *in_vars(bundle, "__app_releasectl", "stop_timeout_seconds")),
    ]
    yield from rising(chain)


@law
def test_releasectl_waits_longer_than_a_worker_may_finish_its_tasks(bundle: Bundle):
    unit = ("the worker unit's TimeoutStopSec", *in_file(bundle, WORKER_UNIT, r"TimeoutStopSec=(.+)"))
    name = "worker_stop_timeout_seconds"
    yield from rising([unit, ("releasectl's", *in_vars(bundle, "__app_releasectl", name))])


@law
def test_nginx_waits_longer_than_a_stopping_release_may_take(bundle: Bundle):
    graceful = (
        "gunicorn's graceful timeout",
        *in_vars(bundle, "__app_own_environment", "GUNICORN_GRACEFUL_TIMEOUT_SECONDS"),
    )
    for directive in ("proxy_read_timeout", "proxy_send_timeout"):
        yield from rising([graceful, (directive, *in_file(bundle, PROXY, rf"{directive} (.+);"))])


@law
def test_time_limits_of_a_request_nest_from_the_database_to_nginx(bundle: Bundle):
    """A request that takes too long meets them in this order, so that what it is told is what happened."""
    names = {
        "the statement timeout": "DATABASE_STATEMENT_TIMEOUT_SECONDS",
        "the request's deadline": "FLASK_OPS_REQUEST_DEADLINE_SECONDS",
        "gunicorn's graceful timeout": "GUNICORN_GRACEFUL_TIMEOUT_SECONDS",
    }
    chain = [(words, *in_vars(bundle, "__app_own_environment", name)) for words, name in names.items()]
    yield from rising([*chain, ("proxy_read_timeout", *in_file(bundle, PROXY, r"proxy_read_timeout (.+);"))])


def rising(chain: list[tuple[str, float, str]]) -> Iterator[str]:
    """Yield each neighbour that is not above the one before it."""
    for (low, less, there), (high, more, here) in itertools.pairwise(chain):
        if not less < more:
            yield f"{here}: {high} is {more:g} s, and must be above {low}, {less:g} s at {there}"


@law
def test_flask_ops_reads_every_gunicorn_setting_the_host_gives(bundle: Bundle):
    source = "\n".join(bundle.text(path) for path in bundle.below("app_skeleton/flask_ops/src", ".py"))
    settings, line = (
        bundle.vars("app")["__app_own_environment"],
        bundle.vars("app").lines["__app_own_environment"],
    )
    for name in settings:
        if name.startswith("GUNICORN_") and not re.search(rf"\b{name}\b", source):
            yield f"{APP_VARS}:{line}: nothing in flask_ops reads {name}: the setting would do nothing"
