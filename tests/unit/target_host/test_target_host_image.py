"""The image's name changes with what it is made from; the mirror is reached as the controller reaches it."""

from __future__ import annotations

import shutil

import pytest
from target_host import apt, image

DUMP = """\
APT "";
Acquire::http::Proxy "http://proxy.example:3142";
Acquire::https::Proxy::mirror.example "DIRECT";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "true";
Acquire::Retries "3";
"""


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "ca/corporate.crt"
    path.parent.mkdir()
    path.write_text("one")
    return path


def test_name_is_the_same_for_the_same_content():
    assert image.digest(13, []) == image.digest(13, [])


def test_name_differs_by_release():
    assert image.digest(13, []) != image.digest(12, [])


def test_name_changes_with_a_certificate(certificate):
    first = image.digest(13, [certificate])
    certificate.write_text("two")
    assert len({image.digest(13, []), first, image.digest(13, [certificate])}) == 3


def test_name_changes_with_a_file_of_the_image(tmp_path, monkeypatch):
    shutil.copytree(image.FILES_DIR, tmp_path / "files")
    monkeypatch.setattr(image, "FILES_DIR", tmp_path / "files")
    before = image.digest(13, [])
    (tmp_path / "files/rootfs/etc/new").write_text("")
    assert image.digest(13, []) != before


def test_name_changes_with_the_packages(monkeypatch):
    before = image.digest(13, [])
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "less"))
    assert image.digest(13, []) != before


def test_certificates_come_from_the_folder_that_is_set_and_may_be_none(certificate):
    assert image.ca_certificates({"TARGET_HOST_CA_DIR": str(certificate.parent)}) == [certificate]
    assert image.ca_certificates({"TARGET_HOST_CA_DIR": ""}) == []


def test_mirror_is_left_to_mmdebstrap():
    command = image.bootstrap_command(12, {}, "")
    assert command[-2:] == ["bookworm", "-"]
    assert not any("://" in word for word in command)


def test_apt_settings_reach_mmdebstrap():
    command = image.bootstrap_command(13, {"Acquire::Check-Date": "false"}, "")
    assert '--aptopt=Acquire::Check-Date "false"' in command


def test_proxy_and_switched_off_checks_are_handed_on_and_nothing_else():
    assert apt.settings(DUMP, {}) == {
        "Acquire::http::Proxy": "http://proxy.example:3142",
        "Acquire::https::Proxy::mirror.example": "DIRECT",
        "Acquire::Check-Valid-Until": "false",
    }


def test_proxy_of_the_environment_stands_in_where_apt_has_none():
    found = apt.settings(DUMP, {"http_proxy": "http://other:1", "https_proxy": "http://other:2"})
    assert found["Acquire::http::Proxy"] == "http://proxy.example:3142"
    assert found["Acquire::https::Proxy"] == "http://other:2"


def test_nothing_set_hands_on_nothing():
    assert apt.settings("", {}) == {}
    assert [line for line in apt.configuration({}).splitlines() if not line.startswith("//")] == []


@pytest.mark.parametrize(
    ("controller", "host"),
    [
        ("http://127.0.0.1:3142/", "http://host.containers.internal:3142/"),
        ("http://user:word@localhost:3142", "http://user:word@host.containers.internal:3142"),
        ("http://proxy.example:3142", "http://proxy.example:3142"),
        ("DIRECT", "DIRECT"),
        ("false", "false"),
    ],
)
def test_proxy_on_the_loopback_is_named_as_the_host_sees_it(controller, host):
    written = apt.configuration({"Acquire::http::Proxy": controller})
    assert f'Acquire::http::Proxy "{host}";' in written
