"""A migrate command in its unit: what it leaves out, how long it waits, and whom it says it waited for."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from flask_ops import checks, migrating, schema
from flask_ops.health import Readiness
from flask_ops.testing import eventually

HERE = Path(__file__).parent
UPGRADE = "flask --app migrated_shop db upgrade"
#: The command as the unit runs it, with pauses that suit a test.
RUN = "import sys; from flask_ops import migrating, run; migrating.PAUSES_SECONDS = {pauses}; "
RUN += "sys.exit(run.main(sys.argv[1:]))"
TABLE = "op.execute('CREATE TABLE stock (id int)')"
COLUMN = "op.execute('ALTER TABLE stock ADD COLUMN price int')"
DROP = "op.execute('ALTER TABLE stock DROP COLUMN price')"


def connect(url, **options):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True, **options)


class Shop:
    """A folder of migrations and a database."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.env = {
            "DATABASE_URL": url,
            "SHOP_MIGRATIONS": str(folder),
            "PYTHONPATH": str(HERE),
            "FLASK_OPS_SERVICE": "shop-migrate",
        }

    def revision(self, name, down, does, more=""):
        text = f"from alembic import op\nrevision = {name!r}\ndown_revision = {down!r}\n{more}\n"
        text += f"def upgrade():\n    {does}\n"
        (self.folder / f"versions/{name}.py").write_text(text)

    def start(self, mode="expand", pauses=(0.1,), command=UPGRADE, program=RUN, **env):
        given = {**os.environ, **self.env, **env, **({migrating.MODE: mode} if mode else {})}
        words = [sys.executable, "-c", program.format(pauses=pauses), command]
        return subprocess.Popen(words, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, **env):
        return self.ended(self.start(*arguments, **env))

    def ended(self, process):
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def heads(self):
        with connect(self.url) as connection:
            try:
                return [row[0] for row in connection.execute(schema.QUESTION)]
            except psycopg.errors.UndefinedTable:
                return []


def events(said, event):
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop") / "migrations"
    env = {**os.environ, "PYTHONPATH": str(HERE), "SHOP_MIGRATIONS": str(folder)}
    words = [sys.executable, "-m", "flask", "--app", "migrated_shop", "db", "init"]
    subprocess.run(words, env=env, check=True, capture_output=True)
    assert "fileConfig" in (folder / "env.py").read_text()
    return folder


@pytest.fixture
def shop(template, tmp_path, postgresql_database):
    subprocess.run(["cp", "-r", template, tmp_path / "migrations"], check=True)
    shop = Shop(tmp_path / "migrations", postgresql_database)
    shop.revision("r1", None, TABLE)
    return shop


def test_upgrade_stops_before_what_contracts_and_says_so(shop):
    shop.revision("r2", "r1", COLUMN)
    shop.revision("r3", "r2", DROP, "contract = True")
    shop.revision("r4", "r3", "pass", "contract = True")
    code, said = shop.run()
    assert (code, shop.heads()) == (0, ["r2"]), said
    assert events(said, migrating.LEFT_OUT)[0]["revisions"] == ["r3", "r4"]
    code, said = shop.run("contract")
    assert (code, shop.heads()) == (0, ["r4"]), said


def test_upgrade_outside_a_deploy_applies_everything(shop):
    shop.revision("r2", "r1", "pass", "contract = True")
    code, said = shop.run("")
    assert (code, shop.heads()) == (0, ["r2"]), said


def test_applied_contract_holds_back_nothing_that_stands_on_it(shop):
    shop.revision("r2", "r1", "pass", "contract = True")
    assert shop.run("contract")[0] == 0
    shop.revision("r3", "r2", COLUMN)
    code, said = shop.run()
    assert (code, shop.heads()) == (0, ["r3"]), said


def test_expansion_that_stands_on_a_pending_contract_fails_and_applies_nothing(shop):
    shop.revision("r2", "r1", "pass", "contract = True")
    shop.revision("r3", "r2", COLUMN)
    code, said = shop.run()
    assert (code, shop.heads()) == (1, []), said
    assert "r3 stands on r2, which contracts and is not applied" in said


