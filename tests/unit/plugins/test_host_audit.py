"""An audit's measurements tell what is there from what is not, and what nobody can tell from both."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from target_host.shell import PROJECT_DIR

sys.path.insert(0, str(PROJECT_DIR / "plugins/modules"))
sys.path.insert(0, str(PROJECT_DIR / "plugins/filter"))

import host_audit
from ansible.module_utils import audit_access, audit_files, audit_network, audit_releases, audit_updates
from ansible.module_utils.audit_measurement import Unknown, ask
from audited import audited


@pytest.fixture
def passable():
    """Return a folder that any account may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def states(found):
    return {one["id"]: one["state"] for one in found}


def private(*paths):
    (told,) = audit_files.measure_private([{"name": "x", "title": "x", "paths": list(map(str, paths))}])
    return told


def test_file_that_others_may_read_fails_and_one_behind_a_closed_folder_does_not(passable):
    shut = passable / "closed"
    shut.mkdir(mode=0o700)
    for path, mode in (("shown", 0o644), ("closed/inner", 0o644), ("secret", 0o640)):
        (passable / path).touch()
        (passable / path).chmod(mode)
    told = private(passable / "s*", shut / "*")
    assert (told["state"], told["found"]) == ("failed", f"open: {passable / 'shown'}")
    assert told["cure"] == f"chmod o= {passable / 'shown'}"
    (passable / "shown").chmod(0o600)
    assert private(passable / "s*", shut / "*")["found"] == "3 looked at"


def test_socket_that_others_may_connect_to_fails(passable):
    path = passable / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        for mode, state in ((0o660, "passed"), (0o666, "failed"), (0o664, "passed")):
            path.chmod(mode)
            assert private(passable / "*.sock")["state"] == state


def test_disks_tell_what_anybody_may_change_and_what_runs_as_another(tmp_path):
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "link").symlink_to("sticky")
    assert set(states(audit_files.measure_disks([str(tmp_path)])).values()) == {"passed"}
    (tmp_path / "everybodys").touch()
    (tmp_path / "everybodys").chmod(0o666)
    (tmp_path / "strange").touch()
    (tmp_path / "strange").chmod(0o4755)
    writable, setuid = audit_files.measure_disks([str(tmp_path)])
    assert (writable["state"], writable["found"]) == ("failed", str(tmp_path / "everybodys"))
    assert (setuid["state"], setuid["found"]) == ("failed", str(tmp_path / "strange"))


def test_programs_of_a_package_may_run_as_another():
    assert audit_files.packaged("/usr/bin/passwd")
    assert audit_files.packaged("/usr/bin/mount")


def listening_on(port, allowed):
    (told,) = audit_network.measure_listening(allowed)
    return f":{port} " in told["found"]


def test_port_that_a_network_reaches_is_named_unless_it_is_declared():
    with socket.create_server(("0.0.0.0", 0)) as shown, socket.create_server(("127.0.0.1", 0)) as own:
        port = shown.getsockname()[1]
        assert listening_on(port, [])
        assert listening_on(port, [{"port": port, "address": "10.0.0.1"}])
        assert not listening_on(port, [{"port": port}])
        assert not listening_on(own.getsockname()[1], [])


def certificate(folder, name, days):
    files = [str(folder / f"{name}.{kind}") for kind in ("key", "crt")]
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", files[0], "-out", files[1], "-days", str(days), "-subj", "/CN=localhost"]
    subprocess.run(words, check=True, capture_output=True)
    return files


