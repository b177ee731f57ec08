"""The two ways to deploy that are measured, each with an app of its own on the same hosts."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import shutil
import tarfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.sites import Site, until

from .. import PROJECT_DIR
from .hosts import App, Hosts, apps, disconnect
from .runs import Run, Runner

PLAYS_DIR = Path(__file__).with_name("classic")
PLAYBOOKS_DIR = PROJECT_DIR / "playbooks"
APP_DIR = PROJECT_DIR / "app_skeleton/inbox"
BUILD_DIR = PROJECT_DIR / ".cache/build"
PAGE = "src/inbox/templates/auth/sign_in.html"
HEADING = "<h1>Sign in</h1>"
CLASSIC = "classic"
# How long a play that gates on nothing may take to serve what it deployed.
SEEN_SECONDS = 60
WARM_SECONDS = 3600
# Between two runs. Nobody deploys in the very second a deploy ends: the worker that was left takes two to go,
# and files that are needed no more are removed aside.
REST_SECONDS = 6


@dataclass(frozen=True)
class Change:
    """A copy of the sample app with one line changed, as no release had it before."""

    source: Path
    words: str


def change(folder: Path) -> Change:
    """Copy the sample app into a folder and change one line of its page for signing in."""
    words = f"Sign in {secrets.token_hex(6)}"
    source = folder / words.split()[-1] / "inbox"
    unwanted = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "build", "tests")
    shutil.copytree(APP_DIR, source, ignore=unwanted)
    page = source / PAGE
    text = page.read_text()
    if text.count(HEADING) != 1:
        raise RuntimeError(f"{PAGE} holds {HEADING!r} {text.count(HEADING)} times, and once is wanted")
    page.write_text(text.replace(HEADING, f"<h1>{words}</h1>"))
    return Change(source, words)


class Kind(ABC):
    """One way to deploy.

    :param title: for the table.
    :param apps: the app on each host, the first host's first.
    """

    title = ""

    def __init__(
        self, site: Site, declaration: Hosts, runner: Runner, inventory: Path, apps: list[App]
    ) -> None:
        """Keep where and how."""
        self.site, self.declaration, self.runner = site, declaration, runner
        self.inventory, self.apps = inventory, apps
        #: What visitors see, the newest last: where a rollback leads.
        self.shown: list[Change] = []

    def deploy(self, changed: Change) -> Run:
        """Deploy a change, and see that every host serves it.

        :raises RuntimeError: if the play fails, or the change is not served.
        """
        run = self._play(*self.deploying(changed))
        self.see(changed)
        self.shown.append(changed)
        return run

    def roll_back(self) -> Run:
        """Go back to the change before, and see that every host serves it; see :meth:`deploy`."""
        run = self._play(*self.rolling_back())
        self.shown.pop()
        self.see(self.shown[-1])
        return run

    @abstractmethod
    def deploying(self, changed: Change) -> tuple[Path, Mapping[str, Any] | None]:
        """Return the playbook of a deploy and its variables."""

    @abstractmethod
    def rolling_back(self) -> tuple[Path, Mapping[str, Any] | None]:
        """Return the playbook of a rollback and its variables."""

    def see(self, changed: Change) -> None:
        """Wait until every host's page has the change's line.

        :raises RuntimeError: if one has not within :data:`SEEN_SECONDS`.
        """
        for app in self.apps:
            if not until(SEEN_SECONDS, lambda app=app: changed.words in _page(app)):
                raise RuntimeError(f"{self.title}: {app.host} does not serve `{changed.words}`: {_page(app)}")

    def _play(self, playbook: Path, extra: Mapping[str, Any] | None) -> Run:
        disconnect(self.declaration)
        time.sleep(REST_SECONDS)
        return self.runner.play(playbook, self.inventory, extra=extra)


class Ours(Kind):
    """This project's own playbooks."""

    title = "this project"

    def __init__(self, site: Site, declaration: Hosts, runner: Runner) -> None:
        """Take the app that the hosts came with."""
        name = site.vars["app_server_names"][0]
        found = apps(site, declaration, site.app, name, site.ca_path)
        super().__init__(site, declaration, runner, declaration.path, found)

    def deploying(self, changed: Change) -> tuple[Path, Mapping[str, Any] | None]:
        """Return playbooks/deploy.yml with the change as the app's source."""
        return PLAYBOOKS_DIR / "deploy.yml", {"app_source": str(changed.source)}

    def rolling_back(self) -> tuple[Path, Mapping[str, Any] | None]:
        """Return playbooks/rollback.yml, which needs no variable."""
        return PLAYBOOKS_DIR / "rollback.yml", None

    def deploy_again(self) -> Run:
        """Deploy what runs already.

        :raises RuntimeError: if that changes anything.
        """
        before = self.active()
        run = self._play(*self.deploying(self.shown[-1]))
        if before != self.active():
            raise RuntimeError(f"a deploy of what runs changed the release\n{run.output[-2000:]}")
        return run

    def roll_back_on_host(self) -> tuple[float, float]:
        """Roll the first host back by releasectl alone.

        Return the seconds from its start there until visitors had the release before, and to its end.

        All hosts have the change of before afterwards, as after :meth:`roll_back`.
        """
        left = self.shown.pop()
        seconds = [self._releasectl_rollback(app) for app in self.apps]
        self.see(self.shown[-1])
        if left.words in _page(self.apps[0]):
            raise RuntimeError("releasectl rolled back, and the page still has the change")
        return seconds[0]

    def keep_warm(self) -> None:
        """Have each release that is left by a deploy from now on go on without traffic for an hour."""
        extra = {"app_warm_seconds": WARM_SECONDS}
        self.runner.play(PLAYBOOKS_DIR / "site.yml", self.inventory, "--tags", "app", extra=extra)

    def return_to(self, changed: Change, releases: list[str]) -> None:
        """Have every host serve a release again that was left, unmeasured.

        :param releases: its id on each host.
        """
        for app, release in zip(self.apps, releases, strict=True):
            app.sudo(f"releasectl --app {app.app} activate {release}")
        self.see(changed)
        self.shown.append(changed)

    def active(self) -> list[str]:
        """Return the id of the active release of each host."""
        return [self.status(app)["active"] for app in self.apps]

    def status(self, app: App) -> dict[str, Any]:
        """Return what releasectl says of a host's app."""
        return json.loads(app.sudo(f"releasectl --app {app.app} --json status"))

    def _releasectl_rollback(self, app: App) -> tuple[float, float]:
        command = f"releasectl --app {app.app} --json rollback 2>/dev/null"
        timed = f"begin=$(date +%s%N) && {command} && echo $(($(date +%s%N) - begin))"
        answer, _, nanoseconds = app.sudo(f"sh -c '{timed}'").strip().rpartition("\n")
        return json.loads(answer)["served_after_seconds"], int(nanoseconds) / 1e9


