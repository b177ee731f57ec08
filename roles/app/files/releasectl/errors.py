"""The ways a command ends badly, each with the exit code other programs rely on."""

from __future__ import annotations


class ReleasectlError(Exception):
    """Say what went wrong, what shows it, and what to type next."""

    exit_code = 2
    result = "failed"

    def __init__(self, cause: str, *, next_command: str = "", evidence: dict | None = None) -> None:
        """Keep what there is to tell.

        :param cause: one sentence for a person.
        :param next_command: the next command to type, empty when there is none.
        :param evidence: what was seen: `health` (the last answer), `journal` (the unit's last lines).
        """
        super().__init__(cause)
        self.cause = cause
        self.next_command = next_command
        self.evidence = evidence or {}


class Failed(ReleasectlError):
    """The command failed; what served before still serves."""


class SwitchedBack(ReleasectlError):
    """Traffic had moved to the new release and was moved back."""

    exit_code = 3
    result = "switched back"


class Locked(ReleasectlError):
    """Somebody else is changing this app on this host."""

    exit_code = 4
    result = "locked"


class Refused(ReleasectlError):
    """The request was refused before anything was touched."""

    exit_code = 5
    result = "refused"


class Interrupted(BaseException):
    """A signal asked the program to stop.

    Not an `Exception`, so that no handler for ordinary errors takes it for one.
    """
