"""What every command is handed: one app on this host."""

from __future__ import annotations

import dataclasses

from releasectl import units
from releasectl.clock import Phases
from releasectl.config import Settings
from releasectl.errors import Refused
from releasectl.layout import Layout
from releasectl.output import Output
from releasectl.signals import Signals


@dataclasses.dataclass
class Host:
    """One app on this host, and how to talk while changing it.

    :param by: the person who does it.
    :param lock: the descriptor of the held lock; -1 in commands that only read.
    :param phases: where the time of this command goes.
    """

    settings: Settings
    layout: Layout
    out: Output
    signals: Signals
    by: str = ""
    lock: int = -1
    phases: Phases = dataclasses.field(default_factory=Phases)

    def service(self, release_id: str) -> str:
        """Return the service unit of a release."""
        return units.service(self.settings.app, release_id)

    def companion(self, kind: str, release_id: str) -> str:
        """Return the unit of a release that is its worker, its beat or its Flower."""
        return units.service(self.settings.app, release_id, kind)

    def socket(self, release_id: str) -> str:
        """Return the socket unit of a release."""
        return units.socket(self.settings.app, release_id)

    def command(self, words: str) -> str:
        """Return a command to type as this app's administrator."""
        return f"sudo releasectl --app {self.settings.app} {words}"

    def require_staged(self, release_id: str) -> None:
        """See that a release is on this host.

        :raises Refused: listing those that are.
        """
        staged = self.layout.staged()
        if release_id not in staged:
            there = ", ".join(staged) or "none"
            raise Refused(f"{release_id} is not staged on this host (staged: {there})")
