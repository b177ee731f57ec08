"""Choose among what was measured, and say it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .measure import Setting, Turn

#: What serves this share of the most is as good: turns differ by as much.
AS_GOOD = 0.95


@dataclass(frozen=True, slots=True)
class Summary:
    """Medians over a setting's turns, and its slowest and quickest turn."""

    setting: Setting
    per_second: float
    least: float
    most: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    pss_mib: float


def summaries(turns: Sequence[Turn]) -> list[Summary]:
    """Return one for each setting, the quickest first."""
    groups: dict[Setting, list[Turn]] = defaultdict(list)
    for turn in turns:
        groups[turn.setting].append(turn)
    found = [_summary(setting, group) for setting, group in groups.items()]
    return sorted(found, key=lambda one: -one.per_second)


def _summary(setting: Setting, turns: Sequence[Turn]) -> Summary:
    rates = [turn.per_second for turn in turns]
    of = {
        name: median(getattr(turn, name) for turn in turns)
        for name in ("per_second", "p50_ms", "p99_ms", "cpu_us", "pss_mib")
    }
    return Summary(setting, least=min(rates), most=max(rates), **of)


def best(found: Sequence[Summary]) -> Summary:
    """Return what to set: of those that serve about as much as the quickest, the one with least memory."""
    most = max(one.per_second for one in found)
    return min((one for one in found if one.per_second >= AS_GOOD * most), key=lambda one: one.pss_mib)


def words(found: Sequence[Summary]) -> str:
    """Return the table and the choice, for people."""
    lines = [
        f"{'class':12} {'workers':>7} {'requests/s':>11} {'least-most':>13} {'p50 ms':>8} {'p99 ms':>8}"
        f" {'CPU us':>8} {'MiB':>6}"
    ]
    for one in found:
        spread = f"{one.least:.0f}-{one.most:.0f}"
        lines.append(
            f"{one.setting.worker_class:12} {one.setting.workers:7} {one.per_second:11.0f} {spread:>13}"
            f" {one.p50_ms:8.1f} {one.p99_ms:8.1f} {one.cpu_us:8.0f} {one.pss_mib:6.0f}"
        )
    chosen = best(found)
    return "\n".join(
        [
            *lines,
            "",
            f"Of those that serve {AS_GOOD:.0%} of the most, the one with least memory. In the inventory:",
            f"  app_web_worker_class: {chosen.setting.worker_class}",
            f"  app_web_workers: {chosen.setting.workers}",
        ]
    )
