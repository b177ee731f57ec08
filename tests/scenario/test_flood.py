"""An app writes 30,000 lines in ten seconds: what is lost is told, no error is, and visitors are answered."""

from __future__ import annotations

import json
import re
import secrets
import time
from dataclasses import dataclass

import pytest
from bench.spread import percentile
from changes import FACTORY
from load import Load
from observing import status_of
from testbed import watching
from testbed.sites import Site, until

pytestmark = pytest.mark.long

LINES, SECONDS, BATCHES = 30_000, 10, 100
# One line in so many is an error.
ERRORS_EVERY = 1000
LAST_ERROR = LINES - 1
RATE = 30
LAST_LINE = "    flask_ops.init_app(app, checks=[checks.sqlalchemy(db)])\n"
FLOOD = f"""
    @app.get("/flood/<word>/<int:lines>")
    def flood(word, lines):
        import gevent

        def write():
            for number in range(lines):
                say = app.logger.error if number % {ERRORS_EVERY} == {ERRORS_EVERY - 1} else app.logger.info
                say("flood", extra={{"word": word, "number": number}})
                if number % 20 == 0:
                    gevent.sleep(0 if number % {LINES // BATCHES} else {SECONDS / BATCHES} * 0.9)
        gevent.spawn(write)
        return "begun", 202

"""
SETTINGS = "/run/systemd/journald.conf.d/99-flood-by-tests.conf"
# journald takes two to five times as many where disk is free.
FEW, INTERVAL_SECONDS = 1000, 15
LIMITED = f"[Journal]\nRateLimitIntervalSec={INTERVAL_SECONDS}s\nRateLimitBurst={FEW}\n"
# How many times as long as without a flood the slowest requests may take: on two cores the flood has one of
# them, and the load comes from this very machine. It says whether visitors wait for the journal, no more.
MOST_TIMES = 30
PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Flood:
    """What became of one flood.

    :param seconds: how long it took to write.
    :param kept: lines of it the journal has, by level.
    :param told: lines of the web unit that were dropped meanwhile, as the metric has it, and releasectl.
    :param p99: within how many seconds 99 of 100 requests were answered meanwhile.
    :param failures: what went wrong with requests.
    """

    word: str
    seconds: float
    kept: dict[str, int]
    told: tuple[int, int]
    p99: float
    failures: list[str]

    @property
    def words(self) -> str:
        """All of it, for a person."""
        return (
            f"{LINES} lines in {self.seconds:.0f} s: kept {self.kept}, dropped {self.told[0]}, "
            f"p99 {1000 * self.p99:.0f} ms"
        )


def dropped(site: Site) -> int:
    """Return what node exporter tells of the web unit, counted up to now."""
    site.sudo("log-counts")
    told = site.sudo("curl -sS http://127.0.0.1:9100/metrics")
    form = rf'^journal_dropped_messages_total{{unit="{site.app}-web@.service"}} (\S+)$'
    return int(float(([*re.findall(form, told, re.MULTILINE), "0"])[0]))


def told_by_releasectl(site: Site, since: str) -> int:
    """Return what `releasectl logs` says was dropped of the web unit since then."""
    told = json.loads(site.sudo(f"releasectl --app {site.app} --json logs --since {since} --lines 1"))
    form = rf"(\d+) messages of {site.app}-web@\S+\.service: the journal dropped them"
    return sum(int(found[1]) for one in told["unread"] if (found := re.fullmatch(form, one)))


def kept(site: Site, word: str) -> dict[str, int]:
    """Return how many lines of a flood the journal has, by level."""
    site.sudo("journalctl --sync")
    lines = f"journalctl -t {site.app}-web --since=-10min -o cat | grep -F {word}"
    lines += ' | grep -F \'"event": "flood"\''
    levels = site.sudo(f'{lines} | grep -oE \'"level": "[a-z]+"\' | sort | uniq -c || true')
    return {line.split('"')[3]: int(line.split()[0]) for line in levels.splitlines()}


def is_over(site: Site, word: str) -> bool:
    """Whether a flood's last error, which no limit keeps back, is in the journal."""
    lines = f"journalctl -t {site.app}-web --since=-10min -p err -o cat | grep -F {word}"
    return bool(site.sudo(f"{lines} | grep -E '\"number\": {LAST_ERROR}\\b' || true"))


