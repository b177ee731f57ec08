"""Put what was measured in a table, and say whether what must hold does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..spread import Spread, of_median
from .contestants import CONTESTANTS
from .rounds import OPEN_SHARE, Measured, Memory, Waits
from .views import VIEWS


@dataclass(frozen=True, slots=True)
class Claim:
    """One ratio that must hold.

    :param view: empty for memory, which all views make together.
    :param of: contestant.
    :param to: the one it is compared with.
    :param what: attribute of what was measured.
    :param limit: of the ratio.
    :param is_at_least: whether the limit is the least, else the most.
    """

    view: str
    of: str
    to: str
    what: str
    limit: float
    is_at_least: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        where = f"{self.view}: " if self.view else ""
        return f"{where}{WORDS[self.what]}, {self.of} to {self.to}"


WORDS = {
    "cpu_us": "CPU a request",
    "p99_ms": f"p99 at {OPEN_SHARE:.0%} of its own saturation",
    "per_second": "requests a second",
    "pss_mib": "memory",
}
CLAIMS = (
    Claim("json", "worker", "gevent", "cpu_us", 0.55),
    Claim("json", "ops", "fastapi", "cpu_us", 1.1),
    Claim("one", "ops", "fastapi", "cpu_us", 0.7),
    Claim("twenty", "ops", "fastapi", "cpu_us", 0.7),
    Claim("page", "ops", "fastapi", "cpu_us", 0.8),
    *(Claim(view, "ops", "fastapi-on", "cpu_us", 0.8) for view in VIEWS),
    Claim("one", "ops", "fastapi", "p99_ms", 0.5),
    Claim("", "ops", "fastapi", "pss_mib", 0.6),
    Claim("json", "ops", "docs", "per_second", 2.5, is_at_least=True),
    Claim("one", "ops", "docs", "per_second", 1.5, is_at_least=True),
    Claim("slow", "ops", "fastapi", "per_second", 0.95, is_at_least=True),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim beside what was measured.

    :param ratio: None where one of the two was not measured.
    """

    claim: Claim
    ratio: Spread | None
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Found:
    """All that was measured."""

    measured: Sequence[Measured]
    waits: Sequence[Waits]
    memory: Sequence[Memory]

    @property
    def views(self) -> list[str]:
        """Their names, in the order of the table."""
        return [name for name in VIEWS if any(one.view == name for one in self.measured)]

    def at(self, view: str, name: str) -> list[Measured]:
        """Return the turns of a contestant at a view."""
        return [one for one in self.measured if (one.view, one.contestant) == (view, name)]

    def waited(self, view: str, name: str) -> list[Waits]:
        """Return the waits of a contestant's clients at a view."""
        return [one for one in self.waits if (one.view, one.contestant) == (view, name)]

    def held(self, name: str) -> list[Memory]:
        """Return what a contestant held."""
        return [one for one in self.memory if one.contestant == name]


def verdicts(found: Found) -> list[Verdict]:
    """Return each claim with its figure: the median of the turns' ratios, its interval by the bootstrap."""
    return [_verdict(claim, found) for claim in CLAIMS]


def _verdict(claim: Claim, found: Found) -> Verdict:
    of, to = (_by_turn(claim, name, found) for name in (claim.of, claim.to))
    groups: dict[int, list[float]] = {}
    for run, turn in sorted(of.keys() & to.keys()):
        groups.setdefault(run, []).append(of[run, turn] / to[run, turn])
    if not groups:
        return Verdict(claim, None, None)
    ratio = of_median(list(groups.values()))
    holds = ratio.median >= claim.limit if claim.is_at_least else ratio.median <= claim.limit
    if claim.view == "slow" and claim.is_at_least:
        holds = holds and not any(one.bad for one in found.at(claim.view, claim.of))
    return Verdict(claim, ratio, holds)


def _by_turn(claim: Claim, name: str, found: Found) -> dict[tuple[int, int], float]:
    if claim.what == "pss_mib":
        return {(run, 0): one.pss_mib for run, one in enumerate(found.held(name))}
    if claim.what == "p99_ms":
        return {(one.run, 0): one.p99_ms for one in found.waited(claim.view, name)}
    turns = found.at(claim.view, name)
    return {(one.run, one.turn): value for one in turns if (value := getattr(one, claim.what))}


HEAD = (
    "contestant",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/request",
    "of it app",
    "of it nginx",
    "PostgreSQL µs",
    "not answered",
)


def tables(found: Found) -> str:
    """Return the tables in Markdown: medians."""
    lines: list[str] = []
    for view in found.views:
        lines += ["", f"**{view}**: {VIEWS[view].about}", "", *_header(HEAD)]
        lines += [_line(view, name, found) for name in CONTESTANTS if found.at(view, name)]
    head = ("contestant", "processes", "memory MiB (PSS)")
    lines += ["", "**memory**, of all processes of the app", "", *_header(head)]
    for name in CONTESTANTS:
        for held in found.held(name):
            lines.append(_cells((_title(name), held.processes, f"{held.pss_mib:.0f}")))
    return "\n".join(lines[1:])


def _line(view: str, name: str, found: Found) -> str:
    turns, waited = found.at(view, name), found.waited(view, name)
    whats = ("cpu_us", "app_us", "nginx_us", "postgresql_us")
    cpu = [f"{median(getattr(one, what) for one in turns):.0f}" for what in whats]
    waits = [
        f"{median(getattr(one, what) for one in waited):.1f}" if waited else ""
        for what in ("p50_ms", "p99_ms")
    ]
    # Of a slow view both are of the same requests.
    counted = turns if VIEWS[view].is_slow else [*turns, *waited]
    bad, asked = sum(one.bad for one in counted), sum(one.requests for one in counted)
    rate = f"{median(one.per_second for one in turns):.0f}"
    return _cells((_title(name), rate, *waits, *cpu, f"{bad} of {asked}" if bad else "0"))


def _title(name: str) -> str:
    return f"`{name}` {CONTESTANTS[name].about}"


def _header(names: Sequence[str]) -> list[str]:
    return [_cells(names), _cells(["---", *("--:" for _ in names[1:])])]


def _cells(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def held(found: Sequence[Verdict]) -> str:
    """Return what must hold, beside what was measured, in Markdown."""
    lines = _header(("must hold", "limit", "measured", "95 % of medians", "holds"))
    for verdict in found:
        claim, ratio = verdict.claim, verdict.ratio
        limit = f"{'≥' if claim.is_at_least else '≤'} {claim.limit:g}"
        if ratio is None:
            lines.append(_cells((claim, limit, "not measured", "", "")))
            continue
        interval = f"{ratio.low:.2f} to {ratio.high:.2f}"
        word = "yes" if verdict.holds else "**no**"
        lines.append(_cells((claim, limit, f"{ratio.median:.2f}", interval, word)))
    return "\n".join(lines)
