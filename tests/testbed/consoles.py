"""The consoles of prometheus/: what they ask, and what is wrong with a page of theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

TREE = Path(__file__).resolve().parents[2] / "prometheus"
NAMES = sorted(path.name for path in (TREE / "consoles").glob("*.html"))
# Signs of Go's templates and of arithmetic that went wrong in silence.
SIGNS = ("ZgotmplZ", "%!", "NaN", "<no value>", "Inf", "e+")
VOID = {"meta", "br"}
FORMAT = re.compile(r"%(?:\[\d\])?[sqdg]")
# Run where Prometheus is: asks for the pages that a file or its input lists, and prints what came.
ASK = """
import json, sys, urllib.error, urllib.request
found = []
for page in json.load(open(sys.argv[1]) if sys.argv[1:] else sys.stdin):
    try:
        told = urllib.request.urlopen("http://127.0.0.1:9090/" + page, timeout=30)
    except urllib.error.HTTPError as error:
        told = error
    found.append([told.status, told.headers.get("Content-Type"), told.read().decode()])
print(json.dumps(found))
"""


class Answer(NamedTuple):
    """What Prometheus answered to one page's address."""

    status: int
    kind: str
    text: str


def answers(told: str) -> list[Answer]:
    """Return what ASK printed."""
    return [Answer(*each) for each in json.loads(told)]


def queries(expressions: Iterable[str]) -> list[str]:
    """Return the pages of the API that evaluate each expression."""
    return [f"api/v1/query?query={quote(each)}" for each in expressions]


def samples(expressions: Iterable[str], told: Iterable[Answer]) -> dict[str, list[Any]]:
    """Return the samples that each expression has.

    Raises AssertionError, with Prometheus' words, where it takes one for wrong.
    """
    found = {}
    for expression, answer in zip(expressions, told, strict=True):
        assert answer.status == 200, f"{expression}: {answer.text}"
        data = json.loads(answer.text)["data"]
        found[expression] = data["result"] if data["resultType"] == "vector" else [data["result"]]
    return found


def empty(expressions: Iterable[str], told: Iterable[Answer]) -> list[str]:
    """Return the expressions that have no samples.

    Raises AssertionError as `samples` does.
    """
    return [each for each, found in samples(expressions, told).items() if not found]


def asked(log: str) -> dict[str, set[str]]:
    """Return the expressions that each console asked for, from Prometheus' log of queries."""
    found: dict[str, set[str]] = {name: set() for name in NAMES}
    for line in map(json.loads, log.splitlines()):
        path = line.get("httpRequest", {}).get("path", "")
        if path.startswith("/consoles/"):
            found[Path(path).name].add(line["params"]["query"])
    return found


def written() -> dict[str, re.Pattern[str]]:
    """Return what stands in the consoles' backquotes, and how it reads when it is filled in."""
    sources = [*(TREE / "consoles").glob("*.html"), *(TREE / "console_libraries").glob("*.lib")]
    texts = {text for path in sources for text in re.findall(r"`([^`]+)`", path.read_text())}
    return {text: re.compile(".*".join(map(re.escape, FORMAT.split(text))), re.DOTALL) for text in texts}


def never_asked(expressions: Iterable[str]) -> list[str]:
    """Return what is written in the consoles and none of these expressions came of."""
    known = list(expressions)
    return sorted(text for text, becomes in written().items() if not any(map(becomes.fullmatch, known)))


class Page(HTMLParser):
    """A page of a console: its links, what it found no data for, and whether its tags match."""

    def __init__(self, text: str):
        """Read it."""
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.without_data: list[str] = []
        self.problems = [sign for sign in SIGNS if sign in text]
        self.feed(text)
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "href" in given:
            self.links.append(given["href"] or "")
        if "data-query" in given:
            self.without_data.append(given["data-query"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Pass over a tag that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        """See that it closes what was opened last."""
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")
