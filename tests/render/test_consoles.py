"""Prometheus of Debian 12 and 13 makes consoles into pages; it has data for what they and dashboards ask."""

from __future__ import annotations

import sys

import pytest
from consoled import LOG, Consoled
from rendering import INVENTORY, ROOT, WATCHED, render
from testbed import consoles, dashboards
from testbed.consoles import NAMES, Page

sys.path.insert(0, str(ROOT / "roles/app/files"))

from releasectl import scraped

FOREIGN = "%22%7D)%3Cscript%3E%60"


@pytest.fixture(scope="module", params=["watch-12", "watch-13"])
def prometheus(request, tmp_path_factory):
    inventory = INVENTORY.with_name("watched.yml")
    hosts = render(tmp_path_factory.mktemp("watched"), inventory, WATCHED).hosts
    with Consoled(hosts[request.param], tmp_path_factory.mktemp("tests")) as made:
        yield made


@pytest.fixture(scope="module")
def asked(prometheus):
    """Return what the consoles ask for about an app of which everything is known."""
    prometheus.output("truncate", "--size=0", LOG)
    for answer in prometheus.get(*(f"consoles/{name}?app=inbox" for name in NAMES)):
        assert answer.status == 200, answer.text
    return consoles.asked(prometheus.output("cat", LOG))


def page_of(prometheus, path: str) -> Page:
    (answer,) = prometheus.get(f"consoles/{path}")
    assert (answer.status, answer.kind) == (200, "text/html; charset=utf-8"), answer.text
    page = Page(answer.text)
    assert page.problems == [], answer.text
    assert "<script" not in answer.text
    return page


@pytest.mark.parametrize("name", NAMES)
def test_console_has_data_for_each_of_its_figures(prometheus, name):
    assert page_of(prometheus, f"{name}?app=inbox").without_data == []


def test_every_expression_of_a_console_has_data(prometheus, asked):
    for name, expressions in asked.items():
        assert len(expressions) >= 3, name
        assert prometheus.empty(*expressions) == [], name


@pytest.mark.parametrize("name", dashboards.NAMES)
def test_every_expression_of_a_dashboard_has_data(prometheus, name):
    expressions = dashboards.expressions(name, "inbox")
    assert len(expressions) > 10
    assert prometheus.empty(*expressions) == []


@pytest.mark.parametrize("name", dashboards.NAMES)
def test_a_dashboard_knows_nothing_of_an_app_that_is_not_there(prometheus, name):
    expressions = dashboards.expressions(name, "nobody")
    # The variable that offers the apps, and what counts failures from 0, are about no app.
    about = [each for each in expressions if "nobody" in each and not each.endswith("or vector(0)")]
    assert len(about) > 10
    assert prometheus.empty(*about) == about


def test_no_expression_is_written_that_was_not_asked(asked):
    assert consoles.never_asked(set().union(*asked.values())) == []


def test_status_page_finds_what_is_left_of_each_goal(prometheus):
    """By releasectl's own expressions: over availability, latency and tasks, as the console has them."""
    asked = [each.format(app="inbox") for each in (scraped.GOALS, scraped.BAD_SHARES)]
    for expression, found in consoles.samples(asked, prometheus.get(*consoles.queries(asked))).items():
        goals = {sample["metric"]["slo"] for sample in found}
        assert goals == {"availability", "latency", "tasks"}, expression
        assert all(0 < float(sample["value"][1]) < 1 for sample in found), expression


@pytest.mark.parametrize("name", NAMES)
def test_console_of_all_apps_says_what_it_does_not_know_of_one_of_them(prometheus, name):
    # Nothing is known of the app board but that its host does not answer.
    without_data = page_of(prometheus, name).without_data
    assert name == "alerts.html" or without_data
    assert [each for each in without_data if "inbox" in each] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("app", ["nobody", FOREIGN])
def test_console_of_an_app_that_is_not_there_says_so(prometheus, name, app):
    page = page_of(prometheus, f"{name}?app={app}")
    # What is about no app at all, Watchdog, fires there as well.
    assert len(page.without_data) == (name != "alerts.html")


@pytest.mark.parametrize("name", NAMES)
def test_links_keep_the_app_and_lead_somewhere(prometheus, name):
    links = set(page_of(prometheus, f"{name}?app=inbox").links)
    assert links >= {f"{other}?app=inbox" for other in NAMES} | {"?app=board", "?app=inbox", name}
    assert {link.partition("?")[0] for link in links} <= {*NAMES, ""}
