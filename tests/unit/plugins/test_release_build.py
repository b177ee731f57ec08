"""release_build: the same content is the same release, for the target's Python and not the controller's."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from ansible.module_utils.release_archive import environment_file
from ansible.module_utils.release_lock import Target, for_target, parse_lock
from ansible.module_utils.release_source import defined_names, modules, read_tree
from release_workshop import PYPROJECT, contents, copy_cache, refused, sdist, wheel, write


def test_archives_hold_what_the_contract_says(shop):
    built = shop.build()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{7}", built["id"])
    assert built["id"].endswith(built["digest"][:7])
    deps = contents(built["deps_archive"])
    assert Path(built["deps_archive"]).name == f"deps-{built['deps_id']}.tar"
    assert set(deps) == {"requirements.txt", "wheels/dep-1.0-py3-none-any.whl"}
    dep = hashlib.sha256(deps["wheels/dep-1.0-py3-none-any.whl"]).hexdigest()
    assert deps["requirements.txt"].decode() == f"dep==1.0 --hash=sha256:{dep}\n"
    release = contents(built["release_archive"])
    described = json.loads(release.pop("release.json"))
    assert set(release) == {
        "release.env",
        "requirements.txt",
        "sbom.cdx.json",
        "static/a.5f546eb4606b.css",
        "static/a.css",
        "static/deep/b.3e23e8160039.js",
        "static/deep/b.js",
        "static/manifest.json",
        "wheels/inbox-1.0-py3-none-any.whl",
        "wheels/ops-1.0-py3-none-any.whl",
    }
    assert described["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in release.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in deps.items()}
    assert described["dependencies"] == digests
    assert described["id"] == built["id"]
    assert described["platform"] == "manylinux_2_41_x86_64"
    inbox = described["files"]["wheels/inbox-1.0-py3-none-any.whl"]
    assert (
        f"./wheels/inbox-1.0-py3-none-any.whl --hash=sha256:{inbox}\n" in release["requirements.txt"].decode()
    )


def test_second_build_is_the_same_release_offline_and_quick(warm, monkeypatch):
    first = warm.build()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    began = time.monotonic()
    second = warm.build()
    assert time.monotonic() - began < 1.5
    assert (second["id"], second["changed"], first["changed"]) == (first["id"], False, True)


def test_code_change_alone_keeps_the_dependencies_and_is_quick(warm, monkeypatch):
    first = warm.build()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    write(warm.source, {"src/inbox/wsgi.py": "app = 2\n"})
    began = time.monotonic()
    second = warm.build()
    assert time.monotonic() - began < 1.5
    assert second["digest"] != first["digest"]
    assert second["deps_id"] == first["deps_id"]


def test_digest_knows_nothing_of_times_places_people_and_revision(warm):
    first = warm.build(built_by="me")
    warm.commit()
    os.utime(warm.source / "src/inbox/wsgi.py", (1, 1))
    (warm.source / "src/inbox/wsgi.py").chmod(0o600)
    other = copy_cache(warm.cache, warm.path / "other", "wheels", "choices")
    second = warm.build(cache_dir=other, built_by="you")
    assert second["digest"] == first["digest"]
    assert len(second["revision"]) == 40
    assert second["dirty"] is False
    assert Path(second["deps_archive"]).read_bytes() == Path(first["deps_archive"]).read_bytes()
    for changed in (
        {"wsgi": "inbox.wsgi:app.wsgi_app"},
        {"migrate_command": ""},
        {"celery": "inbox.worker:app"},
        {"beat_scheduler": "inbox.beat:Scheduler"},
    ):
        assert warm.build(**changed)["digest"] != first["digest"]


def test_release_says_itself_where_its_celery_is(warm):
    without, named = (
        contents(warm.build(**words)["release_archive"])["release.env"].decode()
        for words in ({}, {"celery": "inbox.worker:app", "beat_scheduler": "inbox.beat:Scheduler"})
    )
    assert "CELERY" not in without
    assert 'APP_CELERY="inbox.worker:app"' in named
    assert 'CELERY_BEAT_SCHEDULER="inbox.beat:Scheduler"' in named
    assert 'RELEASE_CELERY="flask_ops.celery_command"' in named


def test_release_known_to_a_host_keeps_its_id_on_a_fresh_controller(warm):
    digest = warm.build()["digest"]
    known = [
        {"id": "20200101T000000Z-0000000", "digest": "other"},
        {"id": "20210101T000000Z-aaaaaaa", "digest": digest},
    ]
    fresh = copy_cache(warm.cache, warm.path / "fresh", "wheels", "choices")
    built = warm.build(known_releases=known, cache_dir=fresh)
    assert (built["id"], built["changed"]) == ("20210101T000000Z-aaaaaaa", False)
    release = contents(built["release_archive"])
    assert json.loads(release["release.json"])["built_at"] == "2021-01-01T00:00:00Z"
    assert b'RELEASE_ID="20210101T000000Z-aaaaaaa"' in release["release.env"]


def test_markers_are_the_targets(shop):
    lines = [
        f"older==1.0 ; python_version < '3.12' {wheel(shop.index, 'older')}",
        f"patch==1.0 ; python_full_version < '3.11.3' {wheel(shop.index, 'patch')}",
        f"arm==1.0 ; platform_machine == 'aarch64' {wheel(shop.index, 'arm')}",
    ]
    shop.lock.write_text("\n".join([*lines, shop.lock.read_text()]))

    lock = parse_lock(shop.lock.read_text(), "x")

    def names(*target):
        return [entry.name for entry in for_target(lock, Target(*target))]

    assert names("3.13", "x86_64", "2.41") == ["dep"]
    assert names("3.11.2", "x86_64", "2.36") == ["dep", "older", "patch"]
    assert names("3.11.4", "x86_64", "2.36") == ["dep", "older"]
    assert names("3.13.5", "aarch64", "2.41") == ["arm", "dep"]
    # pip alone would judge by its own Python, whichever that is.
    built = contents(shop.build(python_version="3.11.2", glibc="2.36")["deps_archive"])
    assert re.findall(r"(?m)^(\w+)==", built["requirements.txt"].decode()) == ["dep", "older", "patch"]


def test_best_wheel_for_the_targets_libc_and_python_is_taken(shop):
    tags = ["cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp313-cp313-manylinux_2_35_x86_64"]
    tags += [
        "cp313-cp313-manylinux_2_40_x86_64",
        "cp311-abi3-manylinux_2_17_x86_64",
        "cp313-cp313-macosx_11_0_arm64",
    ]
    shop.lock.write_text("native==1.0 " + " ".join(wheel(shop.index, "native", tag) for tag in tags) + "\n")
    write(shop.source, {"pyproject.toml": PYPROJECT.format(name="inbox", dependencies='["native"]')})

    def taken(**target):
        found = [name for name in contents(shop.build(**target)["deps_archive"]) if name.endswith(".whl")]
        return found[0].removeprefix("wheels/native-1.0-").removesuffix(".whl")

    assert taken(glibc="2.41") == tags[2]
    assert taken(glibc="2.36") == tags[1]
    assert taken(python_version="3.12", glibc="2.36") == tags[3]


def test_sdist_of_pure_python_becomes_a_wheel_that_hashes_match(shop):
    shop.lock.write_text(f"pure==1.0 {sdist(shop.index, 'pure', 'py3-none-any')}\n{shop.lock.read_text()}")
    deps = contents(shop.build()["deps_archive"])
    digest = hashlib.sha256(deps["wheels/pure-1.0-py3-none-any.whl"]).hexdigest()
    assert f"pure==1.0 --hash=sha256:{digest}" in deps["requirements.txt"].decode()


def test_sdist_for_one_machine_is_refused_by_name_with_a_remedy(shop):
    native = sdist(shop.index, "native", f"cp3{sys.version_info.minor}-abi3-linux_x86_64")
    shop.lock.write_text(f"native==1.0 {native}\n{shop.lock.read_text()}")
    message = refused(shop.build)
    assert "native==1.0 has no wheel for Python 3.13 on manylinux_2_41_x86_64" in message
    assert "builds for one machine only" in message
    assert "Lock a version that has one" in message


def test_wheel_that_differs_from_its_hash_is_refused(shop):
    shop.lock.write_text(f"dep==1.0 --hash=sha256:{'0' * 64}\n")
    assert "dep" in refused(shop.build)


def test_index_that_cannot_be_reached_is_not_taken_for_one_without_the_package(shop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")  # pip says why only when it tries again
    shop.lock.write_text(f"faraway==1.0 --hash=sha256:{'0' * 64}\n{shop.lock.read_text()}")
    message = refused(shop.build, host="web1")
    assert message.startswith(f"app_source `{shop.source}` for web1 (Python 3.13, glibc 2.41): ")
    assert "the package index cannot be reached" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("loose>=1 --hash=sha256:00", "loose is not pinned"),
        ("bare==1.0", "bare has no hash"),
        ("star==1.* --hash=sha256:00", "star is not pinned"),
        ("-r other.txt", "includes another file"),
        ("# nothing", "names no package"),
    ],
)
def test_lock_that_is_not_pinned_and_hashed_is_refused(shop, line, words):
    shop.lock.write_text(line + "\n")
    assert words in refused(shop.build, state="check")
    assert not shop.cache.exists()


def test_lock_lines_of_the_projects_own_packages_are_passed_over():
    text = (
        "-e .\n./ops\nOps==1.0 --hash=sha256:00\ndep==1.0 \\\n  --hash=sha256:aa \\\n --hash=sha256:bb # x\n"
    )
    lock = parse_lock(text, "x", frozenset(["ops"]))
    assert [entry.line for entry in lock.entries] == ["dep==1.0 --hash=sha256:aa --hash=sha256:bb"]


def test_lock_without_what_the_project_requires_is_refused(warm):
    text = PYPROJECT.format(
        name="inbox", dependencies='["absent>=1", "dep>=2", "skipped; python_version < \'3\'"]'
    )
    write(warm.source, {"pyproject.toml": text})
    message = refused(warm.build)
    assert "inbox needs absent, which the lock lacks" in message
    assert "inbox needs dep>=2, the lock has 1.0" in message
    assert "skipped" not in message


@pytest.mark.parametrize(
    ("wsgi", "words"),
    [
        ("inbox.wsig:app", "no module `inbox.wsig`"),
        ("inbox.wsig:app", "did you mean `inbox.wsgi:app`?"),
        ("inbx.wsgi:app", "did you mean `inbox.wsgi:app`?"),
        ("inbox.wsgi:ap", "defines no `ap`; did you mean `inbox.wsgi:app`?"),
        ("inbox.factory:make", "did you mean `inbox.factory:make()`?"),
        ("inbox.wsgi", "wanted is `module:name`"),
        ("inbox.zzzzzzzz:q", "near it are `inbox.wsgi:app`"),
    ],
)
def test_wsgi_entry_that_is_not_there_is_refused_before_building(shop, wsgi, words):
    write(shop.source, {"src/inbox/factory.py": "def make(config=None): ...\n"})
    message = refused(shop.build, state="check", wsgi=wsgi)
    assert f"app_wsgi is `{wsgi}`" in message
    assert words in message
    assert not shop.cache.exists()


def test_wsgi_entry_may_be_a_factory_or_in_a_dependency(warm):
    write(warm.source, {"src/inbox/factory.py": "def make(config=None): ...\n"})
    assert warm.build(state="check", wsgi="inbox.factory:make()")["changed"] is False
    assert warm.build(wsgi="dep.wsgi:app")["id"]
    assert "no module `dep.nothing`" in refused(warm.build, wsgi="dep.nothing:app")


def test_names_bound_in_any_manner_are_seen():
    text = """
