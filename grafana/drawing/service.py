"""How the app does: rate, errors and duration by route, goals, releases compared, saturation."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from drawing import frame
from drawing.consoles import APP, HOSTS, column, figure, named
from drawing.panels import (
    COUNT,
    EVENTS,
    FULL,
    GOOD,
    HOT,
    REQUESTS,
    SECONDS,
    SHARE,
    TIMES,
    WARM,
    Column,
    curves,
    rows,
)
from drawing.panels import figure as shown

# Satisfied within a quarter of a second, tolerating four times that: bounds of the exporter's histogram.
SATISFIED, TOLERATED = "0.25", "1.0"
COUNTED = f"sum(rate(flask_http_request_duration_seconds_count{{{HOSTS}}}[5m])) > 0"
APDEX = "({} + {}) / 2 / ({})".format(
    *[
        f'sum(rate(flask_http_request_duration_seconds_bucket{{le="{bound}", {HOSTS}}}[5m]))'
        for bound in (SATISFIED, TOLERATED)
    ],
    COUNTED,
)
APDEX_SAYS = (
    "1 where all are answered within 0.25 s; who waits up to 1 s counts half, who waits longer not at all."
)
# Past these burn rates SloBurnsFast and SloBurnsSlowly alert: rules/slo.yml.
BURNS = ((3, WARM), (14.4, HOT))
WINDOWS = ("5m", "1h", "6h", "3d")


def board() -> Dashboard:
    """Return the dashboard."""
    says = "How the app does, by route, release and host, and what is left of its goals."
    return frame.board(
        "service",
        "Flask app: service",
        says,
        'up{job="app"}',
        {
            "Now": _now(),
            "Requests, errors and duration by route": _routes(),
            "Requests as a whole": _whole(),
            "Goals": _goals(),
            "Releases compared": releases(),
            "Saturation": _saturation(),
        },
    )


def _now() -> list:
    errors = figure("index", "Server errors (5xx)")
    return [
        shown(
            "Hosts that are ready",
            COUNT,
            "Whose /readyz is answered with 200.",
            figure("index", "Hosts that are ready"),
            limits=((1, GOOD),),
            below=HOT,
        ),
        shown("Requests", REQUESTS, "Of all hosts.", figure("index", "Requests")),
        shown(
            "Server errors", SHARE, "Requests answered with 5xx.", errors, limits=((0.001, WARM), (0.01, HOT))
        ),
        shown(
            "Time to answer, p95",
            SECONDS,
            "Nineteen of twenty requests are answered faster.",
            figure("index", "Time to answer, p95"),
        ),
        shown(
            "Apdex", COUNT, APDEX_SAYS, named("apdex", APDEX), limits=((0.7, WARM), (0.9, GOOD)), below=HOT
        ),
        shown("In flight", COUNT, "Requests being answered.", figure("index", "In flight")),
    ]


def _routes() -> list:
    by_route = f"sum by (url_rule) (rate(flask_http_request_duration_seconds_count{{{HOSTS}}}[5m])) > 0"
    errors = column("index", "errors", "{{url_rule}}")
    p95 = column("index", "p95", "{{url_rule}}")
    return [
        curves("Requests", REQUESTS, "None: no route.", named("{{url_rule}}", by_route), wide=8),
        curves("Server errors", SHARE, "Of each route's requests, those answered with 5xx.", errors, wide=8),
        curves("Time to answer, p95", SECONDS, "Nineteen of twenty are faster.", p95, wide=8),
        rows(
            "Routes",
            "Requests of the 25 most asked for; the other columns of all. None: no route.",
            {"url_rule": "route"},
            Column("requests", REQUESTS, column("index", "all", "{{url_rule}}")),
            Column("5xx", SHARE, errors, ((0.001, WARM), (0.01, HOT))),
            Column("p95", SECONDS, p95),
            Column("share of all time spent", SHARE, column("index", "load", "{{url_rule}}")),
        ),
    ]


def _whole() -> list:
    status = named("{{status}}", f"app:http_requests:rate5m{{{APP}}}")
    quantiles = [
        named(
            name,
            f"histogram_quantile({share}, sum by (le) "
            f"(rate(flask_http_request_duration_seconds_bucket{{{HOSTS}}}[5m]))) >= 0",
        )
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ]
    cut = f"sum by (instance) (rate(flask_ops_requests_timed_out_total{{{HOSTS}}}[5m]))"
    return [
        curves("Requests by status", REQUESTS, "Of all hosts, whichever are chosen.", status, wide=8),
        curves("Time to answer", SECONDS, "Half, 19 of 20 and 99 of 100 are faster.", *quantiles, wide=8),
        curves(
            "Ended at their deadline",
            EVENTS,
            "Requests answered with 503 because they took too long.",
            named("{{instance}}", cut),
            wide=8,
        ),
    ]


def _goals() -> list:
    burns = [
        named(
            f"{{{{slo}}}}, {window}",
            f"(app:slo_errors:ratio_avg{window}{{{APP}}} >= 0)"
            f" / on (app, slo) (1 - app:slo_objective:ratio{{{APP}}})",
        )
        for window in WINDOWS
    ]
    bad = named("{{slo}}", f"app:slo_errors:ratio_avg1h{{{APP}}} >= 0")
    used = column("page.lib", "used", "{{slo}}", APP)
    return [
        curves("Apdex", COUNT, APDEX_SAYS, named("apdex", APDEX), wide=8),
        curves("Bad events", SHARE, "Of each goal's events, on average over an hour.", bad, wide=8),
        curves(
            "Budgets burn",
            TIMES,
            "At 1 x a budget lasts for 30 days. Lines: SloBurnsSlowly and SloBurnsFast.",
            *burns,
            wide=8,
            limits=BURNS,
        ),
        rows(
            "Goals",
            "What was promised, and what came of it in 30 days, or as far back as Prometheus remembers.",
            {"slo": "goal"},
            Column("budget used", SHARE, used, FULL),
            Column("promised", SHARE, column("page.lib", "goals", "{{slo}}", APP)),
            Column("bad", SHARE, column("page.lib", "bad", "{{slo}}", APP)),
            Column("burns, 1 h", TIMES, column("page.lib", "burn", "{{slo}}", APP), BURNS),
        ),
    ]


def releases() -> list:
    """Return what compares releases that run at the same time or follow one another."""
    return [
        curves(title, unit, says, column("releases", name, "{{release}}"), wide=6)
        for title, unit, says, name in (
            ("Requests by release", REQUESTS, "Who answers: a deploy moves all of them at once.", "requests"),
            (
                "Server errors by release",
                SHARE,
                "Of each release's requests, those answered with 5xx.",
                "errors",
            ),
            ("Time to answer by release, p95", SECONDS, "Nineteen of twenty are faster.", "p95"),
            ("In flight by release", COUNT, "A release that drains comes down to 0.", "flight"),
        )
    ]


def _saturation() -> list:
    panels = [
        curves(title, SHARE, says, column("index", name, "{{instance}}"), wide=6, limits=((limit, HOT),))
        for title, says, name, limit in (
            (
                "Listen queue",
                "Connections that wait, of those that may. The line: WebSaturated.",
                "queue",
                0.5,
            ),
            (
                "Requests at once",
                "Of those all workers can answer at once. The line: WebSaturated.",
                "flight",
                0.9,
            ),
            ("Database pool", "Connections in use, of those allowed. The line: WebSaturated.", "pool", 0.9),
        )
    ]
    says = "How late nineteen of twenty wake-ups are at most. Gevent's alone."
    return [
        *panels,
        curves("Event loop's lag, p95", SECONDS, says, column("index", "lag", "{{instance}}"), wide=6),
    ]
