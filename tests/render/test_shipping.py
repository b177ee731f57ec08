"""Who ships a journal and who takes it in know each other by their certificates, on Debian 12 and 13."""

from __future__ import annotations

import pytest
from rendering import INVENTORY, WATCHED, render
from shipping import JOURNAL, ONCE, Ends


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Render the inventory whose hosts are watched."""
    return render(tmp_path_factory.mktemp("watched"), INVENTORY.with_name("watched.yml"), WATCHED).hosts


@pytest.fixture(scope="module", params=["watch-12", "watch-13"])
def container(request, watched):
    with Ends(watched[request.param]) as made:
        yield made


@pytest.fixture
def ends(container):
    container.receive()
    yield container
    container.stop()


def test_lines_of_a_host_that_is_known_arrive_under_its_name(ends):
    done = ends.ship("known")
    assert done.returncode == 0, done.stderr + ends.log()
    assert ends.received().count("known") == 1


def test_no_line_is_lost_or_sent_twice_where_shipping_begins_again(ends):
    done = ends.run("sh", "-c", JOURNAL, "/program/journal-ship")
    assert [line for line in ends.received() if line in ONCE] == ONCE, done.stderr + ends.said()


def test_lines_of_a_stranger_are_refused(ends):
    assert ends.ship("strange", name="stranger").returncode == 1
    assert "strange" not in ends.received()
    assert "Rejected by CERT" in ends.log()


def test_nobody_is_let_in_without_a_certificate(ends):
    asked = ends.run("sh", "-c", "openssl s_client -connect 127.0.0.1:19532 -quiet </dev/null")
    assert "certificate required" in asked.stderr + ends.log() or "peer did not return" in ends.log()


@pytest.mark.parametrize("name", ["imposter", "elsewhere"])
def test_nothing_is_shipped_to_a_server_that_is_not_trusted(container, name):
    container.receive(name)
    try:
        # Trusted by its certificate, the second names another address than it was asked by.
        done = container.ship(name, trusting="receiver" if name == "imposter" else name)
        assert done.returncode == 1
        assert "SSL" in done.stderr, done.stderr
        assert name not in container.received()
    finally:
        container.stop()


def test_what_debian_builds_would_ask_nobody_for_a_certificate(container):
    # Where this goes red, the guard in front of it may go.
    done = container.run("/lib/systemd/systemd-journal-remote", "--trust=/root/shipper.crt", "--output=/tmp/")
    assert done.returncode != 0
    assert "is not available" in done.stderr
