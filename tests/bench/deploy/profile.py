"""Where the seconds of this project's deploy go: by task of Ansible's, by step of releasectl's."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .hosts import App
from .kinds import BUILD_DIR, Change, Ours
from .runs import Run

UNITS = ("web", "worker", "beat", "flower", "migrate")
STEP_SECONDS = 300


def look_into(ours: Ours, changes: Callable[[], Change]) -> dict[str, Any]:
    """Deploy once by the playbook and once by hand; return the seconds of each part.

    By hand, because releasectl's lines reach Ansible only when it has ended: over ssh each is seen as it is
    written.

    :param changes: returns a change no release had.
    """
    first, app = changes(), ours.apps[0]
    tasks = tasks_of(ours.deploy(first))
    again = tasks_of(ours.deploy_again())
    archive = built(ours, changes())
    place = f"/srv/{app.app}/incoming/{archive.name}"
    copied = timed(lambda: put(app, archive, place))
    release = archive.stem.removeprefix("release-")
    steps = {"copy by ssh": copied}
    for words in (f"stage {place}", f"migrate {release}", f"activate --prune {release}"):
        steps[words.split()[0]] = steps_of(app, words)
    units = start_seconds(app, release)
    steps["rollback"] = steps_of(app, "rollback")
    # What was gone back to may have nothing before it.
    ours.deploy(changes())
    back = tasks_of(ours.roll_back())
    return {"deploy": tasks, "deploy of what runs": again, "rollback": back, "steps": steps, "units": units}


def tasks_of(run: Run) -> list[dict[str, Any]]:
    """Return a run as rows: its start, its tasks, its end."""
    rows = [{"name": "ansible-playbook until the first task", "seconds": run.before_seconds, "parts": {}}]
    rows += [{"name": task.name, "seconds": task.seconds, "parts": dict(task.parts)} for task in run.tasks]
    return [*rows, {"name": "from the recap to the end", "seconds": run.after_seconds, "parts": {}}]


def built(ours: Ours, changed: Change) -> Path:
    """Build a change without deploying it; return the release's archive.

    :raises RuntimeError: if there is no new one.
    """
    folder = BUILD_DIR / "releases" / ours.apps[0].app
    before = set(folder.glob("release-*.tar"))
    playbook, extra = ours.deploying(changed)
    ours.runner.play(playbook, ours.inventory, "--check", extra=extra)
    new = set(folder.glob("release-*.tar")) - before
    if len(new) != 1:
        raise RuntimeError(f"one new archive was to be in {folder}, and there are {sorted(new)}")
    return new.pop()


def put(app: App, source: Path, place: str) -> None:
    """Send a file to the app's host, to a place that root alone may write."""
    command = ssh(app, f"sudo -n sh -c 'umask 077 && cat > {place}'")
    with source.open("rb") as stream:
        subprocess.run(command, stdin=stream, check=True, timeout=STEP_SECONDS)


def timed(act: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def ssh(app: App, command: str) -> list[str]:
    """Return the words that run a command on an app's host."""
    config = str(app.site.inventory.state_dir.resolve() / "ssh/config")
    return ["ssh", "-F", config, "-o", "BatchMode=yes", app.host, command]


def steps_of(app: App, words: str) -> list[dict[str, Any]]:
    """Run a command of releasectl on the host; return its steps with their seconds.

    :raises RuntimeError: with all it said, if it fails.
    """
    command = ssh(app, f"sudo -n releasectl --app {app.app} {words} 2>&1")
    began, lines = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            lines.append((time.monotonic() - began, line.rstrip("\n")))
        status = process.wait(STEP_SECONDS)
    if status != 0:
        raise RuntimeError(
            f"releasectl {words}: exit status {status}\n" + "\n".join(line for _, line in lines)
        )
    return spans(lines, time.monotonic() - began)


def spans(lines: Iterable[tuple[float, str]], end: float) -> list[dict[str, Any]]:
    """Return each line with the seconds until the next one, or the end, and what came before the first.

    :param lines: seconds since the start, and what was said then.
    """
    found = [(0.0, "ssh, sudo, the start of releasectl"), *lines]
    ends = [at for at, _ in found[1:]] + [end]
    # A progress line begins with its time.
    return [
        {"name": line[10:] if line[2:3] == line[5:6] == ":" else line, "seconds": until - at}
        for (at, line), until in zip(found, ends, strict=True)
    ]


def start_seconds(app: App, release: str) -> dict[str, float]:
    """Return how long each unit of a release took from its start to systemd's word that it is up."""
    names = [f"{app.app}-{kind}@{release}.service" for kind in UNITS]
    wanted = "Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"
    shown = app.sudo(f"systemctl show --property={wanted} {' '.join(names)}").strip().split("\n\n")
    found = {}
    for block in shown:
        said = dict(line.split("=", 1) for line in block.splitlines())
        began, up = (int(said[f"{word}TimestampMonotonic"]) for word in ("InactiveExit", "ActiveEnter"))
        if up > began > 0:
            found[said["Id"].split("@")[0].rpartition("-")[2]] = (up - began) / 1e6
    return found
