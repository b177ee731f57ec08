"""Migrations hurt no reader, contract once nobody needs the old schema; a rollback knows where it may go."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import further_apps
import pytest
from observing import failed_units, status_of
from testbed import durations
from testbed.sites import until

SOURCE = Path(__file__).parent / "migrated"
NAME = "stock"
DECLARATION = f"""
app_name: {NAME}
app_server_names: [{NAME}.localhost]
app_wsgi: app:app
app_migrate_command: flask --app app db upgrade
app_checks: [{{check: sqlalchemy}}]
app_required_secrets: []
"""
REVISION = """
from alembic import op

revision = {name!r}
down_revision = {down!r}
contract = {contract}


def upgrade():
    {does}
"""
# Somebody's report: it reads a row, and keeps its transaction open.
HOLD = "BEGIN; SELECT * FROM stock FOR SHARE; SELECT pg_sleep(400); COMMIT;"
READER_MAY_WAIT_SECONDS = 2
READERS = 2


class Stock:
    """The app on its host, and the source of its next release."""

    def __init__(self, app, source):
        self.app, self.site, self.source = app, app.site, source

    def revision(self, name, down, does, *, contract=False):
        text = REVISION.format(name=name, down=down, does=does, contract=contract)
        (self.source / f"migrations/versions/{name}.py").write_text(text)

    def forget(self, name):
        (self.source / f"migrations/versions/{name}.py").unlink()

    def change(self):
        """Change code alone."""
        with (self.source / "app.py").open("a") as file:
            file.write(f"# {secrets.token_hex(6)}\n")

    def deploy(self, label):
        return self.app.play("deploy", label=f"deploy of {NAME}: {label}")

    def releasectl(self, *words):
        """Run a command of releasectl's; return its exit code and its answer."""
        command = f"releasectl --app {NAME} --json {' '.join(words)}; code=$?; echo; echo $code"
        *answer, code = self.site.sudo(command).strip().splitlines()
        return int(code), json.loads("\n".join(answer))

    def status(self):
        return status_of(self.site, NAME)

    def query(self, sql):
        command = f"psql --no-psqlrc -tA -v ON_ERROR_STOP=1 -d {NAME}"
        return self.site.sudo(command, user=NAME, stdin=sql.encode()).strip()

    def told(self, words, field):
        """Return how often the journal has some words."""
        found = f"journalctl --no-pager --output=cat {field} | grep -c '{words}' || true"
        return int(self.site.sudo(f"journalctl --sync; {found}"))

    def migrations_run(self):
        """Return how often a migrate unit was started."""
        return self.told(f"Starting {NAME}-migrate@", "_PID=1")

    def waits(self):
        """Return how often a migration has waited for a lock in vain."""
        return self.told("the migration waits for a lock", f"-t {NAME}-migrate")

    @contextmanager
    def held(self):
        """Keep a transaction open that a migration of the table must wait for, to the end of the block."""
        unit = f"report-of-{NAME}"
        command = f"systemd-run --quiet --collect --unit={unit} --uid={NAME} --setenv=PGAPPNAME=report"
        self.site.sudo(f'{command} psql --no-psqlrc -d {NAME} -c "{HOLD}"')
        theirs = "FROM pg_stat_activity WHERE application_name = 'report' AND xact_start IS NOT NULL"
        assert until(10, lambda: self.query(f"SELECT count(*) {theirs}") == "1")
        try:
            yield
        finally:
            self.query(f"SELECT pg_terminate_backend(pid) {theirs}")


class Readers:
    """People who read the table through the app, each read timed, and beside them what needs no table."""

    def __init__(self, app):
        self.web, self.seconds, self.without_table, self.wrong = app.web, [], [], []
        self._over = threading.Event()
        pages = [("/", "1 in stock", self.seconds)] * READERS + [("/livez", "", self.without_table)]
        self._threads = [threading.Thread(target=self._read, args=page, daemon=True) for page in pages]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _read(self, page, text, seconds):
        while not self._over.is_set():
            began = time.monotonic()
            answer = self.web.get(page)
            seconds.append(time.monotonic() - began)
            if answer.status != 200 or text not in answer.text:
                self.wrong.append(f"{answer.status} {answer.text[:100]}")
            time.sleep(0.05)


