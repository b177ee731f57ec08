"""The bench of deploys counts what it says it counts. Hosts, and how fast anything is, are not asked here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml
from testbed import sites

from bench import PROJECT_DIR
from bench.deploy import __main__ as program
from bench.deploy import kinds, report, rounds
from bench.deploy.hosts import MOST, Hosts
from bench.deploy.profile import spans
from bench.deploy.runs import Run, Runner, Task

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - {name: First, ansible.builtin.command: sleep 0.3, changed_when: false}
    - {name: Left out, ansible.builtin.debug: {msg: never}, when: false}
    - {name: Last, ansible.builtin.debug: {msg: said}}
"""
WARM_ROLL_BACK, WARM_ON_HOST = (rounds.WARM.format(one) for one in (rounds.ROLL_BACK, rounds.ON_HOST))
INVENTORY = {"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path / "runner")


@pytest.fixture
def play(tmp_path, runner):
    """Run a play here and return what it cost."""
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(INVENTORY))
    return runner.play(tmp_path / "play.yml", tmp_path / "inventory.yml")


def test_a_run_is_its_tasks_and_what_comes_before_and_after(play):
    assert [(task.name, task.ran) for task in play.tasks] == [("First", 1), ("Left out", 0), ("Last", 1)]
    assert play.tasks_run == 2
    assert 0.3 <= play.tasks[0].seconds < play.seconds
    parts = play.before_seconds + sum(task.seconds for task in play.tasks) + play.after_seconds
    assert parts == pytest.approx(play.seconds, abs=0.05)
    assert min(play.before_seconds, play.after_seconds) > 0
    # Nobody was asked over ssh, and Ansible's question to ssh itself is no round trip.
    assert play.round_trips == 0


def test_cpu_is_that_of_the_whole_family_and_not_the_time_waited(runner):
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    noted = json.dumps({"tasks": [], "ended": time.time()})
    command = f"sleep 1 & {sys.executable} -c '{burn}'; wait; echo '{noted}' > \"$BENCH_TASKS\""
    run = runner.run(["sh", "-c", command])
    assert 0.5 <= run.cpu_seconds < 0.9
    assert run.seconds >= 1


def test_every_call_of_ssh_and_sftp_that_names_a_host_is_a_round_trip(runner):
    asked = "ssh -F /dev/null -G one; ssh -F /dev/null -G two; ssh -o ControlPersist; sftp -b /dev/null /no"
    noted = json.dumps({"tasks": [], "ended": time.time()})
    run = runner.run(["sh", "-c", f"{asked}; echo '{noted}' > \"$BENCH_TASKS\""])
    assert run.round_trips == 3
    # The programs that count go on to the real ones.
    assert "host one" in run.output
    assert "host two" in run.output


def test_a_play_that_fails_is_no_measurement(tmp_path, runner):
    (tmp_path / "play.yml").write_text(PLAY.replace("sleep 0.3", "sh -c 'exit 3'"))
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(INVENTORY))
    with pytest.raises(RuntimeError, match="non-zero return code"):
        runner.play(tmp_path / "play.yml", tmp_path / "inventory.yml")


def test_each_change_is_one_line_of_one_page_that_no_release_had(tmp_path):
    first, second = kinds.change(tmp_path), kinds.change(tmp_path)
    assert first.words != second.words
    for changed in (first, second):
        compared = ["diff", "-r", "--exclude=tests", "--exclude=__pycache__", kinds.APP_DIR, changed.source]
        diff = subprocess.run(compared, capture_output=True, text=True, check=False).stdout
        lines = [line for line in diff.splitlines() if line.startswith(("<", ">", "Only in"))]
        assert len(lines) == 2, diff
        assert changed.words in lines[1]


def test_hosts_and_those_of_the_other_tests_share_no_port_whatever_the_slots(monkeypatch):
    taken = {}
    for slot in range(5):
        monkeypatch.setattr(sites, "SLOT", slot)
        for debian in (12, 13):
            others = [sites.Declaration(kind, debian) for kind in sites.KINDS]
            # Only one release of the bench's hosts is up at a time.
            for one in others + ([Hosts("site", debian, MOST)] if debian == 13 else []):
                for port in one.outer_ports:
                    assert port not in taken, f"{one.name} and {taken[port]} both want {port}"
                    taken[port] = one.name


