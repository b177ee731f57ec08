"""Put what was measured in a table, and say whether what must hold does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..spread import Spread, of_median
from .contestants import CONTESTANTS
from .rounds import OPEN_SHARE, Measured, Memory
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


def verdicts(measured: Sequence[Measured], memory: Sequence[Memory]) -> list[Verdict]:
    """Return each claim with its figure: the median of the runs' ratios, its interval by the bootstrap."""
    return [_verdict(claim, measured, memory) for claim in CLAIMS]


def _verdict(claim: Claim, measured: Sequence[Measured], memory: Sequence[Memory]) -> Verdict:
    of, to = (_by_run(claim, name, measured, memory) for name in (claim.of, claim.to))
    runs = sorted(of.keys() & to.keys())
    if not runs:
        return Verdict(claim, None, None)
    ratio = of_median([[of[run] / to[run]] for run in runs])
    holds = ratio.median >= claim.limit if claim.is_at_least else ratio.median <= claim.limit
    if claim.view == "slow" and claim.is_at_least:
        ours = [one for one in measured if (one.view, one.contestant) == ("slow", claim.of)]
        holds = holds and not any(one.bad for one in ours)
    return Verdict(claim, ratio, holds)


def _by_run(
    claim: Claim, name: str, measured: Sequence[Measured], memory: Sequence[Memory]
) -> dict[int, float]:
    if not claim.view:
        return {one.run: one.pss_mib for one in memory if one.contestant == name}
    found = [one for one in measured if (one.view, one.contestant) == (claim.view, name)]
    return {one.run: value for one in found if (value := getattr(one, claim.what))}


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


def tables(measured: Sequence[Measured], memory: Sequence[Memory]) -> str:
    """Return the tables in Markdown: medians over the runs."""
    lines: list[str] = []
    for view in dict.fromkeys(one.view for one in measured):
        lines += ["", f"**{view}**: {VIEWS[view].about}", "", *_header(HEAD)]
        of_view = [one for one in measured if one.view == view]
        lines += [
            _line(name, of_view) for name in CONTESTANTS if any(one.contestant == name for one in of_view)
        ]
    head = ("contestant", "processes", "memory MiB (PSS)")
    lines += ["", "**memory**, of all processes of the app", "", *_header(head)]
    for name in CONTESTANTS:
        if ours := [one for one in memory if one.contestant == name]:
            cells = (_title(name), ours[0].processes, f"{median(one.pss_mib for one in ours):.0f}")
            lines.append(_cells(cells))
    return "\n".join(lines[1:])


def _line(name: str, of_view: Iterable[Measured]) -> str:
    ours = [one for one in of_view if one.contestant == name]
    cpu = [f"{median(getattr(one, what) for one in ours):.0f}" for what in ("cpu_us", "app_us", "nginx_us")]
    waits = [_wait([getattr(one, what) for one in ours]) for what in ("p50_ms", "p99_ms")]
    database = f"{median(one.postgresql_us for one in ours):.0f}"
    bad, asked = sum(one.bad for one in ours), sum(one.requests for one in ours)
    share = f"{bad} of {asked}" if bad else "0"
    return _cells(
        (_title(name), f"{median(one.per_second for one in ours):.0f}", *waits, *cpu, database, share)
    )


def _wait(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):.1f}" if found else ""


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
