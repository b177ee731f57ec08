"""Running other programs: as root where needed, with a time limit, showing that a long one moves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]
"""The checkout: two folders above this package."""

Log = Callable[[str], None]


class TargetHostError(Exception):
    """A failure whose message tells a person what to do; shown without a traceback."""


def say(line: str = "") -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def relative(path: Path) -> str:
    """Return `path` as a person standing in the checkout would type it."""
    try:
        return str(path.relative_to(PROJECT_DIR))
    except ValueError:
        return str(path)


def as_root(command: Sequence[str]) -> list[str]:
    """Return `command`, through sudo where this process is not root."""
    return list(command) if os.geteuid() == 0 else ["sudo", *command]


def run(
    command: Sequence[str],
    *,
    stdin: bytes | None = None,
    check: bool = True,
    timeout_seconds: float = 60,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` and return its result, output as text.

    `env` is added to this process's environment.

    Raises TargetHostError when the program is missing, outlives `timeout_seconds`, or (with `check`) fails.
    """
    try:
        result = subprocess.run(
            list(command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError as error:
        raise TargetHostError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise TargetHostError(f"no answer within {timeout_seconds:g} s: {shlex.join(command)}") from error
    text = subprocess.CompletedProcess(
        result.args,
        result.returncode,
        result.stdout.decode(errors="replace"),
        result.stderr.decode(errors="replace"),
    )
    if check and text.returncode != 0:
        said = (text.stderr.strip() or text.stdout.strip())[-2000:]
        raise TargetHostError(f"exit status {text.returncode}: {shlex.join(command)}\n{said}")
    return text


@contextlib.contextmanager
def step(title: str, log: Log = say) -> Iterator[None]:
    """Show that a step runs, how long it has, and how it ended.

    On a terminal the seconds count on one line; elsewhere a line comes every 10 s, so that a CI log that
    stands still means something.
    """
    started = time.monotonic()
    ended = threading.Event()
    terminal = log is say and sys.stdout.isatty()

    def tick() -> None:
        while not ended.wait(1 if terminal else 10):
            seconds = time.monotonic() - started
            if terminal:
                print(f"\r{title} … {seconds:.0f} s ", end="", flush=True)
            else:
                log(f"{title} … {seconds:.0f} s")

    if terminal:
        print(f"{title} …", end="", flush=True)
    else:
        log(f"{title} …")
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        ended.set()
        ticker.join()
        line = f"{title}: {outcome} {time.monotonic() - started:.1f} s"
        log(f"\r\x1b[K{line}" if terminal else line)


@contextlib.contextmanager
def turn(name: str) -> Iterator[None]:
    """Wait until no other process of this checkout is at the same work."""
    lock_path = PROJECT_DIR / f".cache/{name}.lock"
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_logged(
    command: Sequence[str],
    log_path: Path,
    *,
    timeout_seconds: float = 120,
    env: dict[str, str] | None = None,
) -> None:
    """Run `command` with all it prints in `log_path`.

    Raises TargetHostError with the last 20 lines when it fails.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        try:
            status = subprocess.run(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=False,
                env={**os.environ, **(env or {})},
            ).returncode
        except FileNotFoundError as error:
            raise TargetHostError(f"{command[0]} is not installed") from error
        except subprocess.TimeoutExpired:
            status = f"none within {timeout_seconds:g} s"
    if status != 0:
        raise TargetHostError(f"exit status {status}: {shlex.join(command)}\n{tail(log_path)}")


def tail(log_path: Path, lines: int = 20) -> str:
    """Return the last lines of a log, and where the rest is."""
    last = log_path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([*(f"    {line}" for line in last), f"All of it: {relative(log_path)}"])
