"""What a person must hear about."""

from __future__ import annotations


class Trouble(Exception):
    """Something did not come about.

    :param cause: what, and on what.
    :param next_command: what to type next, if anything helps.
    """

    def __init__(self, cause: str, next_command: str = "") -> None:
        """Keep both for whoever prints them."""
        super().__init__(cause)
        self.next_command = next_command
