"""Say what happens: words for a person, or one JSON object for a program."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TextIO

from releasectl import clock
from releasectl.errors import ReleasectlError


@dataclasses.dataclass
class Result:
    """What a command came to.

    :param result: one or two words: `activated`, `already active`.
    :param changed: whether anything on the host is different now.
    :param words: what a person reads, one line or several.
    :param data: what a program reads besides.
    """

    result: str
    changed: bool
    words: str = ""
    data: dict = dataclasses.field(default_factory=dict)


class Output:
    """Write progress and the end of a command."""

    def __init__(self, as_json: bool) -> None:
        """Choose the form: with `as_json` progress goes to stderr and one JSON object to stdout."""
        self.as_json = as_json

    def progress(self, text: str) -> None:
        """Write one line with its time, as it happens."""
        _write(sys.stderr if self.as_json else sys.stdout, f"{clock.now()[11:]}  {text}\n")

    def finish(self, result: Result, about: dict) -> None:
        """Write how a command ended.

        :param about: what every command's JSON holds: app, command, …
        """
        if self.as_json:
            told = {"changed": result.changed, "result": result.result, "error": None}
            _write_json({**about, **told, **result.data})
        elif result.words:
            _write(sys.stdout, f"{result.words}\n")

    def fail(self, error: ReleasectlError, about: dict) -> None:
        """Write why a command failed, what shows it, and what to type next."""
        if self.as_json:
            told = {"cause": error.cause, "next": error.next_command, **error.evidence}
            # After a failure something may well have been touched and put back: count it as a change
            # everywhere but where it was refused.
            changed = error.exit_code in (2, 3)
            _write_json({**about, "changed": changed, "result": error.result, "error": told})
        else:
            _write(sys.stderr, failure_words(error))


def failure_words(error: ReleasectlError) -> str:
    """Return an error as a person reads it."""
    lines = [f"{error.result}: {error.cause}"]
    if error.evidence.get("health"):
        lines.append(f"  last health answer: {error.evidence['health']}")
    if error.evidence.get("journal"):
        lines.append("  last lines of the unit's journal:")
        lines += [f"    {line}" for line in error.evidence["journal"]]
    lines += [f"  note: {remark}" for remark in error.evidence.get("remarks", [])]
    if error.next_command:
        lines.append(f"  next: {error.next_command}")
    return "\n".join(lines) + "\n"


def size(count: float) -> str:
    """Return a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _write_json(value: dict) -> None:
    _write(sys.stdout, json.dumps(value, indent=2) + "\n")


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        # The reader is gone (a closed terminal, a lost connection): the work matters more than the words.
        pass
