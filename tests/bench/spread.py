"""Say how sure a ratio is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the interval that holds it in 95 of 100 repetitions."""

    median: float
    low: float
    high: float


def of_median(groups: Sequence[Sequence[float]]) -> Spread:
    """Return the median of all values, with its interval by the bootstrap.

    Groups are drawn first, then values within each: values of one group share what its servers happened to
    be like (memory layout, hash seed), so a hundred rounds of one start are no hundred measurements
    (Davison and Hinkley, "Bootstrap Methods and their Application", 3.8).

    :param groups: values measured together.
    """
    # The same numbers give the same interval.
    chance = random.Random(0)
    medians = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(groups, k=len(groups))
        medians.append(median(value for group in drawn for value in chance.choices(group, k=len(group))))
    medians.sort()
    middle = median(value for group in groups for value in group)
    return Spread(middle, medians[RESAMPLES // 40], medians[-1 - RESAMPLES // 40])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
