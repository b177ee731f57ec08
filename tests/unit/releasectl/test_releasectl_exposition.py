"""What Prometheus is told of deploys: the ledger's own counts, whatever it holds."""

import fcntl
import json
import os
import re
import time

from releasectl import clock

SAMPLE = re.compile(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\[\\"n])*",?)+)\} (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(apphost):
    """Return the file's samples, every line of it being one or a comment."""
    lines = [line for line in apphost.layout.metrics.read_text().splitlines() if not line.startswith("#")]
    found = [SAMPLE.fullmatch(line) for line in lines]
    assert None not in found, lines
    return {(one[1], *sorted(LABEL.findall(one[2]))): float(one[3]) for one in found}


def of(name, **labels):
    return (name, *sorted({"app": "inbox", **labels}.items()))


def test_deploys_are_counted_by_result_with_the_last_ones_phases(edged):
    first, second = edged.put(1), edged.put(2, {"crash": "boom"})
    edged.ok("activate", first)
    edged.run("activate", second)
    told = samples(edged)
    assert told[of("releasectl_commands_total", command="activate", result="done")] == 1
    assert told[of("releasectl_commands_total", command="activate", result="failed")] == 1
    assert told[of("releasectl_last_command_exit_code", command="activate")] == 2
    assert told[of("releasectl_active_release_info", release=first)] == 1
    last = edged.ledger()[-1]
    phase = of("releasectl_last_command_phase_seconds", command="activate", phase="start")
    assert told[phase] == last["phases"]["start"] > 0
    assert (
        told[of("releasectl_last_command_duration_seconds", command="activate")] == last["duration_seconds"]
    )


def test_failure_is_told_of_until_a_command_goes_well_be_it_with_nothing_to_do(edged):
    first, second = edged.put(1), edged.put(2, {"crash": "boom"})
    edged.ok("activate", first)
    edged.run("activate", second)
    # As a deploy of what was there before, the change having been taken back.
    assert edged.ok("activate", first)["changed"] is False
    assert samples(edged)[of("releasectl_last_command_exit_code", command="activate")] == 0
    entered = len(edged.ledger())
    assert edged.ledger()[-1]["release"] == first
    edged.ok("activate", first)
    assert len(edged.ledger()) == entered
    assert edged.links() == (first, first, None)


def test_old_and_odd_lines_of_the_ledger_do_no_harm(edged):
    first = edged.put(1)
    odd = [{"command": 'wa"t\\\n', "result": None}, {}, {"command": "prune", "at": "then", "phases": 7}]
    edged.layout.ledger.write_text("half a line\n" + "".join(json.dumps(line) + "\n" for line in odd))
    edged.ok("activate", first)
    told = samples(edged)
    assert told[of("releasectl_commands_total", command=r"wa\"t\\\n", result="None")] == 1
    assert told[of("releasectl_last_command_timestamp_seconds", command="prune")] == 0


def test_file_is_readable_to_the_one_who_serves_it(edged):
    edged.ok("activate", edged.put(1))
    assert edged.layout.metrics.stat().st_mode & 0o777 == 0o644


def test_maintenance_is_told_from_its_first_moment_to_its_last(edged):
    began = time.time()
    edged.ok("activate", edged.put(1))
    assert samples(edged)[of("releasectl_maintenance")] == 0
    edged.ok("maintenance", "on")
    told = samples(edged)
    assert told[of("releasectl_maintenance")] == 1
    assert began - 1 <= told[of("releasectl_maintenance_start_timestamp_seconds")] <= time.time()
    edged.ok("maintenance", "off")
    told = samples(edged)
    assert told[of("releasectl_maintenance")] == 0
    assert of("releasectl_maintenance_start_timestamp_seconds") not in told


def test_link_removed_by_hand_is_no_longer_told_of_once_maintenance_is_ended(edged):
    edged.ok("maintenance", "on")
    edged.layout.maintenance.unlink()
    assert samples(edged)[of("releasectl_maintenance")] == 1
    assert edged.ok("maintenance", "off")["changed"] is False
    assert samples(edged)[of("releasectl_maintenance")] == 0


def test_who_writes_waits_for_who_writes_already_and_nobody_else_can_make_it_wait(edged):
    edged.ok("maintenance", "on")
    with edged.layout.metrics_lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = edged.fork("maintenance", "off")
        assert clock.until(10, lambda: not edged.layout.maintenance.is_symlink())
        time.sleep(0.3)
        assert samples(edged)[of("releasectl_maintenance")] == 1
        # Not by closing it: the other process has it open as well.
        fcntl.flock(file, fcntl.LOCK_UN)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert samples(edged)[of("releasectl_maintenance")] == 0
    assert edged.layout.metrics_lock.stat().st_mode & 0o777 == 0o600