class Classic(Kind):
    """A play of the bench's own, in Ansistrano's steps."""

    title = "Ansistrano's steps"

    def __init__(self, site: Site, declaration: Hosts, runner: Runner, archives: tuple[Path, Path]) -> None:
        """Provision an app beside the first one, deployed in its own way from the beginning.

        What it stands on (account, database, settings, nginx's site) comes from the project's roles, its
        releases and units from the bench alone.

        :param archives: the dependencies' archive and flask_ops' wheel, as the project's releases have them.
        """
        ca_dir = site.state_dir / f"{CLASSIC}-ca"
        variables = {
            **declaration.group_vars,
            "app_name": CLASSIC,
            "app_server_names": [f"{CLASSIC}.localhost"],
            "tls_local_ca_dir": str(ca_dir),
        }
        path = declaration.path.with_name(f"{declaration.name}-{CLASSIC}")
        inventory = declaration.write_for(path, variables)
        found = apps(site, declaration, CLASSIC, f"{CLASSIC}.localhost", ca_dir / "ca.crt")
        super().__init__(site, declaration, runner, inventory, found)
        deps, wheel = archives
        prepared = {
            "classic_deps_archive": str(deps),
            "classic_own_wheel": str(wheel),
            "classic_own_wheel_sha256": _sha256(wheel),
        }
        # What both apps share is there already.
        runner.play(PLAYBOOKS_DIR / "site.yml", inventory, "--skip-tags", "base,redis,release")
        runner.play(PLAYS_DIR / "prepare.yml", inventory, extra=prepared)

    def deploying(self, changed: Change) -> tuple[Path, Mapping[str, Any] | None]:
        """Return the bench's own deploy with the change as its source."""
        return PLAYS_DIR / "deploy.yml", {"classic_source": str(changed.source)}

    def rolling_back(self) -> tuple[Path, Mapping[str, Any] | None]:
        """Return the bench's own rollback."""
        return PLAYS_DIR / "rollback.yml", None


def archives(ours: Ours, folder: Path) -> tuple[Path, Path]:
    """Return the dependencies' archive of what runs, and flask_ops' wheel out of the release's.

    :param folder: where the wheel goes.
    """
    status = ours.status(ours.apps[0])
    (deps,) = status["deps"]
    release = BUILD_DIR / f"releases/{ours.apps[0].app}/release-{status['active']}.tar"
    with tarfile.open(release) as archive:
        (member,) = [one for one in archive if re.fullmatch(r"wheels/flask_ops-[^/]+\.whl", one.name)]
        member.name = Path(member.name).name
        archive.extract(member, folder, filter="data")
    return BUILD_DIR / f"deps/deps-{deps}.tar", folder / member.name


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _page(app: App) -> str:
    try:
        return app.web.get("/auth/sign-in").text
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
