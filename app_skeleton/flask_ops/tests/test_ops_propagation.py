import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask_ops import propagation, sql_comments
from flask_ops.importing import when_imported
from flask_ops.request_id import begin_request, end_request
from flask_ops.settings import SettingError
from flask_ops.testing import GunicornServer
from upstream import QuietHandler, serving

ID = "req-42"
COMMENT = f" /* request_id='{ID}' */"


@pytest.fixture
def in_request():
    propagation.install()
    begin_request(ID)
    yield
    end_request()


@pytest.fixture(scope="module")
def echo():
    """The address of a server that answers with the headers it was sent; /again leads to another page."""

    class Handler(QuietHandler):
        def do_GET(self):
            if self.path == "/again":
                self.answer(status=302, Location="/")
            else:
                found = [[name.lower(), value] for name, value in self.headers.items()]
                self.answer(json.dumps(found).encode())

    with serving(Handler) as url:
        yield url


def ids_in(body):
    return [value for name, value in json.loads(body) if name == "x-request-id"]


def with_urllib(url, headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read()


def with_urllib3(url, headers):
    import urllib3

    return urllib3.request("GET", url, headers=headers).data


def with_httpx(url, headers):
    import httpx

    return httpx.get(url, headers=headers, follow_redirects=True).content


def with_httpx_streaming(url, headers):
    import httpx

    with httpx.stream("GET", url, headers=headers, follow_redirects=True) as answer:
        return answer.read()


def with_httpx_async(url, headers):
    import httpx

    async def call():
        async with httpx.AsyncClient(follow_redirects=True) as client:
            return (await client.get(url, headers=headers)).content

    return asyncio.run(call())


CLIENTS = [with_urllib, with_urllib3, with_httpx, with_httpx_streaming, with_httpx_async]


@pytest.mark.parametrize("call", CLIENTS)
def test_outgoing_call_carries_the_request_id_once(in_request, echo, call):
    assert ids_in(call(f"{echo}/", {})) == [ID]
    assert ids_in(call(f"{echo}/again", {})) == [ID]


@pytest.mark.parametrize("call", CLIENTS)
def test_request_id_of_the_apps_own_is_left_alone(in_request, echo, call):
    assert ids_in(call(f"{echo}/", {"x-request-id": "mine"})) == ["mine"]


@pytest.mark.parametrize("call", CLIENTS)
def test_call_outside_a_request_carries_no_id(in_request, echo, call):
    end_request()
    assert ids_in(call(f"{echo}/", {})) == []


@pytest.fixture(scope="module")
def seen(postgresql_server):
    """An engine older than the installation, and a table whose rows hold the statement that made them."""
    engine = sa.create_engine(postgresql_server.url)
    table = sa.Table(
        "seen",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("note", sa.Text),
        sa.Column("words", sa.Text, server_default=sa.func.current_query()),
    )
    table.create(engine)
    yield engine, table
    table.drop(engine)
    engine.dispose()


def by_core(connection, table):
    connection.execute(table.insert().values(note="x"))


def by_many_values(connection, table):
    # Two statements: one row more than fits into the first.
    rows = [{"note": str(n)} for n in range(3)]
    options = {"insertmanyvalues_page_size": 2}
    statement = table.insert().returning(table.c.id)
    assert len(connection.execute(statement, rows, execution_options=options).all()) == 3


def by_executemany(connection, table):
    connection.execute(sa.text("INSERT INTO seen (note) VALUES (:n)"), [{"n": "1"}, {"n": "2"}])


def by_percent_sign(connection, table):
    connection.execute(sa.text("INSERT INTO seen (note) VALUES ('100%' || :n)"), {"n": "x"})


def without_parameters(connection, table):
    connection.execution_options(no_parameters=True).exec_driver_sql("INSERT INTO seen (note) VALUES ('50%')")


def by_driver(connection, table):
    connection.connection.cursor().execute("INSERT INTO seen (note) VALUES (%s)", ["x"])


def with_semicolon(connection, table):
    connection.execute(sa.text("INSERT INTO seen (note) VALUES (:n);"), {"n": "x"})


def with_comment(connection, table):
    connection.execute(sa.text("INSERT INTO seen (note) VALUES (:n) /* mine */"), {"n": "x"})


STATEMENTS = [
    *(by_core, by_many_values, by_executemany, by_percent_sign),
    *(without_parameters, by_driver, with_semicolon, with_comment),
]


@pytest.mark.parametrize("insert", STATEMENTS)
def test_statement_ends_with_the_request_id(seen, in_request, insert):
    engine, table = seen
    with engine.connect() as connection:
        insert(connection, table)
        found = connection.scalars(sa.select(table.c.words)).all()
    assert found
    for words in found:
        assert words.endswith(COMMENT)
        assert words.count(COMMENT) == 1


@pytest.mark.parametrize("insert", [one for one in STATEMENTS if one is not by_driver])
def test_driver_that_cannot_be_extended_gets_the_comment_from_sqlalchemy(seen, in_request, insert):
    import psycopg

    engine, table = seen
    other = sa.create_engine(engine.url, connect_args={"cursor_factory": psycopg.ClientCursor})
    with other.connect() as connection:
        insert(connection, table)
        found = connection.scalars(sa.select(table.c.words)).all()
    other.dispose()
    assert found
    for words in found:
        assert words.endswith(COMMENT)
        assert words.count(COMMENT) == 1


def test_line_comment_at_the_end_swallows_ours_and_does_no_harm(seen, in_request):
    with seen[0].connect() as connection:
        assert connection.scalar(sa.text("SELECT 1 -- one")) == 1


def test_statement_outside_a_request_stays_as_it_was(seen, in_request):
    end_request()
    engine, table = seen
    with engine.connect() as connection:
        by_core(connection, table)
        (words,) = connection.scalars(sa.select(table.c.words)).all()
    assert "request_id" not in words


def test_sqlite_prepares_a_statement_once_for_all_requests(in_request):
    engine, traced = sa.create_engine("sqlite://"), []
    with engine.connect() as connection:
        connection.connection.set_trace_callback(traced.append)
        connection.execute(sa.text("SELECT 7"))
        connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 8")
    assert [words for words in traced if words.startswith("SELECT")] == ["SELECT 7", "SELECT 8"]


def test_psycopg_without_its_inner_names_is_left_alone(monkeypatch):
    import psycopg._cursor_base

    monkeypatch.delattr(psycopg._cursor_base.BaseCursor, "_query_cls")
    sql_comments._extend_psycopg()
    assert not hasattr(psycopg._cursor_base.BaseCursor, "_query_cls")
    monkeypatch.setitem(sys.modules, "psycopg._queries", None)
    sql_comments._extend_psycopg()


def test_app_that_knows_nothing_of_it_carries_the_id_into_sql_and_calls(postgresql, echo):
    settings = {"TEST_DATABASE_URL": postgresql, "PYTHONPATH": str(Path(__file__).parent)}
    with GunicornServer("tracing_apps:app", **settings) as server:
        _, statement = server.get("/sql", {"X-Request-ID": ID})
        _, headers = server.get(f"/call?url={echo}/", {"X-Request-ID": ID})
        # The next request of this worker has another id.
        _, other = server.get("/sql", {"X-Request-ID": "req-43"})
    assert statement.decode().endswith(COMMENT)
    assert other.decode().endswith("/* request_id='req-43' */")
    assert ids_in(headers) == [ID]


def in_a_new_process(code, **env):
    """Return what code prints in a process where nothing is patched yet."""
    command = [sys.executable, "-c", f"import sys; from flask_ops import propagation; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | env)
    return done.stdout.strip()


@pytest.mark.parametrize(("switch", "patched"), [("1", "True True"), ("0", "False False")])
def test_switches_leave_statements_and_calls_alone(switch, patched):
    code = (
        "import sqlalchemy, http.client; propagation.install(); from flask_ops import sql_comments; "
        "print(sqlalchemy.event.contains(sqlalchemy.Engine, 'do_execute', sql_comments._execute), "
        "hasattr(http.client.HTTPConnection.endheaders, 'flask_ops_original'))"
    )
    assert in_a_new_process(code, **{propagation.SQL: switch, propagation.OUTGOING: switch}) == patched


def test_nothing_is_imported_that_the_app_does_not_import():
    names = "('sqlalchemy', 'psycopg', 'httpx', 'celery')"
    code = f"propagation.install(); print([name for name in {names} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


@pytest.mark.parametrize("name", [propagation.SQL, propagation.OUTGOING])
def test_switch_that_is_neither_on_nor_off_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "maybe")
    with pytest.raises(SettingError, match=name):
        propagation.install()


def test_function_waits_for_an_import_and_the_module_stays_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "awaited_module.py").write_text("value = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    calls = []
    when_imported("awaited_module", lambda: calls.append(sys.modules["awaited_module"].value))
    when_imported("module_that_nobody_installed", lambda: calls.append("never"))
    assert calls == []
    module = importlib.import_module("awaited_module")
    assert importlib.util.find_spec("module_that_nobody_installed") is None
    assert calls == [7]
    assert module.__spec__.loader.get_source("awaited_module") == "value = 7\n"
    when_imported("awaited_module", lambda: calls.append("at once"))
    assert calls == [7, "at once"]
    monkeypatch.delitem(sys.modules, "awaited_module")
