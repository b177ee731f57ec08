"""What is read of certificates, and when one is due."""

from __future__ import annotations

import pytest
from conftest import make_pair
from tlsctl import certificate
from tlsctl.errors import Trouble

DAY = 86400


def test_reads_what_openssl_tells(tmp_path):
    found = certificate.read(make_pair(tmp_path, names=("b.example.org", "a.example.org")) / "fullchain.pem")
    assert found.names == ("a.example.org", "b.example.org")
    assert found.not_after - found.not_before == 90 * DAY
    assert int(found.serial, 16) > 0


def test_says_which_file_holds_none(tmp_path):
    (tmp_path / "fullchain.pem").write_text("nothing")
    with pytest.raises(Trouble, match=r"fullchain\.pem: no certificate"):
        certificate.read(tmp_path / "fullchain.pem")
    with pytest.raises(Trouble, match="missing"):
        certificate.read(tmp_path / "missing")


@pytest.mark.parametrize(("days", "window_days"), [(90, 30), (45, 15), (10, 10 / 3), (6, 3), (1, 0.5)])
def test_is_renewed_by_its_lifetime(days, window_days):
    found = certificate.Certificate("1", 0, days * DAY, ())
    assert found.window_seconds == pytest.approx(window_days * DAY)


def test_what_a_listener_shows_is_what_it_serves(tmp_path, listen):
    folder = make_pair(tmp_path)
    shown = certificate.served(listen(folder).port, "www.example.org")
    assert shown == certificate.read(folder / "fullchain.pem")


def test_says_that_nobody_listens():
    with pytest.raises(Trouble, match="port 1 shows no certificate for www"):
        certificate.served(1, "www.example.org")