def pour(site: Site) -> Flood:
    """Have the app write a flood under load, and wait until journald has said what it dropped of it."""
    word, before = secrets.token_hex(8), dropped(site)
    since = site.sudo("date --utc +%Y-%m-%dT%H:%M:%SZ").strip()
    with Load(site, rate=RATE) as load:
        began = time.monotonic()
        assert site.web.get(f"/flood/{word}/{LINES}").status == 202
        assert until(PATIENCE_SECONDS, lambda: is_over(site, word), 1), "the flood does not end"
        seconds = time.monotonic() - began
    times = [record.seconds for record in load.records if began <= record.due <= began + seconds]
    # It says so with the next message of that kind that it takes.
    time.sleep(INTERVAL_SECONDS + 1)
    assert site.web.get("/flood/after/1").status == 202
    time.sleep(1)
    told = dropped(site) - before, told_by_releasectl(site, since)
    return Flood(word, seconds, kept(site, word), told, percentile(times, 0.99), load.failures)


@pytest.fixture(scope="module")
def quiet(watched, copied_app):
    """Deploy an app that can flood; return within what time requests are answered while it does not."""
    before = status_of(watched)["active"]
    source = copied_app(FACTORY, LAST_LINE, FLOOD + LAST_LINE)
    watched.play("deploy", extra={"app_source": str(source)}, label="deploy of an app that floods").ok()
    # What the deploy itself costs is over by then.
    time.sleep(SECONDS)
    with Load(watched, rate=RATE) as load:
        time.sleep(SECONDS)
    assert load.failures == [], load.words
    watched.say(f"{watched.name} no flood: {load.words}")
    yield percentile([record.seconds for record in load.records], 0.99)
    watched.sudo(f"releasectl --app {watched.app} activate {before}", timeout_seconds=150)


@pytest.fixture(scope="module")
def flooded(watched, quiet):
    """Flood the journal as it is set up, then one that takes far less; return what became of each."""
    found = {"as set up": pour(watched)}
    restart = "systemctl restart systemd-journald.service"
    watched.sudo(f"mkdir -p $(dirname {SETTINGS}) && cat > {SETTINGS} && {restart}", stdin=LIMITED.encode())
    try:
        found["limited"] = pour(watched)
    finally:
        watched.sudo(f"rm {SETTINGS} && {restart}")
    for name, flood in found.items():
        watched.say(f"{watched.name} {name}: {flood.words}; without a flood {1000 * quiet:.0f} ms")
    yield found
    # Whoever watches this host next is not told of it.
    watched.sudo("""sed -i 's/"last": [0-9.]*/"last": 0/g' /var/lib/log-counts/state.json && log-counts""")


def test_journal_as_it_is_set_up_keeps_every_line(flooded):
    flood = flooded["as set up"]
    errors = LINES // ERRORS_EVERY
    assert flood.kept == {"info": LINES - errors, "error": errors}, flood.words
    assert flood.told == (0, 0), flood.words


def test_what_a_smaller_limit_drops_is_counted_and_shown(watched, flooded):
    flood = flooded["limited"]
    errors = LINES // ERRORS_EVERY
    assert flood.kept["info"] < LINES // 2, flood.words
    # With lines of requests among them, which the load makes few of.
    lost = LINES - errors - flood.kept["info"]
    assert lost <= flood.told[0] <= lost + LINES // 10, flood.words
    assert flood.told[1] == flood.told[0], flood.told
    alert = f'ALERTS{{alertname="JournalDropsLines", alertstate="firing", unit="{watched.app}-web@.service"}}'
    assert until(PATIENCE_SECONDS, lambda: watching.query(watched, alert), 3)


@pytest.mark.parametrize("name", ["as set up", "limited"])
def test_no_error_is_lost_in_a_flood(watched, flooded, name):
    flood = flooded[name]
    assert flood.kept["error"] == LINES // ERRORS_EVERY, flood.words
    asked = f"--level error --grep {flood.word} --since 15m --lines 9999"
    told = json.loads(watched.sudo(f"releasectl --app {watched.app} --json logs {asked}"))
    assert len([one for one in told["lines"] if one["level"] == "error"]) == LINES // ERRORS_EVERY


@pytest.mark.parametrize("name", ["as set up", "limited"])
def test_visitors_are_answered_in_a_flood(flooded, quiet, name):
    flood = flooded[name]
    assert flood.failures == [], flood.words
    assert flood.p99 < MOST_TIMES * max(quiet, 0.02), f"{flood.words}; without a flood {1000 * quiet:.0f} ms"
