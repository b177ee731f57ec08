"""Releases come and go on three hosts under steady requests, some of them broken: no visitor is told."""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from changes import FACTORY, IMPORT, crash_after
from fleet_load import DOWNLOAD_VIEW, HOOKS, MOSTLY_DONE, SENT, THREADS, FleetLoad
from observing import actives, same, settled, statuses, units_left
from testbed import durations
from testbed.plays import Play

# A quarter of an hour; one host has each of these in files of its own.
pytestmark = pytest.mark.long
CHECKS = "checks=[checks.sqlalchemy(db)]"
NEVER_READY = "checks=[checks.sqlalchemy(db), flask_ops.health.Check('planted', lambda: 1 / 0)]"
RETURN = "    return app\n"
# Some twenty seconds after it is ready: hosts that share few cores take up to ten to get there.
CRASH = crash_after(30)
SLOW_SECONDS = 8
REVISION = "src/inbox/migrations/versions/20991231_planted.py"
FAILING_REVISION = '''"""Fail."""

from alembic import op

revision = "planted"
down_revision = "c41d2e8a7f06"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1 / 0")
'''
BAKE_SECONDS = 40
# What a process that is killed was just answering, nobody can answer: all that this load ever has under way
# on one host.
CUT_BY_A_CRASH = THREADS + len(("download", "upload"))
# Good deploys, rounds that end with a rollback, requests a second. Two cores, of all hosts and the controller
# together, carry some 40 a second beside deploys, and send these 100 late.
GOOD_DEPLOYS, ROUNDS, RATE = 20, 5, 100
LIMIT_SECONDS = 7200
# Everything a deploy may leave something in. Sizes and times are left out: logs, books and metrics grow. So
# is what systemd prepares for the next release.
TRACES = r"""
find /srv /etc /run/{app} -path '*/.????????????.next*' -prune -o -printf '%p %y %m %U:%G %l\n' || true
systemctl list-units --plain --no-legend '{app}-*' | awk '!/-aside/ {{ print $1, $3 }}'
ss --no-header --listening --numeric --tcp --udp --unix | awk '{{ print $1, $5 }}'
"""


@dataclass(frozen=True)
class Kind:
    """What is wrong with a release, and how its deploy is to end.

    :param changes: what to replace in the app's factory, by what is there.
    :param adds: files, by their paths.
    :param ends: the verdict on the screen; empty for one that is to be served.
    :param causes: what else stands there.
    """

    changes: dict[str, str] = field(default_factory=dict)
    adds: dict[str, str] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    ends: str = ""
    causes: tuple[str, ...] = ()


GOOD = Kind()
FAILED = "failed; the old release serves (releasectl exit 2)"
BAKED = "cannot stay up"
SLOW = "starts slowly"
BROKEN = {
    "cannot import": Kind(
        {IMPORT: f"{IMPORT}import planted_and_missing\n"},
        ends=FAILED,
        causes=("ModuleNotFoundError: No module named 'planted_and_missing'",),
    ),
    "is never ready": Kind(
        {CHECKS: NEVER_READY},
        ends=FAILED,
        causes=("was not ready within 60 s", "last health answer: 503", '"id": "planted", "state": "failed"'),
    ),
    BAKED: Kind(
        {IMPORT: IMPORT + CRASH},
        extra={"app_bake_seconds": BAKE_SECONDS},
        ends="failed after the switch; traffic is back on the old release (releasectl exit 3)",
        causes=("crashed ",),
    ),
    "cannot migrate": Kind(
        adds={REVISION: FAILING_REVISION}, ends=FAILED, causes=("division by zero", "-migrate@")
    ),
}
# Not broken: nobody may take it for that.
LATE = {SLOW: Kind({IMPORT: f"{IMPORT}import time\ntime.sleep({SLOW_SECONDS})\n"})}


@dataclass
class Step:
    """One deploy or rollback, with what was there before and after it.

    :param traces: of each host, what appeared and what vanished meanwhile.
    """

    name: str
    play: Play
    began: float
    ended: float
    before: str
    after: str
    staged: set[str]
    traces: list[SimpleNamespace]