@pytest.fixture(scope="module")
def stock(spare, tmp_path_factory):
    source = tmp_path_factory.mktemp("stock") / NAME
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    app = further_apps.declare(
        spare, DECLARATION, {"app_source": str(source)}, groups=("app_servers", "databases")
    )
    app.provision()
    return Stock(app, source)


@pytest.fixture(scope="module")
def code_alone(stock):
    """Deploy a change of code."""
    before, stock_runs = stock.status(), stock.migrations_run()
    stock.change()
    play = stock.deploy("code alone").ok()
    durations.record(play.title, play.seconds)
    return SimpleNamespace(before=before, after=stock.status(), runs=(stock_runs, stock.migrations_run()))


def test_code_alone_is_deployed_without_starting_a_migration(code_alone):
    assert code_alone.after["active"] != code_alone.before["active"]
    assert code_alone.runs == (1, 1), "the first release's, and no other"


@pytest.fixture(scope="module")
def blocked(stock, code_alone):
    """Deploy an ALTER while a long transaction has its table, then once more when that ends soon."""
    stock.revision("r2", "r1", "op.execute('ALTER TABLE stock ADD COLUMN price int')")
    seen = SimpleNamespace(before=stock.status())
    with Readers(stock.app) as seen.readers:
        with stock.held():
            seen.gave_up = stock.deploy("ALTER behind a long transaction")
            seen.between, seen.failed = stock.status(), failed_units(stock.site)
            seen.heads = stock.query("SELECT version_num FROM alembic_version")
        with ThreadPoolExecutor() as pool:
            with stock.held():
                before = stock.waits()
                deploying = pool.submit(stock.deploy, "ALTER behind a shorter one")
                assert until(60, lambda: stock.waits() > before), "the migration never waited"
            seen.waited = deploying.result()
    seen.after = stock.status()
    longest = max(seen.readers.seconds)
    stock.site.say(f"{NAME}: {len(seen.readers.seconds)} reads, the longest {longest:.2f} s")
    durations.record(f"{NAME} longest read behind a migration", longest)
    return seen


def test_readers_wait_no_longer_than_they_may_behind_a_migration(blocked):
    assert blocked.readers.wrong == []
    assert len(blocked.readers.seconds) > 300
    # What a page that needs no table took at worst is the machine's doing, and no lock's.
    longest = max(blocked.readers.seconds) - max(blocked.readers.without_table)
    assert max(blocked.readers.seconds) > 1, "it waited, and they did behind it"
    assert longest <= READER_MAY_WAIT_SECONDS, (longest, max(blocked.readers.without_table))


def test_migration_that_cannot_have_its_table_gives_up_and_says_who_has_it(blocked):
    assert blocked.gave_up.returncode == 2, blocked.gave_up.tail()
    assert "failed; the old release serves (releasectl exit 2)" in blocked.gave_up.words
    named = rf"gave up on a lock; attempt 5 of 5 waited for pid \d+ \({NAME}, report, active, \d+ s\)"
    assert re.search(named, blocked.gave_up.words), blocked.gave_up.tail()


def test_migration_that_gives_up_leaves_everything_as_it_was(blocked):
    assert blocked.between["active"] == blocked.before["active"]
    assert (blocked.heads, blocked.failed) == ("r1", "")
    assert blocked.between["problems"] == []


def test_migration_succeeds_once_the_table_is_free_and_says_how_often_it_tried(blocked):
    blocked.waited.ok()
    assert blocked.after["active"] != blocked.before["active"]
    assert re.search(rf"attempt \d of 5 waited for pid \d+ \({NAME}, report, ", blocked.waited.words)


