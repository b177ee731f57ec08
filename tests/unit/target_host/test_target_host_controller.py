"""Preparing the controller: what is missing is installed, once, and said."""

from __future__ import annotations

import pytest
from target_host import controller
from target_host.shell import TargetHostError

MISSING = controller.Need("podman", "runs the target hosts", lambda: False)
PRESENT = controller.Need("openssh-client", "reaches the hosts", lambda: True)


@pytest.fixture
def commands(monkeypatch):
    """Collect what would have been run."""
    collected = []

    def record(command, *_, **__):
        collected.append(list(command))

    monkeypatch.setattr(controller, "run_logged", record)
    monkeypatch.setattr(controller.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    return collected


def test_nothing_missing_runs_nothing(commands):
    controller.install([PRESENT], log=lambda _: None)
    assert commands == []


def test_missing_package_is_installed_alone_and_the_reason_is_said(commands):
    said = []
    controller.install([MISSING, PRESENT], log=said.append)
    assert said[0] == "Installing podman (runs the target hosts)"
    assert commands[1][-3:] == ["--yes", "--no-install-recommends", "podman"]


def test_user_who_is_not_root_goes_through_sudo(commands, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    controller.install([MISSING], log=lambda _: None)
    assert all(command[0] == "sudo" for command in commands)


def test_without_apt_the_packages_are_named(commands, monkeypatch):
    monkeypatch.setattr(controller.shutil, "which", lambda name, **_: None)
    with pytest.raises(TargetHostError, match="install yourself: podman"):
        controller.install([MISSING], log=lambda _: None)
    assert commands == []


def test_neither_root_nor_sudo_gives_the_command_for_root(commands, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(controller.shutil, "which", lambda name, **_: None if name == "sudo" else name)
    with pytest.raises(TargetHostError, match="as root, run: apt-get install podman"):
        controller.install([MISSING], log=lambda _: None)


def test_programs_are_looked_for_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setattr(controller, "SEARCH_PATH", str(tmp_path))
    missing = {need.package for need in controller.HOST_NEEDS if not need.present()}
    assert {"podman", "mmdebstrap", "iptables", "openssh-client"} <= missing


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Give a virtual environment's path and lock, and count how often it is filled."""
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1")
    path = tmp_path / "venv"
    filled = []

    def fill(path, locks):
        (path / "bin").mkdir(parents=True, exist_ok=True)
        (path / "bin/python").touch()
        filled.append(list(locks))

    monkeypatch.setattr(controller, "_sync", fill)
    monkeypatch.setattr(controller, "VENV_NEEDS", ())
    return path, lock, filled


def make(path, *locks):
    controller.venv(path, locks, log=lambda _: None)


def test_unchanged_lock_fills_an_environment_once(environment):
    path, lock, filled = environment
    make(path, lock)
    make(path, lock)
    assert len(filled) == 1


def test_changed_lock_fills_it_again(environment):
    path, lock, filled = environment
    make(path, lock)
    lock.write_text("a==2")
    make(path, lock)
    assert len(filled) == 2


def test_environment_with_more_serves_for_less(environment, tmp_path):
    path, lock, filled = environment
    more = tmp_path / "dev.txt"
    more.write_text("b==1")
    make(path, lock, more)
    make(path, lock)
    assert len(filled) == 1


def test_half_filled_environment_is_filled_again(environment, monkeypatch):
    path, lock, filled = environment

    def fail(*_):
        raise TargetHostError("no network")

    good = controller._sync
    make(path, lock)
    lock.write_text("a==2")
    monkeypatch.setattr(controller, "_sync", fail)
    with pytest.raises(TargetHostError):
        make(path, lock)
    lock.write_text("a==1")
    monkeypatch.setattr(controller, "_sync", good)
    make(path, lock)
    assert len(filled) == 2


def test_python_that_is_too_old_is_named(environment, monkeypatch):
    path, lock, _ = environment
    monkeypatch.setattr(controller, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(TargetHostError, match="or newer is needed"):
        make(path, lock)
