"""The dashboards are what the generator draws, are complete, and ask for what docs/prometheus.md names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import promql_parser
import pytest
from bundle import Bundle, law
from drawing import consoles
from drawing import dashboards as generator
from grafana_foundation_sdk.models import units
from promql_parser import AggregateExpr, VectorSelector
from test_prometheus_contract import DOCUMENT, documented
from testbed.dashboards import panels, written

FOLDER = "grafana/dashboards"
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
GRID_WIDTH = 24
VARIABLES = ("datasource", "app", "instance")
# What every series of the app's own page has beside those of its table, and what Prometheus adds.
OF_TARGETS = {"app", "instance", "job", "celery"}
OF_THE_APPS_PAGE = {"release", "service"}
PARTS = ("_bucket", "_count", "_sum")
READ_ROW = re.compile(r"^\| (?:every|`\w+`) \| ((?:`\w+` )+)\|$", re.MULTILINE)
# Others' series where they are read: rules, consoles and dashboards put one of these behind a name.
READ = re.compile(r"\b(?:node|pg|redis|nginx|probe|prometheus|alertmanager)_\w+(?=[\s{[/)])|\bup(?=\{)")


def boards(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return each dashboard by its path."""
    return {path: json.loads(bundle.text(path)) for path in bundle.below(FOLDER, ".json")}


def asked(bundle: Bundle) -> Iterator[tuple[str, str, Any]]:
    """Yield what dashboards ask: file and line, the PromQL, and what it is made of or why it is none."""
    for path, board in boards(bundle).items():
        lines = bundle.text(path).splitlines()
        for place, expr in written(board):
            said = json.dumps(expr, ensure_ascii=False)[1:-1]
            number = next((number for number, line in enumerate(lines, 1) if said in line), 1)
            try:
                yield f"{path}:{number}: {place}", expr, promql_parser.parse(expr)
            except ValueError as error:
                yield f"{path}:{number}: {place}", expr, error


def nodes(tree: Any, kind: type) -> list[Any]:
    """Return the parts of an expression that are of a kind."""
    found: list[Any] = []
    promql_parser.walk(tree, lambda node: found.append(node) if isinstance(node, kind) else None)
    return found


def read_elsewhere(bundle: Bundle) -> set[str]:
    """Return the series of others' exporters that the document tells of."""
    return {name for names in READ_ROW.findall(bundle.text(DOCUMENT)) for name in re.findall(r"\w+", names)}


def recorded(bundle: Bundle) -> dict[str, set[str]]:
    """Return the recorded series of the document, with their labels."""
    rows = re.findall(r"^\| `([a-z]+:[\w:]+)` \| (.+) \|$", bundle.text(DOCUMENT), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) or OF_TARGETS for name, labels in rows}


def series(bundle: Bundle) -> dict[str, set[str]]:
    """Return every series of ours, with the labels it has."""
    found = recorded(bundle)
    for name, family in documented(bundle).items():
        page = OF_THE_APPS_PAGE if name.startswith(("flask_", "app_")) else set()
        labels = OF_TARGETS | page | set(family.labels)
        if family.kind == "histogram":
            found |= {f"{name}{part}": labels | {"le"} for part in PARTS}
        else:
            found[name] = labels
    return found


@law
def test_dashboards_are_what_the_generator_draws(bundle: Bundle):
    drawn = {f"{FOLDER}/{name}": text for name, text in generator.drawn().items()}
    for path in sorted({*drawn, *bundle.below(FOLDER)}):
        if path not in drawn:
            yield f"{path}:1: is drawn by nobody: `make dashboards` removes it"
        elif bundle.text(path) != drawn[path]:
            yield f"{path}:1: is not what the generator draws: run `make dashboards`"


@law
def test_every_dashboard_is_told_from_the_others(bundle: Bundle):
    known: dict[str, str] = {}
    for path, board in boards(bundle).items():
        for name in ("uid", "title"):
            value = board.get(name) or ""
            if not value:
                yield f"{path}:1: has no {name}"
            elif value in known:
                yield f"{path}:1: its {name} {value} is that of {known[value]}"
            known[value] = path
        if not re.fullmatch(r"[a-z-]{1,40}", board.get("uid") or ""):
            yield f"{path}:1: Grafana takes no uid {board.get('uid')}"
        if board.get("id") is not None:
            yield f"{path}:1: has an id, which belongs to one Grafana"


@law
def test_every_dashboard_lets_choose_source_app_and_host(bundle: Bundle):
    for path, board in boards(bundle).items():
        names = tuple(each["name"] for each in board["templating"]["list"])
        if names != VARIABLES:
            yield f"{path}:1: its variables are {names}, not {VARIABLES}"
        asking = [*board["annotations"]["list"], *panels(board)]
        for each in [*asking, *(each for each in board["templating"]["list"] if each["type"] == "query")]:
            if each.get("datasource", {}).get("uid") != "${datasource}":
                yield f"{path}:1: {each.get('title') or each['name']} does not ask the chosen data source"


