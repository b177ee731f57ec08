"""What Prometheus and a person are told."""

from __future__ import annotations

import pytest
from conftest import make_pair
from tlsctl import certificate, telling
from tlsctl.errors import Trouble


def told(its):
    telling.observe(its)
    lines = its.metrics.read_text().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")
    }


@pytest.fixture
def served(declare, listen):
    """Return what a listener shows, as it is on disk."""
    folder = make_pair(declare().folder)
    port = listen(folder).port
    return lambda mode="files", port=port: declare(port=port, mode=mode)


def test_end_of_the_served_certificate_is_told(served):
    its = served()
    ends = certificate.read(its.certificate).not_after
    found = told(its)
    for where in ("disk", "served"):
        name = f'tls_certificate_not_after_timestamp_seconds{{name="shop",where="{where}"}}'
        assert found[name] == ends
    assert found['tls_certificate_renewal_due_timestamp_seconds{name="shop"}'] == ends - 30 * 86400
    assert found['tls_certificate_served_is_current{name="shop"}'] == 1
    assert not any("renewal_last_run" in name for name in found)
    assert telling.problems(its) == []


def test_certificate_that_is_not_served_is_told(served, listen, tmp_path):
    its = served(port=listen(make_pair(tmp_path / "other")).port)
    assert told(its)['tls_certificate_served_is_current{name="shop"}'] == 0
    assert "is on disk" in telling.problems(its)[0]


def test_nobody_listening_is_told(declare):
    its = declare(mode="files")
    make_pair(its.folder)
    found = told(its)
    assert found['tls_certificate_served_is_current{name="shop"}'] == 0
    assert 'tls_certificate_not_after_timestamp_seconds{name="shop",where="served"}' not in found
    assert "shows no certificate on port 1" in telling.problems(its)[0]


def test_no_certificate_at_all_is_told(declare):
    its = declare()
    assert told(its)['tls_certificate_served_is_current{name="shop"}'] == 0
    assert "is no certificate" in telling.problems(its)[0]


@pytest.mark.parametrize(("mode", "days", "found"), [("files", 31, 0), ("files", 29, 1), ("acme", 6, 0)])
def test_certificate_that_should_have_been_renewed_is_a_problem(served, mode, days, found):
    its = served(mode)
    make_pair(its.folder, days=days)
    assert len(telling.problems(its)) == found, telling.problems(its)


def test_failed_renewal_is_told_until_one_succeeds(served):
    its = served("acme")
    telling.record(its, Trouble("the server is away"))
    assert told(its)['tls_renewal_last_run_success{name="shop"}'] == 0
    assert "the server is away" in telling.problems(its)[0]
    telling.record(its, None)
    assert told(its)['tls_renewal_last_run_success{name="shop"}'] == 1
    assert telling.problems(its) == []