def test_sessions_have_the_limits_whatever_the_app_set_for_its_requests(shop):
    show = "print(op.get_bind().exec_driver_sql('SHOW {0}').scalar(), '{0}')"
    shop.revision("r2", "r1", f"{show.format('lock_timeout')}; {show.format('statement_timeout')}")
    code, said = shop.run()
    assert (code, "1800ms lock_timeout" in said, "0 statement_timeout" in said) == (0, True, True), said


def test_command_of_a_shell_has_the_limits_too(shop):
    address = shop.url.replace("+psycopg", "")
    code, said = shop.run(command=f"psql '{address}' -Atc 'SHOW lock_timeout' | cat")
    assert (code, said.strip()) == (0, "1800ms")


def test_command_of_a_shell_is_refused_where_it_could_contract(shop, tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    for contract, expected in ((True, 1), (False, 0)):
        told = {"revisions": [{"revision": "r7", "contract": contract}]}
        (tmp_path / "release.json").write_text(json.dumps({"migrations": told}))
        code, said = shop.run(command="echo applied | cat")
        assert (code, "applied\n" in said) == (expected, not contract), said
        assert ("would leave out what contracts: r7" in said) == contract
    (tmp_path / "release.json").write_text(json.dumps({"migrations": None}))
    assert shop.run(command="echo applied | cat") == (0, "applied\n")


@pytest.fixture
def blocked(shop):
    """A shop whose next revision needs a table that somebody reads in a long transaction."""
    assert shop.run()[0] == 0
    shop.revision("r2", "r1", COLUMN)
    with connect(shop.url, application_name="report") as connection, connection.transaction():
        connection.execute("SELECT * FROM stock FOR SHARE")
        yield shop, connection


def test_migration_that_finds_a_table_locked_gives_up_naming_who_has_it(blocked):
    shop, connection = blocked
    began = time.monotonic()
    code, said = shop.run(**{migrating.LOCK_TIMEOUT: "1"})
    assert code == migrating.GAVE_UP, said
    assert time.monotonic() - began < 10
    (waited,), (gave_up,) = events(said, migrating.WAITS), events(said, migrating.GIVES_UP)
    assert (waited["attempt"], waited["attempts"]) == (1, 2)
    named = rf"pid {connection.info.backend_pid} \(inbox, report, idle in transaction, \d+ s\)"
    assert re.fullmatch(named, waited["blocked_by"])
    assert re.fullmatch(named, gave_up["blocked_by"])
    assert "LockNotAvailable" in gave_up["exception"]
    assert shop.heads() == ["r1"]


def test_migration_succeeds_in_an_attempt_after_the_table_is_free(blocked):
    shop, connection = blocked
    process = shop.start(pauses=(1, 1, 1), **{migrating.LOCK_TIMEOUT: "1"})
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    with connect(shop.url) as looking:
        name = looking.info.dbname
        assert eventually(lambda: looking.execute(waiting, (name,)).fetchone()[0] == 1, 20)
        assert eventually(lambda: looking.execute(waiting, (name,)).fetchone()[0] == 0, 20)
    connection.execute("COMMIT")
    code, said = shop.ended(process)
    assert (code, shop.heads()) == (0, ["r2"]), said
    assert events(said, migrating.WAITS)
    assert not events(said, migrating.GIVES_UP)


def test_reader_behind_a_waiting_migration_waits_no_longer_than_it_may(blocked):
    shop, _ = blocked
    longest, over = [], threading.Event()

    def read():
        with connect(shop.url) as reader:
            while not over.is_set():
                began = time.monotonic()
                reader.execute("SELECT count(*) FROM stock")
                longest.append(time.monotonic() - began)
                time.sleep(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    code, said = shop.run(**{migrating.LOCK_TIMEOUT: "1"})
    over.set()
    thread.join()
    assert code == migrating.GAVE_UP, said
    assert 0.5 < max(longest) <= 1, "it did wait behind it, and not for too long"


def test_other_failure_is_not_tried_again(shop):
    shop.revision("r2", "r1", "op.execute('SELECT 1 / 0')")
    code, said = shop.run()
    assert (code, events(said, migrating.WAITS)) == (1, []), said
    assert "division by zero" in said


def test_second_migration_of_the_database_waits_for_the_first(shop):
    shop.revision("r2", "r1", "import time; time.sleep(1.5)")
    both = [shop.start(), shop.start()]
    ended = [shop.ended(process) for process in both]
    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("Running upgrade r1 -> r2" in said for _, said in ended) == 1, ended


def test_migration_whose_turn_does_not_come_gives_up_naming_the_other(shop):
    from flask_ops import lock_waits

    early = RUN.replace("migrating, run;", "lock_waits, migrating, run; lock_waits._TURN_SECONDS = 0.5;")
    with connect(shop.url, application_name="other-migrate") as other, lock_waits.turn(other):
        pid = other.info.backend_pid
        code, said = shop.run(program=early)
    assert (code, shop.heads()) == (migrating.GAVE_UP, []), said
    (gave_up,) = events(said, migrating.GIVES_UP)
    named = rf"another migration, pid {pid} \(inbox, other-migrate, idle, \d+ s\)"
    assert re.fullmatch(named, gave_up["blocked_by"])


def test_error_of_a_lock_is_known_whatever_it_is_wrapped_in():
    from flask_ops.lock_waits import gave_up_waiting

    class Wrapped(Exception):
        orig = psycopg.errors.LockNotAvailable()

    class Psycopg2(Exception):
        pgcode = "55P03"

    def raised(inside, *, keep=True):
        try:
            try:
                raise inside
            except Exception:
                if keep:
                    sys.exit(1)
                raise SystemExit(1) from None
        except SystemExit as end:
            return end

    for error in (Wrapped(), Psycopg2(), Exception({"C": "55P03"}), raised(Wrapped())):
        assert gave_up_waiting(error), error
    for error in (
        psycopg.errors.DeadlockDetected(),
        ValueError("55P03"),
        raised(Wrapped(), keep=False),
        None,
    ):
        assert not gave_up_waiting(error), error


def asked(shop, **env):
    words = [sys.executable, "-m", "flask_ops.schema"]
    done = subprocess.run(words, env={**os.environ, **shop.env, **env}, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


def test_schema_is_what_the_database_says(shop):
    code, told = asked(shop)
    assert (code, told["heads"]) == (1, None)
    assert 'relation "alembic_version" does not exist' in told["why"]
    assert shop.run()[0] == 0
    assert asked(shop) == (0, {"heads": ["r1"]})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///x.sqlite", "DATABASE_URL names no PostgreSQL"),
        ("postgresql://nobody@/none?host=/nonexistent", "OperationalError"),
    ],
)
def test_schema_that_nobody_tells_is_unknown(shop, url, why):
    code, told = asked(shop, DATABASE_URL=url)
    assert (code, told["heads"]) == (1, None)
    assert why in told["why"]


def test_release_is_ready_while_its_contract_is_pending_and_not_without_its_expansion(shop, monkeypatch):
    shop.revision("r2", "r1", "pass", "contract = True")
    assert shop.run()[0] == 0
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.delitem(sys.modules, "migrated_shop", raising=False)
    import migrated_shop

    def look():
        (result,) = Readiness([checks.sqlalchemy(migrated_shop.db)], migrated_shop.app.app_context).results()
        return result

    assert look().public() | {"duration_ms": 0} == {
        "id": "database",
        "state": "ok",
        "duration_ms": 0,
        "error": None,
        "found": {"heads": ["r1"]},
    }
    shop.revision("r0", None, "pass")
    assert look().cause == "1 not applied: r0"
    with migrated_shop.app.app_context():
        migrated_shop.db.engine.dispose()


def test_what_a_check_returns_by_chance_is_shown_to_nobody():
    from flask_ops.health import Check

    (result,) = Readiness([Check("redis", lambda: {"password": "x"})]).results()
    assert (result.state, result.found) == ("ok", None)
