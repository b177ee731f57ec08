"""A certificate and its key change together, go back together, and are seen served."""

from __future__ import annotations

import pytest
from conftest import make_pair, serials
from tlsctl import certificate, installing
from tlsctl.errors import Trouble


def test_new_pair_is_installed_reloaded_and_proven(declare, listen, commands):
    its = declare()
    make_pair(its.folder)
    its = declare(port=listen(its.folder).port)
    new = certificate.read(make_pair(its.lineage) / "fullchain.pem")
    assert installing.deploy(its, installing.read_pair(its.lineage)) == new
    assert serials(its) == (new.serial, (its.lineage / "privkey.pem").read_bytes())
    assert commands.noted == ["nginx -t -q", "systemctl reload nginx.service"]
    assert its.private_key.stat().st_mode & 0o777 == 0o600


def test_pair_that_nginx_refuses_gives_way_to_the_old_one(declare, commands):
    its = declare()
    make_pair(its.folder)
    old = serials(its)
    make_pair(its.lineage)
    commands.refused.add("nginx")
    with pytest.raises(Trouble, match="nginx refuses"):
        installing.deploy(its, installing.read_pair(its.lineage))
    assert serials(its) == old
    assert commands.noted == ["nginx -t -q"]


def test_reload_without_effect_is_told(declare, listen, commands, monkeypatch):
    monkeypatch.setattr(installing.prove, "__defaults__", (0.5,))
    its = declare()
    make_pair(its.folder)
    its = declare(port=listen(its.folder, stubborn=True).port)
    new = certificate.read(make_pair(its.lineage) / "fullchain.pem")
    with pytest.raises(
        Trouble, match=f"serial {new.serial} is installed, and nginx on port {its.port} did not"
    ):
        installing.deploy(its, installing.read_pair(its.lineage))


def test_of_older_pairs_one_is_kept_and_nothing_of_others(declare, listen, commands):
    its = declare()
    make_pair(its.folder)
    its = declare(port=listen(its.folder).port)
    (its.folder / "dhparam").mkdir()
    for _ in range(3):
        make_pair(its.lineage)
        installing.deploy(its, installing.read_pair(its.lineage))
    folders = [path.name for path in its.folder.iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(folders) == 3
    assert "dhparam" in folders
    assert "before" not in folders


def test_placeholder_is_made_once_and_never_over_a_certificate(declare):
    its = declare()
    assert installing.placeholder(its)
    made = serials(its)
    assert certificate.read(its.certificate).names == its.server_names
    assert not installing.placeholder(its)
    assert serials(its) == made
