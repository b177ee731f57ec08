"""The mirror: one transaction, validated as a whole, that repairs drift and deletes nothing foreign."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from ansible_project import PLUGINS, Project

# Passes when the staged tree holds main.conf and no file says `broken`; its complaint names the file.
CHECK = """#!/bin/sh
test -f "$1/main.conf" || { echo "no main.conf in $1" >&2; exit 1; }
echo ran >> "$2"
if bad=$(grep -rl broken "$1"); then echo "emerg: unknown directive in $bad:3" >&2; exit 1; fi
grep -rq Tpye "$1" && echo "$1/main.conf:4: Unknown key 'Tpye', ignoring." >&2
grep -rq later "$1" && { echo "Command /srv/x is not executable" >&2; exit 1; }
exit 0
"""


class Site:
    """A role with a tree, and the folder that it is installed to."""

    def __init__(self, project):
        self.project = project
        self.dest = project.path / "host" / "etc" / "demo"
        self.backup = project.path / "backup"
        self.ran = project.path / "ran"
        self.check = project.write("check.sh", CHECK)
        self.check.chmod(0o755)
        project.write("demo/main.conf.j2", "user {{ demo_user }};\n{% if true %}\nkeep\n{% endif %}\n\n")
        project.write("demo/conf.d/app.conf.j2", "server {{ demo_user }};\n")
        project.write("demo/raw.bin", b"\x00{{ raw }}\r\n")
        templates = project.path / "roles/demo/templates"
        templates.mkdir(parents=True)
        (templates / "demo").symlink_to("../../../demo")

    def args(self, **changed):
        args = {
            "tree": "demo",
            "dest": str(self.dest),
            "files": ["main.conf", "conf.d/app.conf", "raw.bin"],
            "names": {"app": "inbox"},
            "owner": str(os.getuid()),
            "group": str(os.getgid()),
            "validate": f"{self.check} %s {self.ran}",
            "backup_dir": str(self.backup),
        }
        return {**args, **changed}

    def run(self, *options, demo_user="www", **changed):
        self.project.role("demo", [{"name": "Install", "mirror": self.args(**changed)}])
        return self.project.play(None, *options, roles=["demo"], vars={"demo_user": demo_user})

    def files(self):
        return {
            str(path.relative_to(self.dest)): path.read_bytes()
            for path in self.dest.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def saved(self, path):
        (found,) = [kept for kept in self.backup.rglob("*") if kept.name == Path(path).name]
        return found

    def leftovers(self):
        return list(self.dest.parent.glob(".demo.mirror-*"))


@pytest.fixture
def site(project):
    return Site(project)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    site = Site(Project(tmp_path_factory.mktemp("first")))
    run = site.run()
    assert run.code == 0, run.output
    assert run.last["changed"] is True
    return site


@pytest.fixture
def installed(first, site):
    """A site as the first run leaves it; copied, since that run takes most of a second."""
    shutil.copytree(first.dest, site.dest)
    site.ran.touch()
    return site


def test_tree_is_rendered_like_template_and_named_after_the_app(installed):
    assert installed.files() == {
        "main.conf": b"user www;\nkeep\n\n",
        "conf.d/inbox.conf": b"server www;\n",
        "raw.bin": b"\x00{{ raw }}\r\n",
    }
    assert stat.S_IMODE((installed.dest / "main.conf").stat().st_mode) == 0o644
    assert stat.S_IMODE((installed.dest / "conf.d").stat().st_mode) == 0o755
    assert not installed.leftovers()
    assert not installed.backup.exists()


def test_render_is_byte_for_byte_what_template_makes(site):
    source = "{# c #}\n  {% for x in [1, 2] %}\n  {{ x }}\\n {{ [x] }}\n  {% endfor %}\n{{ demo_user }}\n\n"
    site.project.write("demo/main.conf.j2", source)
    site.project.write("demo/part", "included {{ demo_user }}")
    site.project.write("demo/conf.d/app.conf.j2", "{% include 'part' %}\n")
    reference = site.project.path / "reference"
    tasks = [
        {"mirror": site.args()},
        {"ansible.builtin.template": {"src": "demo/main.conf.j2", "dest": str(reference)}},
    ]
    site.project.role("demo", tasks)
    run = site.project.play(roles=["demo"], vars={"demo_user": "www"})
    assert run.code == 0, run.output
    assert (site.dest / "main.conf").read_bytes() == reference.read_bytes()
    assert (site.dest / "conf.d/inbox.conf").read_bytes() == b"included www\n"


def test_second_run_changes_nothing_and_does_not_validate(installed):
    installed.ran.unlink()
    run = installed.run()
    assert run.last["changed"] is False
    assert run.last["validation"] == "not needed"
    assert not installed.ran.exists()


def test_check_mode_validates_shows_the_diff_and_touches_nothing(installed):
    before = installed.files()
    installed.ran.unlink()
    run = installed.run("--check", "--diff", demo_user="other")
    assert run.last["changed"] is True
    assert run.last["validation"] == "passed"
    assert installed.ran.exists()
    assert installed.files() == before
    assert not installed.backup.exists()
    diff = {entry["before_header"]: entry for entry in run.last["diff"]}
    assert diff[str(installed.dest / "main.conf")]["before"] == "user www;\nkeep\n\n"
    assert diff[str(installed.dest / "main.conf")]["after"] == "user other;\nkeep\n\n"
    assert set(diff) == {str(installed.dest / "main.conf"), str(installed.dest / "conf.d/inbox.conf")}


def test_failed_validation_changes_nothing_and_names_the_real_file(installed):
    before = installed.files()
    run = installed.run(demo_user="broken")
    assert run.code == 2
    assert installed.files() == before
    assert "emerg: unknown directive in" in run.last["msg"]
    assert f"{installed.dest}/main.conf:3" in run.last["msg"]
    assert ".mirror-" not in run.last["msg"]
    assert not installed.leftovers()


def test_validation_sees_files_of_others_too(installed):
    (installed.dest / "theirs.conf").write_text("broken\n")
    run = installed.run(demo_user="other")
    assert run.code == 2
    assert f"{installed.dest}/theirs.conf" in run.last["msg"]


def test_line_on_stderr_is_a_failure_where_asked(installed):
    run = installed.run(demo_user="Tpye", validate_fail_on_stderr=True)
    assert run.code == 2
    assert f"{installed.dest}/main.conf:4: Unknown key 'Tpye'" in run.last["msg"]


def test_ignored_lines_and_the_exit_code_they_cause_do_not_count(installed):
    run = installed.run(
        demo_user="later", validate_fail_on_stderr=True, validate_ignore=["Command /srv/.* is not executable"]
    )
    assert run.code == 0, run.output
    run = installed.run(
        demo_user="later Tpye", validate_fail_on_stderr=True, validate_ignore=["Command /srv/.* is not exec"]
    )
    assert run.code == 2


def test_program_missing_on_a_fresh_host_skips_validation_in_check_mode_only(site):
    run = site.run("--check", validate="no-such-program %s", owner="nobody-yet", group="nobody-yet")
    assert run.code == 0, run.output
    assert run.last["validation"] == "skipped"
    assert not site.dest.exists()
    run = site.run(validate="no-such-program %s")
    assert run.code == 2
    assert "no-such-program" in run.last["msg"]
    assert not site.dest.exists()


def test_tampered_content_is_repaired_and_kept(installed):
    (installed.dest / "main.conf").write_text("tampered\n")
    run = installed.run()
    assert run.last["changed_files"] == [str(installed.dest / "main.conf")]
    assert (installed.dest / "main.conf").read_text() == "user www;\nkeep\n\n"
    assert installed.saved("main.conf").read_text() == "tampered\n"
    assert installed.saved("main.conf").is_relative_to(run.last["backup_path"])
    assert stat.S_IMODE(installed.backup.stat().st_mode) & 0o077 == 0 or installed.backup.stat().st_uid == 0


def test_tampered_mode_is_repaired_without_a_backup(installed):
    (installed.dest / "main.conf").chmod(0o666)
    run = installed.run("--diff")
    assert run.last["changed_files"] == [str(installed.dest / "main.conf")]
    assert stat.S_IMODE((installed.dest / "main.conf").stat().st_mode) == 0o644
    assert "mode: 0666" in run.last["diff"][0]["before"]
    assert run.last["backup_path"] == ""


def test_mask_link_and_folder_in_the_place_of_a_file_are_replaced(installed):
    (installed.dest / "main.conf").unlink()
    (installed.dest / "main.conf").symlink_to("/dev/null")
    (installed.dest / "raw.bin").unlink()
    (installed.dest / "raw.bin").symlink_to("theirs")
    (installed.dest / "conf.d/inbox.conf").unlink()
    (installed.dest / "conf.d/inbox.conf").mkdir()
    (installed.dest / "conf.d/inbox.conf/inner").write_text("x")
    run = installed.run()
    assert run.code == 0, run.output
    assert len(installed.files()) == 3
    assert installed.saved("raw.bin").readlink() == Path("theirs")
    assert installed.saved("inner").read_text() == "x"
    assert not list(installed.backup.rglob("main.conf"))


def test_foreign_files_in_claimed_places_are_moved_aside(site):
    site.project.write("demo/app-web@.d/ours.conf", "ours\n")
    run = site.run(files=["main.conf", "app-web@.d/ours.conf"])
    assert run.code == 0, run.output
    (site.dest / "inbox-web@.d/zz.conf").write_text("theirs\n")
    (site.dest / "inbox-web@one.d").mkdir()
    (site.dest / "inbox-web@one.d/a.conf").write_text("theirs\n")
    (site.dest / "unrelated").write_text("stays\n")
    other_root = site.project.path / "run"
    (other_root / "inbox-web@.d").mkdir(parents=True)
    changed = {
        "files": ["main.conf", "app-web@.d/ours.conf"],
        "exclusive": ["inbox-web@*.d"],
        "exclusive_roots": [str(site.dest), str(other_root)],
    }
    run = site.run("--diff", **changed)
    assert run.code == 0, run.output
    assert run.last["moved_aside"] == [
        str(site.dest / "inbox-web@.d/zz.conf"),
        str(site.dest / "inbox-web@one.d"),
        str(other_root / "inbox-web@.d"),
    ]
    assert set(site.files()) == {"main.conf", "inbox-web@.d/ours.conf", "unrelated"}
    assert site.saved("zz.conf").read_text() == "theirs\n"
    assert not (other_root / "inbox-web@.d").exists()
    assert site.run(**changed).last["changed"] is False


def test_file_of_an_older_version_is_removed_but_kept_in_the_backup(installed):
    run = installed.run(files=["main.conf", "raw.bin"], absent=["conf.d/app.conf", "never.conf"])
    assert run.last["changed_files"] == [str(installed.dest / "conf.d/inbox.conf")]
    assert set(installed.files()) == {"main.conf", "raw.bin"}
    assert installed.saved("inbox.conf").read_text() == "server www;\n"


def test_backup_that_cannot_be_made_stops_the_run_before_anything_changes(installed):
    before = installed.files()
    (installed.dest / "main.conf").write_text("tampered\n")
    installed.backup.write_text("in the way\n")
    run = installed.run(demo_user="other")
    assert run.code == 2
    assert "as it was before" in run.last["msg"]
    assert installed.files() == {**before, "main.conf": b"tampered\n"}
    assert not installed.leftovers()


def test_rename_that_fails_half_way_takes_back_those_before_it(installed):
    sys.path.insert(0, str(PLUGINS / "modules"))
    import mirror

    before = installed.files()
    (installed.dest / "stranger").write_text("theirs\n")
    attributes = (os.getuid(), os.getgid(), 0o644)
    names = ("main.conf", "new/one.conf", "raw.bin")
    wanted = {installed.dest / name: b"new\n" for name in names}
    plan = mirror.make_plan(installed.dest, wanted, attributes, [], ["stranger"], [installed.dest])
    with mirror.Stage(installed.dest, attributes) as stage:
        for change in plan.writes[:2]:  # the third is not staged: its rename fails
            stage.write(change)
        with pytest.raises(FileNotFoundError):
            mirror.Transaction(plan, stage, mirror.Backup(installed.backup), (*attributes[:2], 0o755)).run()
    assert installed.files() == {**before, "stranger": b"theirs\n"}
    assert not (installed.dest / "new").exists()


def test_undefined_variable_names_the_file_before_the_host_is_touched(site):
    site.project.write("demo/conf.d/app.conf.j2", "server {{ nowhere }};\n")
    run = site.run()
    assert run.code == 2
    assert "demo/conf.d/app.conf.j2" in run.last["msg"]
    assert "'nowhere' is undefined" in run.last["msg"]
    assert not site.dest.exists()


def test_missing_name_is_refused_with_what_is_near(site):
    run = site.run(files=["main.conf", "conf.d/ap.conf"])
    assert run.code == 2
    assert "conf.d/ap.conf is not there (did you mean conf.d/app.conf" in run.last["msg"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"files": ["../x"]}, "name below the tree"),
        ({"mode": "rw"}, "quoted octal"),
        ({"exclusive": ["*"]}, "would claim everything"),
        ({"validate": "true"}, "must hold %s"),
    ],
)
def test_argument_that_cannot_be_meant_is_refused(site, changed, words):
    run = site.run(**changed)
    assert run.code == 2
    assert words in run.last["msg"]


def test_parent_that_is_a_link_is_refused(installed):
    elsewhere = installed.project.path / "elsewhere"
    (installed.dest / "conf.d").rename(elsewhere)
    (installed.dest / "conf.d").symlink_to(elsewhere)
    run = installed.run(demo_user="other")
    assert run.code == 2
    assert "is not a folder" in run.last["msg"]
