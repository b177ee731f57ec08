"""Whether a host is reached, told apart from a service that is not there yet; and from where one comes."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture
def listener():
    """A port of the loopback that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def asked(project, **arguments):
    return project.play([{"name": "Look", "reach": {"timeout_seconds": 1, **arguments}}]).last


def test_port_that_takes_connections_is_open(project, listener):
    found = asked(project, address="127.0.0.1", port=listener.getsockname()[1])
    assert (found["answer"], found["source"], found["changed"]) == ("open", "127.0.0.1", False)


def test_host_without_the_service_was_reached(project, listener):
    port = listener.getsockname()[1]
    listener.close()
    assert asked(project, address="127.0.0.1", port=port)["answer"] == "refused"


def test_port_that_keeps_silent_is_no_answer(project):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = [socket.socket() for _ in range(4)]
        for each in held:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        found = asked(project, address="127.0.0.1", port=full.getsockname()[1])
        for each in held:
            each.close()
    assert found["answer"] == "no answer within 1 s"


def test_address_of_nobody_is_told_without_a_source(project):
    found = asked(project, address="not-an-address", port=5432)
    assert found["source"] == ""
    assert found["answer"]