def test_inventory_holds_as_many_hosts_as_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sites, "INVENTORY_DIR", tmp_path)
    declaration = Hosts("site", 13, 3)
    written = json.loads((declaration.write() / "hosts.yml").read_text())["all"]
    assert list(written["hosts"]) == declaration.names
    assert len(set(declaration.names)) == 3
    ports = [host["ansible_port"] for host in written["hosts"].values()]
    assert ports == [declaration.ssh_port_of(number) for number in range(3)]
    members = {name: list(group["hosts"]) for name, group in written["children"].items()}
    first = [declaration.name]
    assert members == {"app_servers": declaration.names, "databases": first, "brokers": first}
    # By which they reach the first one's database.
    assert len({host["base_address"] for host in written["hosts"].values()}) == 3


@pytest.fixture
def bench(tmp_path):
    """Return a bench that has measured: this project thrice as fast, and the other one lossy."""
    made = rounds.Bench(rounds.Plan(1, 13, 2, 1, 30), tmp_path)
    quick = Run(3.0, 1.5, 6, 1.0, 0.2, [Task("one", 1, 1.8, {})], "")
    made.runs[kinds.Ours.title, rounds.DEPLOY] = [quick, replace(quick, seconds=5.0)]
    made.runs[kinds.Ours.title, WARM_ROLL_BACK] = [replace(quick, seconds=3.5)]
    made.runs[kinds.Classic.title, rounds.DEPLOY] = [replace(quick, seconds=16.0, round_trips=31)]
    made.losses[kinds.Ours.title] = [rounds.Loss(5.0, 400, 0, 0)]
    made.losses[kinds.Classic.title] = [rounds.Loss(17.0, 300, 7, 0), rounds.Loss(18.0, 310, 11, 0)]
    made.on_host = {rounds.ON_HOST: [0.4], rounds.VISITORS.format(WARM_ON_HOST): [0.25]}
    return made


def test_table_shows_medians_and_what_both_lost(bench):
    rows = report.results(bench)
    text = report.table(rows)
    ours, theirs = (
        next(line for line in text.splitlines() if line.startswith(kind.title) and " deploy " in line)
        for kind in (kinds.Ours, kinds.Classic)
    )
    assert ours.split()[-1:-4:-1] == ["400", "of", "0"]
    assert theirs.split()[-1:-4:-1] == ["610", "of", "18"]
    assert "4.00" in ours
    assert "3.00-5.00" in ours
    assert " 31 " in theirs
    assert json.loads(json.dumps(rows)) == rows


def test_verdict_holds_the_limits_against_the_medians(bench):
    said = report.verdict(report.results(bench), 1, quiet=True).splitlines()
    assert said == [
        "deploy on 1 at most 5 s: 4.00 s, held",
        "warm: rollback on 1 at most 3 s: 3.50 s, NOT HELD",
        "warm: releasectl rollback, served on 1 at most 0.3 s: 0.25 s, held",
        "deploy at least 3 times as fast as Ansistrano's steps: 4.0 times, held",
    ]
    assert "held" not in report.verdict(report.results(bench), 1, quiet=False).lower()
    classic = bench.runs[kinds.Classic.title, rounds.DEPLOY]
    classic[:] = [replace(classic[0], seconds=11.9)]
    assert "3.0 times, NOT HELD" in report.verdict(report.results(bench), 1, quiet=True)


def test_busy_machine_is_said_in_the_report(bench):
    facts = {
        "machine": {"cores": 2},
        "versions": {"ansible-core": "2.19"},
        "plan": {"hosts": 1},
        "load_before": 0.1,
        "results": report.results(bench),
        "profile": {},
    }
    assert "BUSY" not in program.words(facts)
    assert "BUSY" in program.words({**facts, "load_before": 2.0})


def test_steps_on_the_host_add_up_to_the_whole():
    steps = spans([(0.2, "12:00:01  starting"), (0.5, "done")], 0.9)
    assert [step["name"] for step in steps] == ["ssh, sudo, the start of releasectl", "starting", "done"]
    assert [step["seconds"] for step in steps] == pytest.approx([0.2, 0.3, 0.4])


def test_program_says_what_must_be_installed_first(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.deploy"],
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR / "tests"), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "apt-get install rsync" in done.stderr
