"""What `stage` puts on a host, what it refuses, and what it leaves alone."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import time

import pytest
from releasectl_archives import deps_archive, release_archive, wheel


def snapshot(folder):
    """Return content, mode and time of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        path.relative_to(folder): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in files
    }


def python(apphost, release_id, code):
    binary = apphost.layout.release(release_id) / "venv/bin/python"
    return subprocess.run(
        [binary, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def hidden(apphost):
    return [path.name for path in apphost.layout.leftovers()]


def test_release_is_installed_with_its_dependencies(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    told = apphost.ok("stage", path, "--deps", deps[0])
    assert (told["result"], told["changed"], told["release"]) == ("staged", True, release_id)
    assert python(apphost, release_id, "import framework, ourapp; print(ourapp.NAME)") == "ourapp"
    folder = apphost.layout.release(release_id)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "release.env",
        "release.json",
        "src",
        "static",
        "venv",
    ]
    assert hidden(apphost) == []
    assert [entry["command"] for entry in apphost.ledger()] == ["stage"]


def test_modes_keep_others_out_and_let_nginx_read_static_files(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    os.umask(0o077)
    apphost.ok("stage", path, "--deps", deps[0])
    folder = apphost.layout.release(release_id)
    modes = {
        name: oct((folder / name).stat().st_mode)[-3:]
        for name in ("", "venv", "src", "static", "static/apphost.css")
    }
    assert modes == {"": "755", "venv": "750", "src": "750", "static": "755", "static/apphost.css": "644"}
    assert oct((apphost.layout.deps / deps[1]).stat().st_mode)[-3:] == "750"
    writable = [path for path in folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == []


def test_installing_a_release_leaves_the_dependencies_byte_identical(apphost, deps):
    overlap = wheel(
        "ourapp", files={"ourapp/__init__.py": "", "shared/data.txt": "2\n", "shared/more.py": "Y = 1\n"}
    )
    newer = wheel("shared", "2.0", files={"shared/__init__.py": "VALUE = 'of the release'\n"})
    first, _ = release_archive(apphost.builds, deps[1], 1)
    apphost.ok("stage", first, "--deps", deps[0])
    venv = apphost.layout.deps / deps[1] / "venv"
    before = snapshot(venv)
    second, release_id = release_archive(apphost.builds, deps[1], 2, wheels=[overlap, newer])
    apphost.ok("stage", second)
    assert python(apphost, release_id, "import shared; print(shared.VALUE)") == "of the release"
    assert snapshot(venv) == before


def test_release_links_to_the_dependencies_and_takes_no_second_copy(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    name = next((apphost.layout.deps / deps[1]).rglob("framework/__init__.py")).relative_to(
        apphost.layout.deps / deps[1]
    )
    assert (apphost.layout.release(release_id) / name).samefile(apphost.layout.deps / deps[1] / name)


def test_own_modules_and_plain_tree_are_byte_compiled(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    compiled = {file.name.split(".")[0] for file in apphost.layout.release(release_id).rglob("*.pyc")}
    assert "plain" in compiled
    assert len([*apphost.layout.release(release_id).rglob("ourapp/__pycache__/*.pyc")]) == 1


def test_console_scripts_run_under_the_final_name(apphost, deps):
    tool = wheel(
        "ourapp",
        files={"ourapp/__init__.py": "def main(): print('it runs')\n"},
        scripts={"tool": "ourapp:main"},
    )
    path, release_id = release_archive(apphost.builds, deps[1], wheels=[tool])
    apphost.ok("stage", path, "--deps", deps[0])
    told = subprocess.run(
        [apphost.layout.release(release_id) / "venv/bin/tool"], capture_output=True, text=True, check=True
    )
    assert told.stdout == "it runs\n"


def test_staging_again_changes_nothing(apphost, deps):
    path, _ = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    told = apphost.ok("stage", path)
    assert (told["result"], told["changed"]) == ("already staged", False)
    assert len(apphost.ledger()) == 1


@pytest.mark.parametrize(
    "victim", ["src/plain.py", "venv/lib/*/site-packages/ourapp/__init__.py", "release.env"]
)
def test_damaged_release_is_staged_again(apphost, deps, victim):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    file = next(apphost.layout.release(release_id).glob(victim))
    content = file.read_text()
    file.write_text("tampered with")
    assert apphost.ok("stage", path)["changed"] is True
    assert file.read_text() == content
    assert hidden(apphost) == []


def test_damaged_dependencies_are_installed_again(apphost, deps):
    path, _ = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    next((apphost.layout.deps / deps[1]).rglob("framework/__init__.py")).unlink()
    second, release_id = release_archive(apphost.builds, deps[1], 2)
    refused = apphost.run("stage", second)
    assert refused.code == 5
    apphost.ok("stage", second, "--deps", deps[0])
    assert python(apphost, release_id, "import framework; print('there')") == "there"


def test_missing_dependencies_are_refused_with_the_command_to_type(apphost, deps):
    path, _ = release_archive(apphost.builds, deps[1])
    run = apphost.run("stage", path)
    assert run.code == 5
    assert deps[1] in run.error["cause"]
    assert f"--deps deps-{deps[1]}.tar" in run.error["next"]
    assert apphost.layout.staged() == []
    assert apphost.ledger() == []


def spoil_digest(files):
    files["static/apphost.css"] = b"body { display: none }\n"


def add_file(files):
    files["src/extra.py"] = b"import os\n"


def drop_file(files):
    del files["src/plain.py"]


def climb_out(files):
    files["src/../../../escaped"] = b"x"


def absolute(files):
    files["/tmp/releasectl-escaped"] = b"x"


def symlink(files):
    member = tarfile.TarInfo("src/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
    files["src/link"] = member


def device(files):
    member = tarfile.TarInfo("src/device")
    member.type = tarfile.CHRTYPE
    files["src/device"] = member


def stranger(files):
    files["setup.sh"] = b"#!/bin/sh\n"


SPOILERS = [spoil_digest, add_file, drop_file, climb_out, absolute, symlink, device, stranger]


@pytest.mark.parametrize("change", SPOILERS)
def test_archive_that_is_not_what_it_says_is_refused(apphost, change):
    path, _ = release_archive(apphost.builds, "0" * 12, change=change)
    run = apphost.run("stage", path)
    assert run.code == 5, run.out
    assert hidden(apphost) == []
    assert apphost.layout.staged() == []


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"python": "2.7"}, "Python 2.7"),
        ({"platform": "linux-vax"}, "linux-vax"),
        ({"app": "other"}, "'other'"),
        ({"schema": 2}, "schema 2"),
        ({"digest": "f" * 64}, "does not come from the digest"),
        ({"id": "../../etc"}, "is not a release id"),
        ({"deps_id": "../x"}, "is not a dependencies id"),
        ({"files": {"src/plain.py": "short"}}, "sha256"),
    ],
)
def test_release_for_another_host_or_app_is_refused(apphost, told, word):
    path, _ = release_archive(apphost.builds, **{"deps_id": "0" * 12, **told})
    run = apphost.run("stage", path)
    assert run.code == 5
    assert word in run.error["cause"]


def test_truncated_archive_is_refused(apphost):
    path, _ = release_archive(apphost.builds, "0" * 12)
    path.write_bytes(path.read_bytes()[:700])
    assert apphost.run("stage", path).code == 5
    assert apphost.run("stage", apphost.builds / "nowhere.tar").code == 5


def test_wrong_hash_of_a_wheel_fails_and_leaves_nothing(apphost, deps):
    archive, deps_id = deps_archive(apphost.builds, spoil_hash=True)
    path, _ = release_archive(apphost.builds, deps_id)
    run = apphost.run("stage", path, "--deps", archive)
    assert run.code == 2
    assert "ash mismatch" in run.error["cause"]
    assert hidden(apphost) == []
    assert apphost.layout.staged_deps() == []


@pytest.mark.parametrize("swapped", ["wheels/framework-1.0-py3-none-any.whl", "requirements.txt"])
def test_dependencies_that_release_json_does_not_vouch_for_are_refused(apphost, deps, tmp_path, swapped):
    """Whoever swaps a wheel may swap the lock beside it: what counts is what the release says."""
    other, _ = deps_archive(tmp_path, [wheel("framework", files={"framework/x.py": ""})])
    path, _ = release_archive(apphost.builds, deps[1])
    forged = other.rename(tmp_path / deps[0].name)
    run = apphost.run("stage", path, "--deps", forged)
    assert run.code == 5
    assert f"{swapped} has another digest" in run.error["cause"]
    assert apphost.layout.staged_deps() == []


def test_dependencies_installed_by_another_lock_are_not_taken(apphost, deps):
    apphost.ok("stage", release_archive(apphost.builds, deps[1])[0], "--deps", deps[0])
    lock = apphost.layout.deps / deps[1] / "requirements.txt"
    lock.write_text(lock.read_text().replace("1.0", "1.1"))
    second, _ = release_archive(apphost.builds, deps[1], 2)
    assert "has not got the dependencies" in apphost.run("stage", second).error["cause"]
    assert apphost.ok("stage", second, "--deps", deps[0])["deps_staged"] is True


def test_release_that_vouches_for_no_dependency_is_staged_no_more(apphost, deps):
    path, _ = release_archive(apphost.builds, deps[1], dependencies={})
    run = apphost.run("stage", path, "--deps", deps[0])
    assert run.code == 5
    assert "is not in release.json" in run.error["cause"]


def test_dependency_that_nobody_brought_is_named(apphost, deps):
    needy = wheel("ourapp", requires=["celery>=5"])
    path, _ = release_archive(apphost.builds, deps[1], wheels=[needy])
    run = apphost.run("stage", path, "--deps", deps[0])
    assert run.code == 2
    assert "celery" in run.error["cause"]
    assert apphost.layout.staged() == []
    assert apphost.ledger()[-1]["exit"] == 2


def test_requirement_that_was_overruled_does_not_stop_a_release_and_another_does(apphost):
    behind = wheel("framework", requires=["Old.Library<1", "ourapp"])
    archive, deps_id = deps_archive(apphost.builds, [behind, wheel("old_library", "1.0")])
    told = {"overrides": ["old-library"]}
    path, release_id = release_archive(apphost.builds, deps_id, **told)
    apphost.ok("stage", path, "--deps", archive)
    assert apphost.layout.staged() == [release_id]
    needy = wheel("ourapp", requires=["celery>=5", "old-library>7"])
    run = apphost.run("stage", release_archive(apphost.builds, deps_id, 2, wheels=[needy], **told)[0])
    assert run.code == 2
    assert "celery" in run.error["cause"]
    assert "old-library" not in run.error["cause"]


def test_too_little_room_is_refused_before_anything_is_written(apphost, deps, monkeypatch):
    real = os.statvfs(apphost.root)
    small = os.statvfs_result((*real[:3], 10, 10, *real[5:]))
    monkeypatch.setattr("releasectl.staging.os.statvfs", lambda _: small)
    path, _ = release_archive(apphost.builds, deps[1])
    run = apphost.run("stage", path, "--deps", deps[0])
    assert run.code == 5
    assert "not enough room" in run.error["cause"]
    assert apphost.layout.staged_deps() == []


def test_leftovers_of_a_killed_stage_are_removed_by_the_next(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.layout.releases.mkdir()
    for name in (f"releases/.{release_id}.staging", ".uv-x.staging"):
        (apphost.root / name).mkdir()
        (apphost.root / name / "half").write_text("x")
    assert len(apphost.ok("status")["problems"]) == 2
    apphost.ok("stage", path, "--deps", deps[0])
    assert hidden(apphost) == []


def test_killed_stage_is_repeatable(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    child = apphost.fork("stage", path, "--deps", deps[0])
    deadline = time.monotonic() + 5
    while not hidden(apphost) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert apphost.layout.staged() == []
    deadline = time.monotonic() + 5
    while (run := apphost.run("stage", path, "--deps", deps[0])).code == 4 and time.monotonic() < deadline:
        # A uv that outlived its parent keeps the lock until it is done writing.
        time.sleep(0.05)
    assert run.code == 0, run.out
    assert apphost.layout.staged() == [release_id]


def test_incoming_archives_are_removed_once_staged_and_others_stay(apphost, deps):
    path, _ = release_archive(apphost.layout.incoming, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    assert not path.exists()
    assert deps[0].exists()


def test_static_files_carry_the_time_of_the_build(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    assert (apphost.layout.release(release_id) / "static/apphost.css").stat().st_mtime == 1790000000


def test_a_code_only_stage_is_quick(apphost, deps):
    first, _ = release_archive(apphost.builds, deps[1], 1)
    apphost.ok("stage", first, "--deps", deps[0])
    second, _ = release_archive(apphost.builds, deps[1], 2)
    told = apphost.ok("stage", second)
    # Below one second on an idle machine; the tests may share theirs.
    assert told["duration_seconds"] < 3


def test_same_id_with_another_content_is_refused(apphost, deps):
    path, release_id = release_archive(apphost.builds, deps[1])
    apphost.ok("stage", path, "--deps", deps[0])
    manifest = apphost.layout.release(release_id) / "release.json"
    manifest.write_text(manifest.read_text().replace('"digest": "', f'"digest": "{release_id[-7:]}'))
    run = apphost.run("stage", path)
    assert run.code == 5
    assert "another content" in run.error["cause"]


def test_uv_of_the_caller_s_settings_is_not_asked(apphost, deps, monkeypatch):
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("UV_PYTHON", "/nonexistent")
    (apphost.builds / "uv.toml").write_text("not toml at all [")
    path, _ = release_archive(apphost.builds, deps[1])
    monkeypatch.chdir(apphost.builds)
    apphost.ok("stage", path, "--deps", deps[0])
    shutil.rmtree(apphost.layout.releases)
