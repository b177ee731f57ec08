"""What every dashboard has: variables, marks of deploys, the way to the others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from drawing.consoles import APP
from drawing.panels import SOURCE

TAG = "flask-app"
# What changes which release answers; in milliseconds, as Grafana wants it.
DEPLOYS = f'releasectl_last_command_timestamp_seconds{{command=~"activate|rollback|canary", {APP}}} * 1000'
Rows = dict[str, Iterable[Builder[Panel]]]


def board(name: str, title: str, says: str, hosts: str, rows: Rows) -> Dashboard:
    """Return a dashboard.

    :param name: the end of its uid.
    :param title: what it is called.
    :param says: what it is for.
    :param hosts: the metric whose instances are offered.
    :param rows: panels by the title of their row.
    """
    made = Dashboard(title).uid(f"{TAG}-{name}").description(says).tags([TAG]).timezone("utc")
    made.time("now-6h", "now").refresh("1m").tooltip(DashboardCursorSync.CROSSHAIR)
    made.variables([_source(), _app(), _hosts(hosts)]).annotations([_deploys()]).links([_others()])
    numbers = count(1)
    for words, panels in rows.items():
        made.with_row(Row(words).id(next(numbers)))
        for panel in panels:
            made.with_panel(panel.id(next(numbers)))
    return made


def _source() -> DatasourceVariable:
    return DatasourceVariable("datasource").label("Data source").type("prometheus")


def _app() -> QueryVariable:
    asked = QueryVariable("app").label("App").query('label_values(up{app!=""}, app)')
    return _offered(asked)


def _hosts(metric: str) -> QueryVariable:
    places = metric[:-1] + ", " if metric.endswith("}") else metric + "{"
    asked = QueryVariable("instance").label("Host").query(f"label_values({places}{APP}}}, instance)")
    chosen = VariableOption(selected=True, text=["All"], value=["$__all"])
    return _offered(asked).multi(True).include_all(True).all_value(".+").current(chosen)


def _offered(variable: QueryVariable) -> QueryVariable:
    variable.datasource(SOURCE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(VariableSort.ALPHABETICAL_ASC)


def _deploys() -> AnnotationQuery:
    marks = AnnotationQuery().name("Deploys").datasource(SOURCE).enable(True).icon_color("blue")
    marks.expr(DEPLOYS).use_value_for_time(True).step("1m")
    return marks.title_format("{{command}}").text_format("{{instance}}").tag_keys("command")


def _others() -> DashboardLink:
    link = DashboardLink("Dashboards of the app").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)
