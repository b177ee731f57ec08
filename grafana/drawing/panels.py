"""The three kinds of panel that there are: curves, a figure, a table."""

from __future__ import annotations

from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    TableSortByFieldState,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from drawing.consoles import Ask

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SHARE, SECONDS, COUNT, TIMES = units.PercentUnit, units.Seconds, units.Short, "suffix: x"
REQUESTS, TASKS, EVENTS = units.RequestsPerSecond, units.OpsPerSecond, units.CountsPerSecond
BYTES, BYTES_A_SECOND, AT = units.BytesIEC, units.BytesPerSecondIEC, units.DatetimeISO
WIDTH, HEIGHT = 24, 8
GOOD, WARM, HOT, PLAIN = "green", "orange", "red", "text"
# From where on a share of something that has an end is worth a look: as the consoles colour it.
FULL = ((0.7, WARM), (0.9, HOT))
Limits = tuple[tuple[float, str], ...]


def curves(
    title: str, unit: str, says: str, *asks: Ask, wide: int = 12, limits: Limits = ()
) -> timeseries.Panel:
    """Return curves over time.

    :param title: what is shown.
    :param unit: of all its values.
    :param says: what to read from it.
    :param asks: what is asked; each becomes as many curves as it has series.
    :param wide: of 24.
    :param limits: from which values on which colour; drawn as lines.
    """
    panel = timeseries.Panel().title(title).unit(unit).description(_described(says, asks))
    panel.datasource(SOURCE).span(wide).height(HEIGHT).min(0).line_width(1).fill_opacity(8)
    panel.thresholds(_thresholds(limits, GOOD)).show_points(VisibilityMode.NEVER).no_value("none")
    if limits:
        panel.thresholds_style(GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    legend = VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    legend.display_mode(LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"]).sort_by("Max").sort_desc(True)
    panel.legend(legend)
    panel.tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    for letter, ask in zip("ABCDEFGH", asks, strict=False):
        panel.with_target(Dataquery().ref_id(letter).expr(ask.expr).legend_format(ask.legend).range())
    return panel


def figure(title: str, unit: str, says: str, ask: Ask, *, limits: Limits = (), below: str = "") -> stat.Panel:
    """Return a figure as it is now, before the curve of how it was.

    :param title: what is shown.
    :param unit: of its value.
    :param says: what to read from it.
    :param ask: what is asked, for one series or a few.
    :param limits: from which values on which colour.
    :param below: its colour below all of them; green by default, and none of its own without limits.
    """
    panel = stat.Panel().title(title).unit(unit).description(_described(says, (ask,)))
    panel.datasource(SOURCE).span(4).height(4).graph_mode(BigValueGraphMode.AREA).no_value("none")
    panel.color_mode(BigValueColorMode.VALUE).thresholds(
        _thresholds(limits, below or (GOOD if limits else PLAIN))
    )
    panel.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel.with_target(Dataquery().ref_id("A").expr(ask.expr).legend_format(ask.legend).range())


class Column(NamedTuple):
    """A column of a table."""

    words: str
    unit: str
    ask: Ask
    limits: Limits = ()
    meanings: dict[str, tuple[str, str]] | None = None
    """Words and colours for some values."""


def rows(title: str, says: str, labels: dict[str, str], *columns: Column, wide: int = WIDTH) -> table.Panel:
    """Return a table as it is now, with the first column's greatest values on top.

    :param title: what is shown.
    :param says: what to read from it.
    :param labels: what tells rows apart: a label, and what it is called.
    :param columns: the others, each asked by itself.
    :param wide: of 24.
    """
    panel = table.Panel().title(title).unit(columns[0].unit).datasource(SOURCE).span(wide).height(HEIGHT)
    panel.description(_described(says, [each.ask for each in columns])).thresholds(_thresholds((), PLAIN))
    panel.sort_by([TableSortByFieldState().display_name(columns[0].words).desc(True)]).no_value("-")
    names = dict(labels)
    for letter, each in zip("ABCDEFGH", columns, strict=False):
        asked = Dataquery().ref_id(letter).expr(each.ask.expr).format(PromQueryFormat.TABLE).instant()
        panel.with_target(asked)
        # Of a single query Grafana leaves the letter out.
        names["Value" if len(columns) == 1 else f"Value #{letter}"] = each.words
        panel.override_by_name(each.words, _cell(each))
    kept = {"include": {"names": [*labels, *[name for name in names if name.startswith("Value")]]}}
    order = {name: number for number, name in enumerate(names)}
    told = {"excludeByName": {}, "indexByName": order, "renameByName": names}
    # Labels that only some of them have would keep rows apart: first leave them out.
    for kind, options in (("filterFieldsByName", kept), ("merge", {}), ("organize", told)):
        panel.with_transformation(DataTransformerConfig(id_val=kind, options=options))
    return panel


def _cell(column: Column) -> list[DynamicConfigValue]:
    """Return what is particular to a column."""
    said: list[DynamicConfigValue] = [DynamicConfigValue("unit", column.unit)]
    if column.limits:
        said.append(DynamicConfigValue("thresholds", _thresholds(column.limits, PLAIN).build()))
        said.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    if column.meanings:
        told = {
            value: ValueMappingResult(text=words, color=colour)
            for value, (words, colour) in column.meanings.items()
        }
        said.append(DynamicConfigValue("mappings", [ValueMap(told)]))
        said.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return said


def _thresholds(limits: Limits, below: str) -> ThresholdsConfig:
    """Return colours by value: `below` up to the first limit."""
    steps = [Threshold(None, below), *[Threshold(value, colour) for value, colour in limits]]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _described(says: str, asks: Any) -> str:
    """Return a description that also says why there may be no data."""
    reasons = dict.fromkeys(ask.why for ask in asks if ask.why)
    return " ".join([says, *[f"No data? {reason}" for reason in reasons]])