@pytest.fixture
def served(tmp_path):
    """Serve a certificate on a port, as nginx would; return its file and the port."""
    key, chain = certificate(tmp_path, "served", 30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(client, server_side=True).close()
            except OSError:
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    yield chain, listener.getsockname()[1]
    # Closed alone, it would go on being waited at, and answer for whatever has its number next.
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_certificate_is_judged_by_its_end_and_by_what_is_served(served, tmp_path):
    chain, port = served
    told = audit_network.measure_certificate(chain, "localhost", port, 14)
    assert states(told) == {"certificate/expiry": "passed", "certificate/served": "passed"}
    told = audit_network.measure_certificate(chain, "localhost", port, 31)
    assert states(told)["certificate/expiry"] == "failed"
    other = certificate(tmp_path, "renewed", 30)[1]
    told = audit_network.measure_certificate(other, "localhost", port, 14)
    assert states(told)["certificate/served"] == "failed"
    told = audit_network.measure_certificate(chain, "localhost", 1, 14)
    assert "no answer on port 1" in told[1]["found"]


def test_accounts_that_are_root_or_have_no_password_are_named(tmp_path):
    (tmp_path / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nme:x:1000:1::/:/bin/sh\n"
    )
    (tmp_path / "shadow").write_text("root:*:1::::::\ntoor:!:1::::::\nme::1::::::\n")
    told = audit_access.measure_accounts(str(tmp_path))
    assert [(one["state"], one["found"]) for one in told] == [("failed", "toor"), ("failed", "me")]


def test_updates_are_unknown_where_debian_was_not_asked_lately(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_updates, "LISTS", tmp_path)
    assert audit_updates.measure_security(2)[0]["state"] == "unknown"
    (tmp_path / "x_InRelease").touch()
    os.utime(tmp_path / "x_InRelease", (1_000_000_000, 1_000_000_000))
    (told,) = audit_updates.measure_security(2)
    assert (told["state"], "days old" in told["reason"]) == ("unknown", True)


LYNIS = """
warning[]=DBS-1828|PostgreSQL configuration file a is world readable|a|Use chmod|
warning[]=DBS-1828|PostgreSQL configuration file b is world readable|b|Use chmod|
warning[]=KRNL-5830|Reboot of system is most likely needed||text:reboot|
hardening_index=62
"""


def test_each_warning_of_lynis_can_be_waived_alone():
    told = audit_updates.judge_lynis(LYNIS, 62)
    assert states(told) == {"lynis/DBS-1828": "failed", "lynis/KRNL-5830": "failed", "lynis/index": "passed"}
    assert "file a is world readable" in told[0]["found"]
    assert "file b is world readable" in told[0]["found"]
    assert states(audit_updates.judge_lynis("hardening_index=61\n", 62)) == {
        "lynis/none": "passed",
        "lynis/index": "failed",
    }
    with pytest.raises(Unknown, match="did not come to an end"):
        audit_updates.judge_lynis("lynis_version=3\n", 62)


def release(root, name, text, told):
    folder = root / "releases" / name
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "sbom.cdx.json").write_text(text)
    files = {} if told is None else {"sbom.cdx.json": hashlib.sha256(told.encode()).hexdigest()}
    (folder / "release.json").write_text(json.dumps({"files": files}))


@pytest.mark.parametrize(
    ("text", "told", "found"),
    [
        ("{}", "{}", "1 releases, each with its own"),
        ("{ }", "{}", "1 has another one"),
        (None, "{}", "1 lacks it"),
        ("{}", None, "1 was built without one"),
    ],
)
def test_release_has_the_bill_that_it_was_built_with(tmp_path, text, told, found):
    release(tmp_path, "1", text, told)
    assert audit_releases.measure(str(tmp_path))[0]["found"] == found


def test_what_cannot_be_measured_is_unknown_and_keeps_nothing_else_from_it(tmp_path, monkeypatch):
    # Of this machine, which may be large, nothing is asked here.
    monkeypatch.setattr(audit_files, "disks", lambda: [str(tmp_path)])
    with pytest.raises(Unknown, match="not installed"):
        ask("no-such-program-of-anybody")
    with pytest.raises(Unknown, match="no answer within"):
        ask("sleep", "5", seconds=0.1)
    asked = {
        "units": [],
        "private": [],
        "listening": [],
        "certificate": {"path": "/nowhere", "name": "x", "port": 1, "days": 1},
        "sshd": {},
        "sysctl": {},
        "release_root": str(tmp_path),
        "lists_days": 2,
        "lynis": False,
        "lynis_index": 1,
    }
    told = {one["id"]: one for one in host_audit.measurements(asked)}
    assert told["certificate"]["state"] == told["release/sbom"]["state"] == "unknown"
    assert "no release is staged" in told["release/sbom"]["reason"]
    assert told["accounts/root"]["state"] == "passed"


def one(name, state):
    return {"id": name, "title": name, "expected": "x", "found": "y", "state": state, "cure": "z"}


FOUND = {
    "www1": [one("a/1", "passed"), one("b/1", "failed"), one("b/2", "failed")],
    "www2": [one("b/1", "failed")],
}


def test_waiver_counts_for_what_failed_where_it_is_meant():
    waivers = [{"id": "b/*", "reason": "known", "host": "www1"}, {"id": "a/1", "reason": "passed anyway"}]
    told = audited(FOUND, waivers, "now")
    assert told["counts"] == {"failed": 1, "unknown": 0, "waived": 2, "passed": 1}
    assert [(entry["id"], entry["reason"]) for entry in told["hosts"]["www1"][:2]] == [
        ("b/1", "known"),
        ("b/2", "known"),
    ]
    assert told["hosts"]["www2"][0]["state"] == "failed"
    assert told["unused_waivers"] == [waivers[1]]


def test_what_nobody_could_tell_is_never_waived_and_a_silent_host_is_missing():
    told = audited({"www1": [one("a", "unknown")], "www2": []}, [{"id": "*", "reason": "all"}], "now")
    assert told["hosts"]["www1"][0]["state"] == "unknown"
    assert told["missing"] == ["www2"]
