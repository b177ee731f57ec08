"""Deploy in turn by each kind, many times over, and keep what each run cost and lost."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import PROJECT_DIR
from .hosts import Hosts, running
from .kinds import Change, Classic, Kind, Ours, archives, change
from .runs import Run, Runner

# The load generator of the scenarios, which imports what lies beside it.
sys.path.append(str(PROJECT_DIR / "tests/scenario"))

DEPLOY, AGAIN, ROLL_BACK, ON_HOST = "deploy", "deploy of what runs", "rollback", "releasectl rollback"
#: The same where the release before was kept warm, and until visitors have that one again.
WARM = "warm: {}"
VISITORS = "{}, served"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    :param hosts: how many are deployed to at once.
    :param debian: their release.
    :param rounds: how often each action is measured without a load.
    :param loaded: how often a deploy is measured under one.
    :param rate: its requests a second, on each kind's app of the first host.
    """

    hosts: int
    debian: int
    rounds: int
    loaded: int
    rate: float


@dataclass(frozen=True, slots=True)
class Loss:
    """What visitors lost during a deploy.

    :param asked: requests that were sent, and lasted from before the deploy to after it.
    :param lost: those without a right answer.
    :param missing: webhooks that were acknowledged and are not stored, or twice.
    """

    seconds: float
    asked: int
    lost: int
    missing: int


class Bench:
    """The hosts, and what was measured on them."""

    def __init__(self, plan: Plan, folder: Path, *, keep: bool = False) -> None:
        """Keep what is to be measured.

        :param folder: for changes and counts.
        :param keep: leave the hosts up.
        """
        self.plan, self.folder, self.keep = plan, folder, keep
        self.declaration = Hosts("site", plan.debian, plan.hosts)
        self.runner = Runner(folder / "runner")
        self.runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        self.losses: dict[str, list[Loss]] = defaultdict(list)
        self.on_host: dict[str, list[float]] = defaultdict(list)
        self.profile: dict[str, Any] = {}
        self.versions: dict[str, str] = {}

    def run(self, *, profile: bool = False) -> None:
        """Measure; the results are in the attributes.

        :param profile: look into one deploy of this project's too.
        """
        with running(self.declaration, keep=self.keep) as site:
            ours = Ours(site, self.declaration, self.runner)
            self.versions = host_versions(ours)
            # The first deploy of a kind finds caches cold, and nothing to go back to.
            ours.deploy(change(self.folder))
            _say("preparing the play in Ansistrano's steps …")
            classic = Classic(site, self.declaration, self.runner, archives(ours, self.folder))
            classic.deploy(change(self.folder))
            kinds: list[Kind] = [ours, classic]
            for number in range(self.plan.rounds):
                self._round(ours, kinds if number % 2 == 0 else kinds[::-1])
                _say(f"round {number + 1} of {self.plan.rounds} done")
            for number in range(self.plan.loaded):
                for kind in kinds if number % 2 == 0 else kinds[::-1]:
                    self.losses[kind.title].append(self._under_load(kind, change(self.folder)))
                _say(f"round {number + 1} of {self.plan.loaded} under load done")
            ours.keep_warm()
            for number in range(self.plan.rounds):
                self._warm_round(ours)
                _say(f"round {number + 1} of {self.plan.rounds} with a warm release done")
            if profile:
                from .profile import look_into

                self.profile = look_into(ours, lambda: change(self.folder))

    def _round(self, ours: Ours, kinds: list[Kind]) -> None:
        changed = change(self.folder)
        for kind in kinds:
            self._keep(kind, DEPLOY, kind.deploy(changed))
        self._keep(ours, AGAIN, ours.deploy_again())
        newest = ours.active()
        for kind in kinds:
            self._keep(kind, ROLL_BACK, kind.roll_back())
        ours.return_to(changed, newest)
        self._keep_on_host(ours, ON_HOST)

    def _warm_round(self, ours: Ours) -> None:
        self._keep(ours, WARM.format(DEPLOY), ours.deploy(change(self.folder)))
        self._keep(ours, WARM.format(ROLL_BACK), ours.roll_back())
        # What was gone back to leaves no warm release behind it.
        ours.deploy(change(self.folder))
        self._keep_on_host(ours, WARM.format(ON_HOST))

    def _keep_on_host(self, ours: Ours, action: str) -> None:
        served, ended = ours.roll_back_on_host()
        self.on_host[VISITORS.format(action)].append(served)
        self.on_host[action].append(ended)

    def _keep(self, kind: Kind, action: str, run: Run) -> None:
        self.runs[kind.title, action].append(run)

    def _under_load(self, kind: Kind, changed: Change) -> Loss:
        from load import Load

        with Load(kind.apps[0], rate=self.plan.rate) as load:
            run = kind.deploy(changed)
        stored, different = load.stored()
        missing = max(len(load.posted) - different, 0) + stored - different
        return Loss(run.seconds, load.count + len(load.failures), len(load.failures), missing)


def host_versions(ours: Ours) -> dict[str, str]:
    """Return the versions of what the hosts deploy with."""
    command = "sh -c 'cat /etc/debian_version; systemctl --version | head -1; nginx -v 2>&1'"
    debian, systemd, nginx = ours.apps[0].sudo(command).splitlines()
    return {"debian": debian, "systemd": systemd.split()[1], "nginx": nginx.split("/")[-1]}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