import a.b, c as d
from e import f as g
if x:
    h = 1
else:
    (i, [j]) = k()
try:
    def l(): hidden = 1
except E as m:
    n: int = 1
with o() as p:
    q = [r for r in s]
"""
    assert set(defined_names(text)) == {"a", "d", "g", "h", "i", "j", "l", "n", "p", "q"}
    assert "*" in defined_names("from x import *")
    assert "*" in defined_names("def __getattr__(name): ...")
    assert "*" in defined_names("not python (")
    assert modules(["a/__init__.py", "a/b.py", "a/c.cpython-313-x86_64-linux-gnu.so", "a-b/c.py"]) == {
        "a": "a/__init__.py",
        "a.b": "a/b.py",
        "a.c": "a/c.cpython-313-x86_64-linux-gnu.so",
    }


def plain(shop) -> dict[str, str]:
    shop.source = write(
        shop.path / "plain",
        {
            "app.py": "app = 1\n",
            "requirements.txt": "dep\n",
            "static/dist/a.js": "x",
            ".env": "SECRET=1",
            ".venv/pyvenv.cfg": "",
            "my-env/pyvenv.cfg": "",
            "my-env/lib/x.py": "",
            "build/junk": "",
            "__pycache__/app.cpython-313.pyc": "",
            "node_modules/x/y.js": "",
        },
    )
    return {"source": str(shop.source), "wsgi": "app:app", "static_dir": "static", "local_packages": []}


def test_plain_tree_is_shipped_without_what_builds_and_tools_leave(warm):
    params = plain(warm)
    before = sorted(path for path in warm.source.rglob("*"))
    built = warm.build(**params)
    assert built["kind"] == "tree"
    assert {name for name in contents(built["release_archive"]) if "/" in name} == {
        "src/app.py",
        "src/requirements.txt",
        "src/static/dist/a.js",
        "static/dist/a.2d711642b726.js",
        "static/dist/a.js",
        "static/manifest.json",
    }
    assert sorted(path for path in warm.source.rglob("*")) == before


def test_checkout_ships_what_git_would_track(warm):
    params = plain(warm)
    write(
        warm.source,
        {".gitignore": "*-env/\n.venv\nnode_modules\nsecret.txt\n", "secret.txt": "", "gone.py": ""},
    )
    warm.commit()
    (warm.source / "gone.py").unlink()
    write(warm.source, {"untracked.py": ""})
    built = warm.build(**params)
    names = {
        name.removeprefix("src/") for name in contents(built["release_archive"]) if name.startswith("src/")
    }
    assert names == {
        ".gitignore",
        "app.py",
        "requirements.txt",
        "static/dist/a.js",
        "build/junk",
        "untracked.py",
    }
    assert built["dirty"] is True
    assert built["ref"] in ("main", "master")


def test_link_out_of_the_source_is_refused_and_one_inside_is_followed(warm):
    params = plain(warm)
    (warm.source / "inner.py").symlink_to("app.py")
    assert contents(warm.build(**params)["release_archive"])["src/inner.py"] == b"app = 1\n"
    (warm.source / "outer").symlink_to("/etc/hostname")
    assert "lead out of it: outer" in refused(warm.build, **params)


def test_source_is_never_written_to(shop):
    before = {path: path.stat().st_mtime_ns for path in shop.source.rglob("*")}
    shop.build()
    assert {path: path.stat().st_mtime_ns for path in shop.source.rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"app_name": "In box"}, "app_name is"),
        ({"python_version": "python3"}, "python_version is `python3`"),
        ({"python_version": "3.9"}, "requires Python >=3.11, the target has 3.9"),
        ({"glibc": "musl"}, "glibc is `musl`"),
        ({"source": "/nonexistent"}, "there is no folder /nonexistent"),
        ({"lock": "/nonexistent"}, "lock /nonexistent is not there"),
        ({"migrate_command": "a\nb"}, "must be one line"),
        ({"celery": "a\nb"}, "celery must be one line"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused_before_building(shop, changed, words):
    assert words in refused(shop.build, state="check", **changed)
    assert not shop.cache.exists()


def test_static_folder_that_is_not_there_is_refused_with_what_is_near(warm):
    assert "did you mean `inbox/static`?" in refused(warm.build, static_dir="inbox/statics")


def test_static_files_of_one_size_differ_in_time_and_keep_it_over_releases(warm):
    def times():
        with tarfile.open(warm.build()["release_archive"]) as tar:
            return {member.name: member.mtime for member in tar if member.name.startswith("static/")}

    before = times()
    write(warm.source, {"src/inbox/static/a.css": "b{}"})
    after = times()
    assert before["static/a.css"] != after["static/a.css"]
    assert before["static/deep/b.js"] == after["static/deep/b.js"]
    assert max(after.values()) < time.time()


def test_environment_file_reads_back_the_same():
    value = r"""flask --app "in box" db $UP `x` \n \\ 'q' # no; %h é"""
    text = environment_file({"MIGRATE_COMMAND": value}).decode()
    command = ["sh", "-c", f'{text}printf %s "$MIGRATE_COMMAND"']
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == value
    with pytest.raises(ValueError, match="line break"):
        environment_file({"A": "a\nb"})