class Row:
    """Steps one after the other under one load."""

    def __init__(self, fleet, copied_app, rate):
        self.fleet, self.copied_app, self.rate, self.steps = fleet, copied_app, rate, []
        self.load = FleetLoad(fleet, rate=rate, limit_seconds=LIMIT_SECONDS)

    def source(self, kind):
        """Return a release's source that nobody has deployed yet."""
        folder = self.copied_app(FACTORY, RETURN, f"{DOWNLOAD_VIEW}    # {secrets.token_hex(6)}\n{RETURN}")
        replace(folder / HOOKS, SENT, MOSTLY_DONE)
        for old, new in kind.changes.items():
            replace(folder / FACTORY, old, new)
        for path, content in kind.adds.items():
            (folder / path).write_text(content)
        return str(folder)

    def deploy(self, name, kind):
        extra = {"app_source": self.source(kind), **kind.extra}
        return self.step(name, lambda: self.fleet.play("deploy", label=name, extra=extra), kind.ends != "")

    def roll_back(self, name):
        return self.step(name, lambda: self.fleet.play("rollback", label=name), False)

    def step(self, name, act, is_traced):
        self.load.sign_in()
        there, before = staged(self.fleet), same(actives(self.fleet))
        traces = traces_of(self.fleet) if is_traced else []
        began = time.monotonic()
        play = act()
        ended = time.monotonic()
        left = differences(traces, traces_of(self.fleet)) if is_traced else []
        new = staged(self.fleet) - there
        self.steps.append(Step(name, play, began, ended, before, same(actives(self.fleet)), new, left))
        self.fleet.say(f"{name}: {spread(self.during(self.steps[-1]))}")
        durations.record(f"{name} on three hosts, under load", play.seconds)

    def during(self, step):
        """Return the requests that were sent while a step was under way."""
        return [record for record in self.load.steady if step.began <= record.due < step.ended]

    def named(self, name):
        return [step for step in self.steps if step.name == name]

    def only(self, name):
        """Return the one step of that name."""
        return same(self.named(name))


