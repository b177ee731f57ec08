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


def python(site, release_id, code):
    binary = site.layout.release(release_id) / "venv/bin/python"
    return subprocess.run(
        [binary, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def hidden(site):
    return [path.name for path in site.layout.leftovers()]


def test_release_is_installed_with_its_dependencies(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    told = site.ok("stage", path, "--deps", deps[0])
    assert (told["result"], told["changed"], told["release"]) == ("staged", True, release_id)
    assert python(site, release_id, "import framework, ourapp; print(ourapp.NAME)") == "ourapp"
    folder = site.layout.release(release_id)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "release.env",
        "release.json",
        "src",
        "static",
        "venv",
    ]
    assert hidden(site) == []
    assert [entry["command"] for entry in site.ledger()] == ["stage"]


def test_modes_keep_others_out_and_let_nginx_read_static_files(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    os.umask(0o077)
    site.ok("stage", path, "--deps", deps[0])
    folder = site.layout.release(release_id)
    modes = {
        name: oct((folder / name).stat().st_mode)[-3:]
        for name in ("", "venv", "src", "static", "static/site.css")
    }
    assert modes == {"": "755", "venv": "750", "src": "750", "static": "755", "static/site.css": "644"}
    assert oct((site.layout.deps / deps[1]).stat().st_mode)[-3:] == "750"
    writable = [path for path in folder.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == []


def test_installing_a_release_leaves_the_dependencies_byte_identical(site, deps):
    overlap = wheel(
        "ourapp", files={"ourapp/__init__.py": "", "shared/data.txt": "2\n", "shared/more.py": "Y = 1\n"}
    )
    newer = wheel("shared", "2.0", files={"shared/__init__.py": "VALUE = 'of the release'\n"})
    first, _ = release_archive(site.builds, deps[1], 1)
    site.ok("stage", first, "--deps", deps[0])
    venv = site.layout.deps / deps[1] / "venv"
    before = snapshot(venv)
    second, release_id = release_archive(site.builds, deps[1], 2, wheels=[overlap, newer])
    site.ok("stage", second)
    assert python(site, release_id, "import shared; print(shared.VALUE)") == "of the release"
    assert snapshot(venv) == before


def test_release_links_to_the_dependencies_and_takes_no_second_copy(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    name = next((site.layout.deps / deps[1]).rglob("framework/__init__.py")).relative_to(
        site.layout.deps / deps[1]
    )
    assert (site.layout.release(release_id) / name).samefile(site.layout.deps / deps[1] / name)


def test_own_modules_and_plain_tree_are_byte_compiled(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    compiled = {file.name.split(".")[0] for file in site.layout.release(release_id).rglob("*.pyc")}
    assert "plain" in compiled
    assert len([*site.layout.release(release_id).rglob("ourapp/__pycache__/*.pyc")]) == 1


def test_console_scripts_run_under_the_final_name(site, deps):
    tool = wheel(
        "ourapp",
        files={"ourapp/__init__.py": "def main(): print('it runs')\n"},
        scripts={"tool": "ourapp:main"},
    )
    path, release_id = release_archive(site.builds, deps[1], wheels=[tool])
    site.ok("stage", path, "--deps", deps[0])
    told = subprocess.run(
        [site.layout.release(release_id) / "venv/bin/tool"], capture_output=True, text=True, check=True
    )
    assert told.stdout == "it runs\n"


def test_staging_again_changes_nothing(site, deps):
    path, _ = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    told = site.ok("stage", path)
    assert (told["result"], told["changed"]) == ("already staged", False)
    assert len(site.ledger()) == 1


@pytest.mark.parametrize(
    "victim", ["src/plain.py", "venv/lib/*/site-packages/ourapp/__init__.py", "release.env"]
)
def test_damaged_release_is_staged_again(site, deps, victim):
    path, release_id = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    file = next(site.layout.release(release_id).glob(victim))
    content = file.read_text()
    file.write_text("tampered with")
    assert site.ok("stage", path)["changed"] is True
    assert file.read_text() == content
    assert hidden(site) == []


def test_damaged_dependencies_are_installed_again(site, deps):
    path, _ = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    next((site.layout.deps / deps[1]).rglob("framework/__init__.py")).unlink()
    second, release_id = release_archive(site.builds, deps[1], 2)
    refused = site.run("stage", second)
    assert refused.code == 5
    site.ok("stage", second, "--deps", deps[0])
    assert python(site, release_id, "import framework; print('there')") == "there"


def test_missing_dependencies_are_refused_with_the_command_to_type(site, deps):
    path, _ = release_archive(site.builds, deps[1])
    run = site.run("stage", path)
    assert run.code == 5
    assert deps[1] in run.error["cause"]
    assert f"--deps deps-{deps[1]}.tar" in run.error["next"]
    assert site.layout.staged() == []
    assert site.ledger() == []


def spoil_digest(files):
    files["static/site.css"] = b"body { display: none }\n"


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
def test_archive_that_is_not_what_it_says_is_refused(site, change):
    path, _ = release_archive(site.builds, "0" * 12, change=change)
    run = site.run("stage", path)
    assert run.code == 5, run.out
    assert hidden(site) == []
    assert site.layout.staged() == []


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
def test_release_for_another_host_or_app_is_refused(site, told, word):
    path, _ = release_archive(site.builds, **{"deps_id": "0" * 12, **told})
    run = site.run("stage", path)
    assert run.code == 5
    assert word in run.error["cause"]


def test_truncated_archive_is_refused(site):
    path, _ = release_archive(site.builds, "0" * 12)
    path.write_bytes(path.read_bytes()[:700])
    assert site.run("stage", path).code == 5
    assert site.run("stage", site.builds / "nowhere.tar").code == 5


def test_wrong_hash_of_a_wheel_fails_and_leaves_nothing(site, deps):
    archive, deps_id = deps_archive(site.builds, spoil_hash=True)
    path, _ = release_archive(site.builds, deps_id)
    run = site.run("stage", path, "--deps", archive)
    assert run.code == 2
    assert "ash mismatch" in run.error["cause"]
    assert hidden(site) == []
    assert site.layout.staged_deps() == []


def test_dependency_that_nobody_brought_is_named(site, deps):
    needy = wheel("ourapp", requires=["celery>=5"])
    path, _ = release_archive(site.builds, deps[1], wheels=[needy])
    run = site.run("stage", path, "--deps", deps[0])
    assert run.code == 2
    assert "celery" in run.error["cause"]
    assert site.layout.staged() == []
    assert site.ledger()[-1]["exit"] == 2


def test_too_little_room_is_refused_before_anything_is_written(site, deps, monkeypatch):
    real = os.statvfs(site.root)
    small = os.statvfs_result((*real[:3], 10, 10, *real[5:]))
    monkeypatch.setattr("releasectl.staging.os.statvfs", lambda _: small)
    path, _ = release_archive(site.builds, deps[1])
    run = site.run("stage", path, "--deps", deps[0])
    assert run.code == 5
    assert "not enough room" in run.error["cause"]
    assert site.layout.staged_deps() == []


def test_leftovers_of_a_killed_stage_are_removed_by_the_next(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    site.layout.releases.mkdir()
    for name in (f"releases/.{release_id}.staging", ".uv-x.staging"):
        (site.root / name).mkdir()
        (site.root / name / "half").write_text("x")
    assert len(site.ok("status")["problems"]) == 2
    site.ok("stage", path, "--deps", deps[0])
    assert hidden(site) == []


def test_killed_stage_is_repeatable(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    child = site.fork("stage", path, "--deps", deps[0])
    deadline = time.monotonic() + 5
    while not hidden(site) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert site.layout.staged() == []
    deadline = time.monotonic() + 5
    while (run := site.run("stage", path, "--deps", deps[0])).code == 4 and time.monotonic() < deadline:
        # A uv that outlived its parent keeps the lock until it is done writing.
        time.sleep(0.05)
    assert run.code == 0, run.out
    assert site.layout.staged() == [release_id]


def test_incoming_archives_are_removed_once_staged_and_others_stay(site, deps):
    path, _ = release_archive(site.layout.incoming, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    assert not path.exists()
    assert deps[0].exists()


def test_static_files_carry_the_time_of_the_build(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    assert (site.layout.release(release_id) / "static/site.css").stat().st_mtime == 1790000000


def test_a_code_only_stage_is_quick(site, deps):
    first, _ = release_archive(site.builds, deps[1], 1)
    site.ok("stage", first, "--deps", deps[0])
    second, _ = release_archive(site.builds, deps[1], 2)
    told = site.ok("stage", second)
    # Below one second on an idle machine; the tests may share theirs.
    assert told["duration_seconds"] < 3


def test_same_id_with_another_content_is_refused(site, deps):
    path, release_id = release_archive(site.builds, deps[1])
    site.ok("stage", path, "--deps", deps[0])
    manifest = site.layout.release(release_id) / "release.json"
    manifest.write_text(manifest.read_text().replace('"digest": "', f'"digest": "{release_id[-7:]}'))
    run = site.run("stage", path)
    assert run.code == 5
    assert "another content" in run.error["cause"]


def test_uv_of_the_caller_s_settings_is_not_asked(site, deps, monkeypatch):
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("UV_PYTHON", "/nonexistent")
    (site.builds / "uv.toml").write_text("not toml at all [")
    path, _ = release_archive(site.builds, deps[1])
    monkeypatch.chdir(site.builds)
    site.ok("stage", path, "--deps", deps[0])
    shutil.rmtree(site.layout.releases)