@law
def test_every_panel_says_what_it_shows(bundle: Bundle):
    for path, board in boards(bundle).items():
        for panel in panels(board):
            title, options = panel.get("title"), panel["fieldConfig"]
            said = [options["defaults"].get("unit", "")]
            said += [
                each["value"]
                for override in options["overrides"]
                for each in override["properties"]
                if each["id"] == "unit"
            ]
            if not title:
                yield f"{path}:1: panel {panel['id']} has no title"
            if not panel.get("description"):
                yield f"{path}:1: panel {title} has no description"
            if not options["defaults"].get("thresholds"):
                yield f"{path}:1: panel {title} has no thresholds: Grafana's own say 80 of anything is bad"
            steps = options["defaults"].get("thresholds", {}).get("steps", [])
            if any(one["color"] == other["color"] for one, other in pairwise(steps)):
                yield f"{path}:1: panel {title} has a threshold past which nothing looks different"
            for unit in said:
                if unit not in UNITS and not unit.startswith("suffix:"):
                    yield f"{path}:1: panel {title} has the unit {unit!r}, which Grafana does not know"
            for target in panel["targets"] if panel["type"] != "table" else []:
                if not target.get("legendFormat"):
                    yield f"{path}:1: panel {title} does not name its series"


@law
def test_no_panel_lies_on_another(bundle: Bundle):
    for path, board in boards(bundle).items():
        numbers = [panel["id"] for panel in board["panels"]]
        if len({*numbers}) != len(numbers):
            yield f"{path}:1: two panels have one id"
        for panel in board["panels"]:
            if panel["gridPos"]["x"] + panel["gridPos"]["w"] > GRID_WIDTH:
                yield f"{path}:1: panel {panel['title']} reaches beyond the right edge"
        for one, other in combinations(board["panels"], 2):
            a, b = one["gridPos"], other["gridPos"]
            beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            if not beside and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
                yield f"{path}:1: panel {one['title']} lies on {other['title']}"


@law
def test_every_legend_names_labels_that_there_are(bundle: Bundle):
    """A label that was aggregated away leaves its name empty."""
    for path, board in boards(bundle).items():
        for panel in panels(board):
            for target in panel["targets"]:
                try:
                    grouped = nodes(promql_parser.parse(target["expr"]), AggregateExpr)
                except ValueError:
                    continue  # a law of its own
                kept = {label for each in grouped if each.modifier for label in each.modifier.labels}
                for label in re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")):
                    if grouped and label not in kept and f'"{label}"' not in target["expr"]:
                        yield f"{path}:1: panel {panel['title']} names series by {label}, which they have not"


@law
def test_every_expression_of_a_dashboard_parses(bundle: Bundle):
    for place, expr, tree in asked(bundle):
        if isinstance(tree, ValueError):
            yield f"{place} is no PromQL: {tree}: {expr}"
        for name in {*re.findall(r"\$\{?(\w+)", expr)} - {*VARIABLES}:
            yield f"{place} has a variable that no dashboard offers: {name}"


@law
def test_no_curve_reads_a_month_for_each_of_its_points(bundle: Bundle):
    for path, board in boards(bundle).items():
        for panel in [panel for panel in panels(board) if panel["type"] != "table"]:
            asked_for = " ".join(target["expr"] for target in panel["targets"])
            if re.search(r"\[(?:\d+w|\d{2,}d|[2-9]d)", asked_for):
                yield f"{path}:1: panel {panel['title']} reads more than a day a point: make it a table"


@law
def test_dashboards_ask_for_nothing_the_document_does_not_name(bundle: Bundle):
    ours, others = series(bundle), read_elsewhere(bundle)
    for place, _, tree in asked(bundle):
        for each in nodes(tree, VectorSelector) if not isinstance(tree, ValueError) else []:
            if each.name not in ours.keys() | others:
                yield f"{place} asks for {each.name}, of which {DOCUMENT} does not tell"
            for matcher in each.matchers.matchers if each.name in ours else []:
                if matcher.name not in ours[each.name]:
                    yield f"{place} asks for {each.name} by {matcher.name}, a label it does not have"


@law
def test_dashboards_ask_about_the_chosen_app(bundle: Bundle):
    for place, _, tree in asked(bundle):
        for each in nodes(tree, VectorSelector) if not isinstance(tree, ValueError) else []:
            chosen = {matcher.name for matcher in each.matchers.matchers if "$app" in matcher.value}
            if "app" not in chosen and place.partition(": ")[2] != "variable app":
                yield f"{place} asks for {each.name} of every app"


@law
def test_document_names_the_series_of_others_that_are_read(bundle: Bundle):
    told = read_elsewhere(bundle)
    folders = ("prometheus/rules", "prometheus/consoles", "prometheus/console_libraries", FOLDER)
    paths = [path for folder in folders for path in bundle.below(folder)]
    read = {name: path for path in paths for name in READ.findall(bundle.text(path))}
    # Some of ours are called as others' are.
    for name in sorted(read.keys() - told - documented(bundle).keys()):
        yield f"{read[name]}:1: reads {name}, of which {DOCUMENT} does not tell"
    yield from (f"{DOCUMENT}:1: names {name}, which nothing reads" for name in sorted(told - read.keys()))


def test_a_figure_that_its_console_no_longer_has_is_named():
    with pytest.raises(KeyError, match=r"consoles/index\.html has 0 of 'Visitors'"):
        consoles.figure("index", "Visitors")