def replace(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def staged(fleet):
    return {entry["id"] for status in statuses(fleet) for entry in status["releases"]}


def traces_of(fleet):
    """Return what is there on each host once nothing that was left is still on its way out."""

    def look(site):
        # A Flower that was left may take until its time limit.
        units_left(site, seconds=150)
        return set(site.sudo(TRACES.format(app=site.app), timeout_seconds=120).splitlines())

    with ThreadPoolExecutor() as pool:
        return list(pool.map(look, fleet.apps))


def differences(before, after):
    pairs = zip(before, after, strict=True)
    return [SimpleNamespace(new=sorted(now - then), gone=sorted(then - now)) for then, now in pairs]


def spread(records):
    """Return how long answers took, in words."""
    seconds = sorted(record.seconds for record in records)
    shares = {
        share: seconds[min(len(seconds) - 1, int(share * len(seconds)))] for share in (0.5, 0.99, 0.999)
    }
    told = ", ".join(f"p{100 * share:g} {1000 * value:.0f} ms" for share, value in shares.items())
    wrong = sum(1 for record in records if record.wrong)
    return f"{len(seconds)} requests, {wrong} failed; {told}, slowest {1000 * seconds[-1]:.0f} ms"


@pytest.fixture(scope="module")
def row(fleet, copied_app):
    """Deploy, roll back and deploy what is broken, all under one load; return what was seen."""
    row = Row(fleet, copied_app, RATE)
    fleet.play(
        "deploy", label="deploy of what takes long to download", extra={"app_source": row.source(GOOD)}
    ).ok()
    others = list({**BROKEN, **LATE}.items())
    with row.load:
        for number in range(ROUNDS):
            for _ in range(GOOD_DEPLOYS // ROUNDS):
                row.deploy("good deploy", GOOD)
            row.roll_back("rollback")
            for name, kind in others[number::ROUNDS]:
                row.deploy(name, kind)
    row.stored, row.logged = row.load.stored(), row.load.logged()
    fleet.say(f"the whole row: {spread(row.load.steady)}; {len(row.stored)} webhooks stored")
    return row


def lost(row):
    """Return the requests that failed: those cut by the crash of a release that served, and the others."""
    wrong = [record for record in row.load.records if record.wrong]
    first = row.fleet.apps[0].web.https_port
    crashes = row.named(BAKED)

    def is_cut(record):
        ended = record.due + record.seconds
        return record.port == first and any(step.began < ended < step.ended for step in crashes)

    return [record for record in wrong if is_cut(record)], [record for record in wrong if not is_cut(record)]


def test_load_was_what_it_should_be(row):
    steps = row.steps
    asked = [record for step in steps for record in row.during(step)]
    seconds = sum(step.ended - step.began for step in steps)
    assert len(asked) > 0.8 * row.rate * seconds, spread(asked)
    kinds = Counter((record.method, record.is_kept) for record in asked)
    assert len(kinds) == 4, kinds
    assert min(kinds.values()) > 0.2 * len(asked), kinds


@pytest.mark.parametrize("kind", ["downloads", "uploads"])
def test_long_transfer_was_always_under_way(row, kind):
    records = getattr(row.load, kind).records
    for step in row.steps:
        shared = [
            min(step.ended, record.due + record.seconds) - max(step.began, record.due) for record in records
        ]
        assert sum(filter(lambda seconds: seconds > 0, shared)) > 0.95 * (step.ended - step.began), step.name


def test_good_releases_and_rollbacks_take_every_host_along(row):
    for step in row.named("good deploy"):
        step.play.ok()
        assert {step.after} == step.staged
    for step in row.named("rollback"):
        step.play.ok()
        assert step.after == row.steps[row.steps.index(step) - 1].before


def test_no_request_fails(row):
    cut, others = lost(row)
    assert [str(record) for record in others] == []
    assert len(cut) <= CUT_BY_A_CRASH * len(row.named(BAKED)), [str(record) for record in cut]


def test_every_webhook_is_stored_once(row):
    sent = Counter(record.posts for record in row.load.records if record.posts)
    acknowledged = {record.posts for record in row.load.records if record.posts and not record.wrong}
    stored = [delivery_id for delivery_id, _ in row.stored]
    assert max(sent.values()) == 1
    assert len(set(stored)) == len({digest for _, digest in row.stored}) == len(stored)
    assert acknowledged - set(stored) == set()
    # Whether one that was cut is stored, its sender cannot know, and sends it again.
    assert set(stored) - acknowledged <= {record.posts for record in lost(row)[0]}


def test_hosts_logs_know_every_request_once(row):
    # One whose answer was cut does not know its id.
    asked = {record.request_id: record.status for record in row.load.records if record.request_id}
    assert Counter(request_id for request_id, _, _ in row.logged) == Counter(asked.keys())
    assert {request_id: status for request_id, status, _ in row.logged} == asked


def test_no_release_answers_that_was_not_to_serve(row):
    served = {step.before for step in row.steps} | {step.after for step in row.steps}
    tried = {release for step in row.named(BAKED) for release in step.staged}
    assert {release for _, _, release in row.logged} - {"nobody"} == served | tried
    unanswered = sum(1 for _, _, release in row.logged if release == "nobody")
    assert unanswered <= len(lost(row)[0])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_release_fails_the_play_with_its_cause(row, name):
    step = row.only(name)
    assert step.play.returncode == 2, step.play.tail()
    for words in (BROKEN[name].ends, *BROKEN[name].causes):
        assert words in step.play.words, step.play.tail()
    assert step.after == step.before


@pytest.mark.parametrize("name", BROKEN)
def test_broken_release_leaves_nothing_but_itself_behind(row, name):
    """The release stays staged, to be looked at, until later ones push it out.

    Its metrics stay until the next command, if its worker was still on its way out; then those of a
    release that was left before are removed too.
    """
    step = row.only(name)
    (release,) = step.staged
    counted = re.compile(rf"/run/{row.fleet.app}/(?!{step.before})\d{{8}}T\d{{6}}Z-[0-9a-f]{{7}}[ /]")
    kept = re.compile(rf"/(srv/{row.fleet.app}/releases|run/{row.fleet.app})/{release}[ /]")
    for host in step.traces:
        assert [line for line in host.new if not kept.match(line)] == []
        assert [line for line in host.gone if not counted.match(line)] == []


def test_release_that_starts_slowly_is_waited_for(row):
    step = row.only(SLOW)
    step.play.ok()
    starts = [float(found) for found in re.findall(r"\bstart (\d+\.\d)", step.play.words)]
    assert len(starts) == len(row.fleet.apps)
    assert min(starts) > SLOW_SECONDS
    assert [str(record) for record in row.during(step) if record.wrong] == []


def test_nothing_is_left_at_the_end(row):
    assert settled(row.fleet) == row.steps[-1].after
    told = statuses(row.fleet)
    assert [status["problems"] for status in told] == [[]] * len(told)
    for site, status in zip(row.fleet.apps, told, strict=True):
        folders = site.sudo(f"cd /run/{site.app} && ls -d [0-9]*T*Z-*/").split()
        assert {folder.rstrip("/") for folder in folders} <= {status["active"], status["previous"]}
