"""docs/prometheus.md tells people with a Prometheus of their own what the code tells Prometheus."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from bundle import Bundle, law

DOCUMENT = "docs/prometheus.md"
FLASK_OPS = "app_skeleton/flask_ops/src/flask_ops"
LEDGER = "roles/app/files/releasectl/exposition.py"
LOGS = "roles/exporters/files/log_counts.py"
CERTIFICATES = "roles/tls/files/tlsctl/telling.py"
WIRING = "playbooks/group_vars/all.yml"
TYPES = {"Counter": "counter", "Gauge": "gauge", "_gauge": "gauge", "Histogram": "histogram"}
ROW = re.compile(r"^\| `([\w:]+)` \| (counter|gauge|histogram) \| ((?:`\w+` ?)*)\|", re.MULTILINE)


class Family(NamedTuple):
    """A metric family as Prometheus knows it."""

    kind: str
    labels: tuple[str, ...]


def documented(bundle: Bundle) -> dict[str, Family]:
    """Return the families of the document's tables."""
    rows = ROW.findall(bundle.text(DOCUMENT))
    return {name: Family(kind, tuple(sorted(re.findall(r"\w+", labels)))) for name, kind, labels in rows}


def full_name(name: str, kind: str) -> str:
    """Return a family's name with the ending that prometheus_client gives a counter."""
    return f"{name}_total" if kind == "counter" else name


def constants(node: ast.AST) -> tuple[str, ...]:
    """Return the strings of a tuple."""
    items = node.elts if isinstance(node, ast.Tuple) else []
    return tuple(sorted(each.value for each in items if isinstance(each, ast.Constant)))


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def made(tree: ast.AST) -> Iterator[tuple[str, Family]]:
    """Yield the families that a module makes by prometheus_client's classes."""
    named = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        kind = TYPES.get(called(node), "") if isinstance(node, ast.Call) else ""
        # collections has a Counter as well, of no arguments or of one.
        if kind and len(node.args) > 1:
            first = node.args[0]
            name = first.value if isinstance(first, ast.Constant) else named.get(getattr(first, "id", ""))
            if name:
                labels = constants(node.args[2]) if len(node.args) > 2 else ()
                yield full_name(name, kind), Family(kind, labels)


def borrowed(tree: ast.AST) -> Iterator[tuple[str, Family]]:
    """Yield the families that the exporter makes and flask_ops fills, with the labels it fills in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and ".made[" in ast.unparse(node):
            kind, attribute = TYPES[ast.unparse(node.annotation)], ast.unparse(node.target)
            filled = {
                keyword.arg or ""
                for call in ast.walk(tree)
                if isinstance(call, ast.Call) and ast.unparse(call.func) == f"{attribute}.labels"
                for keyword in call.keywords
            }
            yield full_name(node.value.slice.value, kind), Family(kind, tuple(sorted(filled)))


def helped(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the families of a module's HELP, with what it says of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP":
            return {key.value: value for key, value in zip(node.value.keys, node.value.values, strict=True)}
    return {}


def of_ledger(tree: ast.AST) -> Iterator[tuple[str, Family]]:
    """Yield releasectl's families, or those of logs: each is added with its labels by name."""
    for name, told in helped(tree).items():
        labels = {
            keyword.arg or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and called(node) == "add"
            and ast.unparse(node.args[0]) == repr(name)
            for keyword in node.keywords
        }
        yield name, Family(told.elts[0].value, tuple(sorted(labels)))


def of_certificates(tree: ast.AST) -> Iterator[tuple[str, Family]]:
    """Yield tlsctl's families: each has a name, and some say where they were read."""
    told = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    for name in helped(tree):
        found = [line for line in told if repr(name) in line]
        yield name, Family("gauge", ("name", "where") if "where=" in "".join(found) else ("name",))


def coded(bundle: Bundle) -> Iterator[tuple[str, str, Family]]:
    """Yield every family of ours, with the file it is in."""
    for path in bundle.below(FLASK_OPS, ".py"):
        tree = ast.parse(bundle.text(path))
        yield from ((path, *each) for each in (*made(tree), *borrowed(tree)))
    for path, read in ((LEDGER, of_ledger), (LOGS, of_ledger), (CERTIFICATES, of_certificates)):
        yield from ((path, *each) for each in read(ast.parse(bundle.text(path))))


@law
def test_document_names_every_family_with_its_type_and_labels(bundle: Bundle):
    told, known = documented(bundle), set()
    for path, name, family in coded(bundle):
        known.add(name)
        if name not in told:
            yield f"{path}:1: makes {name}, of which {DOCUMENT} does not tell"
        elif told[name] != family:
            yield f"{DOCUMENT}:1: says {name} is {told[name]}; {path} makes it {family}"
    yield from (f"{DOCUMENT}:1: names {name}, which nothing makes" for name in sorted(told.keys() - known))


@law
def test_document_names_every_series_the_rules_record(bundle: Bundle):
    told = set(re.findall(r"^\| `([a-z]+:[\w:]+)` \|", bundle.text(DOCUMENT), re.MULTILINE))
    rules = {path: bundle.text(path) for path in bundle.below("prometheus/rules")}
    known = {name: path for path, text in rules.items() for name in re.findall(r"- record: (\S+)", text)}
    for name in sorted(known.keys() - told):
        yield f"{known[name]}:1: records {name}, of which {DOCUMENT} does not tell"
    yield from (f"{DOCUMENT}:1: names {name}, which no rule records" for name in sorted(told - known.keys()))


@law
def test_document_names_the_ports_and_paths_that_are_scraped(bundle: Bundle):
    rows = re.findall(r"^\| `(\w+)` \| .*port (\d+) \| `([\w/]+)` \|", bundle.text(DOCUMENT), re.MULTILINE)
    told = {job: (port, path) for job, port, path in rows}
    internal = str(bundle.defaults("nginx").get("nginx_internal_port"))
    made_of = re.findall(
        r"'job': '(\w+)',\s+'target': ([^,}]+)(?:,\s+'__metrics_path__': '([\w/]+)')?", bundle.text(WIRING)
    )
    known = {
        job: (
            internal if target.strip() == "internal" else target.strip(" '").rsplit(":", 1)[1],
            path or "/metrics",
        )
        for job, target, path in made_of
    }
    for job in sorted(known.keys() | told.keys()):
        if known.get(job) != told.get(job):
            yield f"{DOCUMENT}:1: says {told.get(job)} of the job {job}; {WIRING} asks {known.get(job)}"


@law
def test_document_counts_the_buckets(bundle: Bundle):
    text = bundle.text(DOCUMENT)
    wanted = {
        ("process_metrics.py", "LAG_BUCKETS", 3): "the event loop",
        # Its last bound is infinity, which prometheus_client adds elsewhere.
        ("task_metrics.py", "_BUCKETS_SECONDS", 2): "tasks",
    }
    for (file, name, more), row in wanted.items():
        path = f"{FLASK_OPS}/{file}"
        bounds = re.search(rf"^{name} = \(([^=]*)\)$", bundle.text(path), re.MULTILINE)
        series = len(bounds[1].split(",")) + more if bounds else 0
        if not re.search(rf"^\| {row} \| {series}\b", text, re.MULTILINE):
            yield f"{DOCUMENT}:1: counts other series of {row} than {series}, which {name} of {path} makes"
