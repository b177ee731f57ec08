"""Put what was measured in words and numbers."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from ..spread import Spread, of_median, percentile
from .rounds import Bench, Slice
from .variants import BARE, WHOLE

TITLES = {
    "db": "database-backed view: two SELECTs through the ORM, twenty rows as JSON",
    "logged": "the same view with one line of log",
    "json": 'one line of JSON: {"hello": "world"}',
}
# DESIGN's own words for the whole of flask_ops without a DSN, on the database-backed view.
LIMIT_PERCENT = 10
PARTS = ("gunicorn", "nginx", "cpu", "postgresql")


def results(bench: Bench) -> list[dict[str, Any]]:
    """Return a row for each view and variant: medians, and ratios to the bare one of the same round."""
    return [
        _row(bench, view, variant.name, variant.about)
        for view in bench.plan.requests
        for variant in bench.variants
    ]


def _row(bench: Bench, view: str, name: str, about: str) -> dict[str, Any]:
    slices, bare = bench.slices[view, name], bench.slices[view, BARE]
    row: dict[str, Any] = {"view": view, "variant": name, "about": about}
    row |= {f"{part}_us": round(median(getattr(s, part) for s in slices), 1) for part in PARTS}
    row |= {"p50_us": _wait(slices, 0.5), "p99_us": _wait(slices, 0.99)}
    row |= {f"{part}_ratio": asdict(_ratio(slices, bare, part)) for part in ("cpu", "postgresql")}
    row["p99_ratio"] = asdict(_p99_ratio(slices, bare))
    row["idle_ms_per_second"] = round(bench.idle[name], 2)
    return row


def _ratio(slices: list[Slice], bare: list[Slice], part: str) -> Spread:
    groups: dict[int, list[float]] = {}
    for one, other in zip(slices, bare, strict=True):
        # A view without the database uses none of it in either.
        below = getattr(other, part)
        groups.setdefault(one.epoch, []).append(getattr(one, part) / below if below else 1.0)
    return of_median(list(groups.values()))


def _wait(slices: list[Slice], share: float) -> float:
    return percentile([wait for one in slices for wait in one.waits], share)


def _p99_ratio(slices: list[Slice], bare: list[Slice]) -> Spread:
    # Over all rounds of an epoch: the slowest hundredth of one round is a handful of answers.
    epochs = dict.fromkeys(one.epoch for one in slices)
    both = [[[one for one in of if one.epoch == epoch] for of in (slices, bare)] for epoch in epochs]
    return of_median([[_wait(ours, 0.99) / _wait(others, 0.99)] for ours, others in both])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text, a block for each view."""
    lines = []
    for view in dict.fromkeys(row["view"] for row in rows):
        lines += ["", TITLES[view]]
        lines.append(
            f"  {'':40}{'CPU / bare':>11}{'95 % of':>15}{'CPU':>7}{'gunicorn':>10}{'nginx':>7}"
            f"{'p50':>8}{'p99':>8}{'p99 / bare':>12}{'database':>10}{'idle':>7}"
        )
        lines.append(
            f"  {'':40}{'median':>11}{'medians':>15}{'µs':>7}{'µs':>10}{'µs':>7}"
            f"{'µs':>8}{'µs':>8}{'median':>12}{'/ bare':>10}{'ms/s':>7}"
        )
        lines += [_line(row) for row in rows if row["view"] == view]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    cpu, p99, database = row["cpu_ratio"], row["p99_ratio"], row["postgresql_ratio"]
    interval = f"{cpu['low']:.3f}–{cpu['high']:.3f}"  # noqa: RUF001 - a range, not a difference
    return (
        f"  {row['about']:40}{cpu['median']:11.3f}{interval:>15}{row['cpu_us']:7.0f}"
        f"{row['gunicorn_us']:10.0f}{row['nginx_us']:7.0f}"
        f"{row['p50_us']:8.0f}{row['p99_us']:8.0f}{p99['median']:12.2f}"
        f"{database['median']:10.2f}{row['idle_ms_per_second']:7.1f}"
    )


def verdict(rows: list[dict[str, Any]], *, quiet: bool) -> str:
    """Return one line on each view: what the whole of flask_ops without a DSN costs.

    :param quiet: whether nobody else was at work on the machine.
    """
    return "\n".join(_verdict(row, quiet) for row in rows if row["variant"] == WHOLE)


def _verdict(row: dict[str, Any], quiet: bool) -> str:
    median_, low, high = ((row["cpu_ratio"][key] - 1) * 100 for key in ("median", "low", "high"))
    words = f"{row['view']}: the whole of flask_ops without a DSN costs {median_:+.1f} % CPU a request"
    words += f" (from {low:+.1f} to {high:+.1f})"
    if row["view"] != "db":
        return words
    held = "held" if high <= LIMIT_PERCENT else "NOT HELD" if low > LIMIT_PERCENT else "not decided"
    return f"{words}; limit {LIMIT_PERCENT} %: {held if quiet else 'not decided, the machine was busy'}"