def test_platforms_go_from_the_targets_libc_down():
    assert Target("3.13", "x86_64", "2.18").platforms()[:3] == [
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    ]
    assert Target("3.13", "x86_64", "2.18").platforms()[-2:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64"]
    assert Target("3.13", "aarch64", "2.18").platforms()[-1] == "manylinux2014_aarch64"


def test_checkout_of_another_user_is_read(shop):
    shop.commit()
    if os.getuid() == 0:
        os.chown(shop.source, 12345, 12345)
        os.chown(shop.source / ".git", 12345, 12345)
    assert len(read_tree(shop.source).identity.revision) == 40


def test_task_makes_a_lock_from_the_index_and_builds(project, shop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    text = PYPROJECT.format(name="inbox", dependencies='["itsdangerous>=2", "ops"]')
    write(shop.source, {"pyproject.toml": text})
    task = {"name": "Build", "release_build": shop.params(lock=""), "delegate_to": "localhost"}
    run = project.play([task, task])
    assert run.code == 0, run.output
    first, second = run.results
    assert (first["changed"], second["changed"]) == (True, False)
    names = contents(first["deps_archive"])
    assert [name for name in names if name.startswith("wheels/itsdangerous-")]
    assert not [name for name in names if "ops" in name or "inbox" in name]
    run = project.play([{**task, "release_build": shop.params(wsgi="inbox.wsig:app")}])
    assert "did you mean `inbox.wsgi:app`?" in run.last["msg"]


def test_task_builds_in_ansibles_own_process(project, shop):
    # With an interpreter that is not there nothing could be sent to this host, and no module started on it.
    project.inventory["all"]["hosts"]["web1"]["ansible_python_interpreter"] = "/nowhere/python"
    run = project.play([{"name": "Build", "release_build": shop.params()}])
    assert run.code == 0, run.output
    assert run.last["digest"] == shop.build()["digest"]


def test_task_refuses_an_option_it_does_not_know(project, shop):
    run = project.play([{"name": "Build", "release_build": shop.params(sauce="x")}])
    assert "release_build: no such option: sauce" in run.last["msg"]


def test_what_a_wheel_says_of_itself_is_read_once(warm):
    warm.build()
    (noted,) = warm.cache.glob("wheels/*/metadata-*.json")
    said = json.loads(noted.read_text())
    assert (said["name"], said["version"]) == ("dep", "1.0")
    # Whoever looks into the wheel again does not see this.
    noted.write_text(json.dumps({**said, "requires": ["absent>=3"]}))
    assert "absent" in refused(warm.build)
    noted.unlink()
    warm.build()
    assert json.loads(noted.read_text()) == said
