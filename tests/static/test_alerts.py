"""Whoever is woken by an alert finds out what to do, and every alert is known to fire and to stay quiet."""

from __future__ import annotations

from collections.abc import Iterator

from bundle import Bundle, Lined, law

SECTIONS = ("## What it means", "## What to look at", "## What to type", "## How to undo")
TOLD = ("summary", "description", "runbook_url")
# It is meant to be on at all times.
ALWAYS_ON = "Watchdog"


def alerts(bundle: Bundle) -> Iterator[tuple[str, Lined]]:
    """Yield every alert with its place. Rules that Jinja fills in hold none: the braces would clash."""
    for path in bundle.below("prometheus/rules", ".yml"):
        for group in bundle.mapping(path)["groups"]:
            yield from ((f"{path}:{rule.line}", rule) for rule in group["rules"] if "alert" in rule)


def strangers(bundle: Bundle, folder: str, suffix: str) -> Iterator[str]:
    """Yield a finding for every file of a folder that is named after no alert."""
    known = {f"{folder}/{rule['alert']}{suffix}" for _, rule in alerts(bundle)}
    yield from (
        f"{path}:1: is about no alert: remove it" for path in sorted({*bundle.below(folder, suffix)} - known)
    )


@law
def test_every_alert_says_how_urgent_it_is_and_what_it_means(bundle: Bundle):
    for where, rule in alerts(bundle):
        severity = (rule.get("labels") or {}).get("severity")
        if severity not in ("page", "ticket", "none"):
            yield f"{where}: severity of {rule['alert']} is {severity}: page, ticket or none"
        for name in TOLD:
            if not (rule.get("annotations") or {}).get(name):
                yield f"{where}: {rule['alert']} has no {name}: whoever is told of it needs one"


@law
def test_every_alert_has_a_runbook(bundle: Bundle):
    for where, rule in alerts(bundle):
        path = f"docs/runbooks/{rule['alert']}.md"
        if (rule.get("annotations") or {}).get("runbook_url") != path:
            yield f"{where}: runbook_url of {rule['alert']} is not {path}"
        lines = bundle.text(path).splitlines()
        if [line for line in lines if line.startswith("## ")] != [*SECTIONS]:
            yield f"{path}:1: wants the sections {', '.join(SECTIONS)}, in this order, and no others"
        for section in SECTIONS:
            if section in lines and not "".join(lines[lines.index(section) + 1 :][:1]).strip():
                yield f"{path}:{lines.index(section) + 1}: nothing stands below {section}"
    yield from strangers(bundle, "docs/runbooks", ".md")


@law
def test_every_alert_is_tested_to_fire_and_to_stay_quiet(bundle: Bundle):
    for where, rule in alerts(bundle):
        path = f"tests/render/alerts/{rule['alert']}.yml"
        kinds = {
            (test["name"].split()[0], bool(each["exp_alerts"]))
            for test in bundle.mapping(path).get("tests", [])
            for each in test["alert_rule_test"]
            if each["alertname"] == rule["alert"]
        }
        wanted = {("fires", True)} if rule["alert"] == ALWAYS_ON else {("fires", True), ("quiet", False)}
        if kinds != wanted:
            yield f"{where}: {path} must have tests named “fires …” and “quiet …” of {rule['alert']}"
    yield from strangers(bundle, "tests/render/alerts", ".yml")
