"""A folder of secrets holds what is declared, for its owner alone, and no word gives a value away."""

from __future__ import annotations

import secrets
import stat

import pytest


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "credentials"


@pytest.fixture
def run(project, folder, tmp_path):
    """Run the module, with plain files: encrypted ones are a host's own, and looked at in tests/target."""

    def run(*options, **arguments):
        common = {"path": str(folder), "encrypted": False, "backup_dir": str(tmp_path / "aside")}
        return project.play([{"name": "Write", "credentials": {**common, **arguments}}], *options)

    return run


def modes(folder):
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_secrets_are_written_once_for_their_owner_alone(run, folder, tmp_path):
    (tmp_path / "made-elsewhere").write_text("broker's\n")
    given = {
        "values": {"key": "one", "keys": ["two", "three"], "number": 4},
        "copies": {"broker": str(tmp_path / "made-elsewhere")},
    }
    assert run(**given).last["written"] == ["broker", "key", "keys", "number"]
    held = {path.name: path.read_text() for path in folder.iterdir()}
    assert held == {"broker": "broker's\n", "key": "one", "keys": "two\nthree", "number": "4"}
    assert (stat.S_IMODE(folder.stat().st_mode), modes(folder)) == (0o700, {0o600})
    assert run(**given).last["changed"] is False


def test_drift_is_repaired(run, folder):
    run(values={"key": "one"})
    (folder / "key").chmod(0o644)
    folder.chmod(0o755)
    last = run(values={"key": "one"}).last
    assert (last["changed"], last["written"]) == (True, [])
    assert (stat.S_IMODE(folder.stat().st_mode), modes(folder)) == (0o700, {0o600})
    (folder / "key").write_text("spoilt")
    assert run(values={"key": "one"}).last["written"] == ["key"]


def test_what_is_declared_no_more_is_moved_aside(run, folder, tmp_path):
    run(values={"key": "one", "former": "two", "others": "three"})
    last = run(values={"key": "one"}, keep=["others"]).last
    assert last["moved_aside"] == [str(folder / "former")]
    assert sorted(path.name for path in folder.iterdir()) == ["key", "others"]
    (kept,) = (tmp_path / "aside").rglob("former")
    assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == ("two", 0o600)


def test_dry_run_changes_nothing(run, folder):
    assert run("--check", values={"key": "one"}).last["written"] == ["key"]
    assert not folder.exists()


def test_no_value_is_said_however_much_is(run, folder):
    value = secrets.token_hex()
    assert value not in run("-vvv", "--diff", values={"key": value}).output
    folder.rename(f"{folder}.kept")
    folder.write_text("in the way")
    failed = run("-vvv", "--diff", values={"key": value})
    assert failed.last["failed"], failed.output
    assert value not in failed.output
