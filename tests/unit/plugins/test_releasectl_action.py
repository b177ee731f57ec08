"""releasectl, the action: one command over the connection, its answer as the task's, archives sent along."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import pytest
import yaml
from ansible_project import PLUGINS

# Stands where releasectl would be: says what it was given, and what came before it did.
PROGRAM = """#!/bin/sh
echo progress >&2
if [ "$4" = broken ]; then echo 'no JSON'; exit 1; fi
changed=true; error=null; code=0
case $4 in
  look) cp -a "$5" "$5.seen" ;;
  status) changed=false ;;
  activate) error='{"cause": "was not ready within 20 s", "next": "sudo journalctl"}'; code=2 ;;
esac
printf '{"changed": %s, "error": %s, "given": "%s", "by": "%s", "lock": "%s"}' \
    $changed "$error" "$*" "$RELEASECTL_BY" "$RELEASECTL_LOCK"
cat
exit $code
"""


def loaded(kind):
    """Return the plugin of a kind as Python has it."""
    spec = importlib.util.spec_from_file_location(f"{kind}_releasectl", PLUGINS / kind / "releasectl.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "releasectl"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


@pytest.fixture
def run(project, program):
    """Run the action with some words and return what the task reported."""

    def act(*words, options=(), **more):
        arguments = {"app": "shop", "words": list(words), "program": str(program), **more}
        return project.play([{"name": "Run", "releasectl": arguments}], *options)

    return act


def test_answer_is_the_tasks_own(run):
    told = run("stage", "a b.tar", by="ada@desk", lock="t0").last
    assert told["answer"] == {
        "changed": True,
        "error": None,
        "given": "--app shop --json stage a b.tar",
        "by": "ada@desk",
        "lock": "t0",
    }
    assert told["changed"] is True
    # Apart from each other: on a terminal they would be one text.
    assert told["stderr"] == "progress\n"
    assert json.loads(told["stdout"]) == told["answer"]
    # It was given nothing to read.
    assert told["stdout"].endswith("}")


def test_what_only_looks_changes_nothing(run):
    assert run("status").last["changed"] is False


def test_failure_is_told_by_its_exit_code_and_cause(run):
    told = run("activate", "an-id")
    assert told.code == 2
    assert told.last["rc"] == 2
    assert told.last["msg"] == "releasectl ended with 2: was not ready within 20 s"
    assert told.last["answer"]["error"]["next"] == "sudo journalctl"


def test_one_that_breaks_off_is_a_failure_with_its_last_words(run):
    told = run("broken").last
    assert (told["rc"], told["answer"], told["failed"]) == (1, {}, True)
    assert "progress" in told["msg"]


def test_a_host_without_releasectl_says_so(run, tmp_path):
    told = run("status", program=str(tmp_path / "nowhere")).last
    assert told["rc"] == 127
    assert "nowhere" in told["msg"]


def test_archives_arrive_whole_under_their_own_names_for_root_alone(run, tmp_path):
    incoming, seen = tmp_path / "incoming", tmp_path / "incoming.seen"
    contents = {"deps-1.tar": bytes(range(256)) * 5000, "release-2 '$x.tar": b"\n\x00last"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    archives = [str(tmp_path / name) for name in contents]
    told = run("look", str(incoming), archives=archives, incoming_dir=str(incoming)).last
    assert told["rc"] == 0, told
    assert {path.name: path.read_bytes() for path in seen.iterdir()} == contents
    assert {path.stat().st_mode & 0o777 for path in seen.iterdir()} == {0o600}
    # What is refused leaves nothing behind, and takes nothing of another run's away.
    assert not incoming.exists()


def test_nothing_is_staged_where_an_archive_cannot_be_written(run, tmp_path):
    archive = tmp_path / "release.tar"
    archive.write_bytes(b"content")
    told = run("stage", "x", archives=[str(archive)], incoming_dir=str(tmp_path / "missing/x")).last
    assert told["failed"] is True
    assert "missing/x" in told["msg"]
    assert told["answer"] == {}


def test_archive_that_is_gone_is_refused_before_anything_is_sent(run, tmp_path):
    told = run("stage", "x", archives=[str(tmp_path / "gone.tar")], incoming_dir=str(tmp_path)).last
    assert "gone.tar cannot be read" in told["msg"]
    assert "rc" not in told


def test_archives_without_a_place_are_refused(run, tmp_path):
    assert "need an `incoming_dir`" in run("stage", archives=[str(tmp_path)]).last["msg"]


def test_damaged_archive_is_not_given_its_name(tmp_path):
    place = tmp_path / "incoming"
    lines = loaded("action").receiving(str(place), [tmp_path / "sent.tar"], [b"whole"])
    lines.insert(-1, f"test ! -e {place}/sent.tar")
    done = subprocess.run(["sh", "-c", "\n".join(lines)], input=b"short", capture_output=True, check=False)
    assert done.returncode == 1
    assert b"arrived damaged" in done.stderr
    assert not place.exists()


def test_check_mode_runs_nothing(run, tmp_path):
    told = run("stage", "x", options=["--check"]).last
    assert told["skipped"] is True
    assert (told["rc"], told["stdout"]) == (0, "")


def test_documented_options_are_those_that_are_taken():
    documented = yaml.safe_load(loaded("modules").DOCUMENTATION)["options"]
    taken = loaded("action").ARGUMENTS
    assert {name: said.get("default") for name, said in documented.items()} == {
        name: said.get("default") for name, said in taken.items()
    }
