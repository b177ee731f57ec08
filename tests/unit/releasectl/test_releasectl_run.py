"""`releasectl run`: a command of the app's, as its units run."""

import os

import pytest
from releasectl import cli

ECHO = """#!/bin/sh
for word in "$@"; do echo "$word"; done
exit 7
"""


@pytest.fixture
def asked(apphost):
    """A stand-in for systemd-run; return a function that runs a command, and says what it was asked."""
    program = apphost.systemd.folder / "systemd-run"
    program.write_text(ECHO)
    program.chmod(0o755)

    def run(*words):
        _, status = os.waitpid(apphost.fork(*words), 0)
        return os.waitstatus_to_exitcode(status), (apphost.base / "forked.log").read_text().splitlines()

    return run


def test_command_runs_in_the_frame_of_the_active_release(apphost, asked):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(second, first)
    code, words = asked("run", "flask", "--app", "inbox", "users", "add", "a b@example.org")
    assert code == 7, "the command's own exit status"
    place = apphost.layout.release(first)
    for each in (
        f"--property=User={apphost.settings['user']}",
        f"--property=EnvironmentFile={place}/release.env",
        "--property=EnvironmentFile=/etc/inbox/app.env",
        "--property=LoadCredential=app:/etc/inbox/credentials",
        f"--property=WorkingDirectory={place}/src",
        "--pipe",
    ):
        assert each in words
    command = ["flask", "--app", "inbox", "users", "add", "a b@example.org"]
    assert words[-9:] == [f"{place}/venv/bin/python", "-m", "flask_ops.run", *command]


def test_command_is_given_secrets_as_the_units_are_where_they_are_encrypted(apphost, asked):
    apphost.configure(credentials_encrypted=True)
    apphost.serve(apphost.put(1))
    _, words = asked("run", "flask")
    given = [word for word in words if "LoadCredential" in word]
    assert given == ["--property=LoadCredentialEncrypted=app:/etc/inbox/credentials.encrypted"]


@pytest.mark.parametrize(
    ("words", "serving", "cause"),
    [(["run"], True, "no command is given"), (["run", "flask"], False, "no release is active")],
)
def test_run_without_what_it_needs_is_refused(apphost, asked, words, serving, cause):
    if serving:
        apphost.serve(apphost.put(1))
    code, said = asked(*words)
    assert code == 5
    assert cause in "\n".join(said)


def test_run_is_roots(apphost, asked, monkeypatch):
    apphost.serve(apphost.put(1))
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    code, said = asked("run", "flask", "users", "list")
    assert code == 5
    assert "sudo releasectl --app inbox run flask users list" in "\n".join(said)
