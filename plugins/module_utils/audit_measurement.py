"""What every part of an audit says, and how it asks the host. Nothing here changes anything."""

from __future__ import annotations

import subprocess

# A host that is busy, or has many files, takes its time; one that hangs must not hold the audit up.
SECONDS = 120


class Unknown(Exception):
    """Nobody can tell; the message says why."""


def measurement(
    name: str, title: str, expected: str, found: str, *, passed: bool | None, cure: str = ""
) -> dict:
    """Return one measurement; `cure` is the next command to type where it did not pass."""
    state = {True: "passed", False: "failed", None: "unknown"}[passed]
    return {
        "id": name,
        "title": title,
        "expected": expected,
        "found": found,
        "state": state,
        "cure": "" if passed else cure,
    }


def unknown(name: str, title: str, why: str) -> dict:
    """Return a measurement that could not be made."""
    return {**measurement(name, title, "", "", passed=None), "reason": why}


def ask(*command: str, seconds: float = SECONDS) -> str:
    """Return what a program prints.

    Raises Unknown when it is not there, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise Unknown(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unknown(f"{command[0]} gave no answer within {seconds:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
        raise Unknown(f"`{' '.join(command[:3])}` failed: {said}")
    return done.stdout


def listed(found: list[str], none: str = "none") -> str:
    """Return a list for a person: not more of it than fits a report."""
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return ", ".join(found[:20]) + more if found else none
