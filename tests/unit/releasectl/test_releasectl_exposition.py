"""What Prometheus is told of deploys: the ledger's own counts, whatever it holds."""

import json
import re

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