@pytest.fixture(scope="module")
def broken(stock, blocked):
    """Deploy a migration that fails."""
    before = stock.status()
    stock.revision("r9", "r2", "op.execute('SELECT 1 / 0')")
    play = stock.deploy("a migration that fails")
    stock.forget("r9")
    return SimpleNamespace(play=play, before=before, after=stock.status(), failed=failed_units(stock.site))


def test_migration_that_fails_moves_no_traffic_and_leaves_no_failed_unit(broken):
    assert broken.play.returncode == 2, broken.play.tail()
    assert "failed; the old release serves (releasectl exit 2)" in broken.play.words
    assert "division by zero" in broken.play.words
    assert broken.after["active"] == broken.before["active"]
    assert (broken.failed, broken.after["problems"]) == ("", [])


@pytest.fixture(scope="module")
def contracted(stock, broken):
    """Bring a revision that contracts, see it refused, deploy once more, and apply it."""
    seen = SimpleNamespace(releases=[stock.status()["active"]])
    stock.revision("r3", "r2", "op.execute('ALTER TABLE stock DROP COLUMN price')", contract=True)
    seen.brought = stock.deploy("a revision that contracts").ok()
    seen.pending = stock.status()
    seen.releases.append(seen.pending["active"])
    seen.too_soon = stock.app.play("contract", label=f"contract of {NAME}, too soon")
    seen.heads = [stock.query("SELECT version_num FROM alembic_version")]
    stock.change()
    stock.deploy("code alone, after it").ok()
    seen.releases.append(stock.status()["active"])
    seen.applied = stock.app.play("contract", label=f"contract of {NAME}")
    seen.heads.append(stock.query("SELECT version_num FROM alembic_version"))
    seen.again = stock.app.play("contract", label=f"contract of {NAME}, again")
    return seen


def test_release_with_a_revision_that_contracts_is_ready_before_it_is_applied(contracted):
    assert contracted.heads[0] == "r2"
    assert "left for playbooks/contract.yml: r3" in contracted.brought.words
    assert contracted.pending["schema"]["contract_pending"] == ["r3"]
    assert (contracted.pending["serving"]["ready"], contracted.pending["problems"]) == (True, [])


def test_contract_is_refused_while_previous_needs_the_old_schema(contracted):
    assert contracted.too_soon.returncode == 2, contracted.too_soon.tail()
    assert f"{contracted.releases[0]} is previous and does not carry r3" in contracted.too_soon.words


def test_contract_is_applied_once_nobody_needs_the_old_schema(contracted):
    contracted.applied.ok()
    assert contracted.heads[1] == "r3"
    assert contracted.applied.changed == 1, contracted.applied.changed_tasks
    assert contracted.again.ok().changed == 0, contracted.again.changed_tasks


def test_rollback_to_a_release_that_needs_the_old_schema_is_refused_with_those_that_do_not(stock, contracted):
    old, first, second = contracted.releases
    code, told = stock.releasectl("rollback", old)
    assert code == 5
    assert f"{old} cannot run on the database's schema: the database has r3" in told["error"]["cause"]
    assert told["error"]["candidates"] == [first]
    assert stock.status()["active"] == second
    returns = {entry["id"]: entry["returns"] for entry in stock.status()["releases"]}
    assert (returns[old], returns[first], returns[second]) == (False, True, True)


def test_rollback_to_a_release_that_carries_it_goes_through(stock, contracted):
    code, told = stock.releasectl("rollback")
    assert (code, told["release"]) == (0, contracted.releases[1])
    assert stock.app.web.get("/").text == "1 in stock"


def test_schema_is_known_when_no_instance_tells_it(stock, contracted):
    """As it must be when the release that is to be left does not answer."""
    active = stock.status()["active"]
    stock.site.sudo(f"systemctl stop {NAME}-web@{active}.service {NAME}-web@{active}.socket")
    code, told = stock.releasectl("rollback", contracted.releases[0])
    assert code == 5
    assert "the database has r3" in told["error"]["cause"]
    assert stock.releasectl("activate", active)[0] == 0
