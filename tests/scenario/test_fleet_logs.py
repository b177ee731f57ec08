"""One timeline of what a request caused on several hosts, also while one of them does not answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from outages import unreachable
from testbed import fleets, following


def trace(fleet, request_id, path, label=""):
    """Run trace.yml over the whole fleet; return how it went and what it wrote."""
    play = fleet.play(
        "trace", "-e", f"logs_request_id={request_id}", "-e", f"logs_report={path}", label=label
    )
    return SimpleNamespace(play=play, words=play.words, **following.report(path))


@pytest.fixture(scope="module")
def followed(fleet, tmp_path_factory):
    """Send webhooks to the first host until a worker of another one does a task; return its timeline."""
    path, edge = tmp_path_factory.mktemp("trace") / "trace.json", fleet.apps[0]
    own = f"journalctl --quiet --identifier={edge.app}-worker --output=cat --grep={{}} || true"
    with following.every_statement(fleet.data):
        for _ in range(12):
            request_id = following.processed(edge, fleet.data)
            if not edge.sudo(own.format(request_id)).strip():
                break
    told = trace(fleet, request_id, path)
    fleet.say(f"trace.yml over four hosts: {told.seconds} s there, {told.play.seconds:.1f} s in all")
    return SimpleNamespace(id=request_id, edge=edge, told=told, path=path)


def test_request_is_followed_over_the_hosts_that_had_to_do_with_it(fleet, followed):
    told = followed.told
    told.play.ok()
    places = following.first_places(told.lines)
    assert places.keys() == {"nginx", "app", "sql", "worker"}, told.lines
    assert places["nginx"] == 0
    assert places["app"] < places["worker"]
    assert places["sql"] < places["worker"]
    hosts = {source: {line["host"] for line in told.lines if line["source"] == source} for source in places}
    assert hosts["nginx"] == hosts["app"] == {followed.edge.name}
    assert hosts["sql"] == {fleets.DATA}
    assert hosts["worker"] < {*fleets.APPS} - {followed.edge.name}
    assert all(seconds < following.TRACED_SECONDS for seconds in told.seconds.values()), told.seconds
    assert told.seconds.keys() == {*fleets.APPS, fleets.DATA}
    for line in told.lines:
        assert f"{line['time']} {line['host']} {line['source']} {line['level']}" in told.words


def test_lines_of_all_hosts_are_found_by_what_they_say(fleet, followed, tmp_path):
    path = tmp_path / "logs.json"
    asked = ["logs_since=1h", "logs_lines=50", f"logs_report={path}"]
    fleet.play("logs", *(part for one in asked for part in ("-e", one))).ok()
    told = following.report(path)
    assert len(told["lines"]) == 50
    assert told["more"] is True
    assert len({line["host"] for line in told["lines"]}) > 1
    following.first_places(told["lines"])


def test_host_that_is_not_reached_is_named_and_the_others_are_shown(fleet, followed, tmp_path):
    """The first of the play: it is the one that shows what all said."""
    gone = followed.edge
    with unreachable(gone):
        told = trace(fleet, followed.id, tmp_path / "trace.json", label="trace without one of the hosts")
    assert told.play.returncode != 0
    assert told.silent.keys() == {gone.name}
    assert told.lines == [line for line in followed.told.lines if line["host"] != gone.name]
    assert f"No answer, so this may not be all: {gone.name}: " in told.words, told.play.tail()
    assert f"Not every host answered: {gone.name}" in told.words, told.play.tail()
