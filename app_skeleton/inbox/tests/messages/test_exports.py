"""What is exported is all that matches, can be imported again, and takes neither memory nor connections."""

import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from inbox.messages import csv_file, exports, imports
from inbox.messages.inbox import Filters, store
from inbox.messages.models import Message
from inbox.messages.signatures import Delivery
from inbox.messages.sources import Source
from inbox.models import db, now
from sqlalchemy import insert, select

MOMENT = datetime(2026, 9, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def app(app_on_both):
    return app_on_both


def fill(count, body="{}", **values):
    """Put messages in, one a minute."""
    rows = [
        {
            "source": "shop",
            "event": "sold",
            "delivery_id": f"d-{number}",
            "received_at": MOMENT + timedelta(minutes=number),
            "body": body,
            **values,
        }
        for number in range(count)
    ]
    db.session.execute(insert(Message.__table__), rows)
    db.session.commit()


def exported(filters=None):
    return b"".join(exports.stream(filters or Filters()))


def ids(data):
    return [found.row.delivery_id for found in csv_file.read(io.BytesIO(data), 1024**2)]


COMPARED = ("source", "delivery_id", "event", "received_at", "body", "title", "digest", "status")


def content():
    query = select(*(getattr(Message, name) for name in COMPARED)).order_by(Message.id)
    return [tuple(row) for row in db.session.execute(query)]


def test_what_is_exported_is_the_same_after_an_import_into_an_empty_database(app, sender, client):
    bodies = [
        '{"a": "ä\\ud800, \\"b\\"\\u0000"}',
        '{\r\n "repository": {"full_name": "x/y"}\n}',
        '  {"ref":"=1+1"}',
    ]
    for number, body in enumerate(bodies):
        assert sender.github(client, f"g-{number}", body=body.encode()).status_code == 202
    sender.stripe(client)
    other = Delivery("x/1", "kept", '{"no": ["s", 1]}', {"no": ["s", 1]}, None)
    store(Source("others-5", "stripe", ()), other)
    before = content()
    assert len(before) == 5
    data = exported()
    db.session.execute(Message.__table__.delete())
    db.session.commit()
    import_id = imports.begin("a.csv", io.BytesIO(data)).id
    assert imports.read(import_id) == "done"
    after = content()
    of_known = [row[:5] + row[6:7] for row in before]
    assert sorted(row[:5] + row[6:7] for row in after) == sorted(of_known)
    assert {row[1]: row[5] for row in after if row[0] != "others-5"} == {
        row[1]: row[5] for row in before if row[0] != "others-5"
    }
    assert {row[7] for row in after} == {"done"}
    assert sorted(exported().splitlines()) == sorted(data.splitlines())


def test_pages_follow_each_other_without_gap_or_double(app, monkeypatch):
    monkeypatch.setattr(exports, "PAGE_ROWS", 7)
    fill(50)
    assert ids(exported()) == [f"d-{number}" for number in range(50)]
    assert ids(exported(Filters(source="shop", since=MOMENT + timedelta(minutes=20)))) == [
        f"d-{number}" for number in range(20, 50)
    ]
    assert ids(exported(Filters(source="other"))) == []
    assert exported(Filters(source="other")) == csv_file.header()


def test_empty_inbox_is_a_header(app):
    assert exported() == csv_file.header()


def test_messages_that_arrive_meanwhile_do_not_make_it_endless(app, monkeypatch):
    monkeypatch.setattr(exports, "PAGE_ROWS", 5)
    fill(20)
    found = []
    for number, piece in enumerate(exports.stream(Filters())):
        found.append(piece)
        fill(5, delivery_id=None, source=f"late-{number}")
        db.session.execute(
            insert(Message.__table__),
            [{"source": "late", "delivery_id": f"l-{number}", "body": "{}", "received_at": now()}],
        )
        db.session.commit()
    assert ids(b"".join(found)) == [f"d-{number}" for number in range(20)]


def test_rows_of_the_earlier_release_are_left_out(app):
    fill(2)
    fill(3, delivery_id=None, source="=cmd()", body="=1+1")
    assert ids(exported()) == ["d-0", "d-1"]


def test_slow_client_holds_no_connection_and_needs_no_app_context(make_app, database, monkeypatch):
    monkeypatch.setattr(exports, "PAGE_ROWS", 5)
    app = make_app(SQLALCHEMY_DATABASE_URI=database)
    with app.app_context():
        fill(12)
        engine = db.engine
        pieces = exports.stream(Filters())
        db.session.remove()
    assert next(pieces) == csv_file.header()
    assert [engine.pool.checkedout() for _ in pieces] == [0, 0, 0]
    engine.dispose()


def test_large_bodies_do_not_fill_the_memory(app):
    fill(60, body=json.dumps({"text": "x" * 1024**2}))
    pieces = exports.stream(Filters())
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in pieces)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 60 * 1024**2
    assert peak < 20 * 1024**2
