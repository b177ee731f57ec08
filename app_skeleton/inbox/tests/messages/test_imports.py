"""CSV files are read in pieces, each line counted once, whatever becomes of the workers."""

import io
import json
import os
import signal
import threading
import tracemalloc
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from inbox import storage
from inbox.messages import csv_file, imports
from inbox.messages.models import ImportFile, ImportProblem, Message, Tally
from inbox.models import db, now
from sqlalchemy import event, func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

HEADER = csv_file.header()
MOMENT = datetime(2026, 9, 1, 23, 30, tzinfo=UTC)


@pytest.fixture
def app(app_on_both):
    return app_on_both


def row(number, source="shop", kind="sold", body=None):
    body = json.dumps({"number": number}) if body is None else body
    return csv_file.row(source, f"d-{number:06}", kind, MOMENT + timedelta(minutes=number), body)


def begin(*lines, header=HEADER):
    return imports.begin("C:\\orders\\may.csv", io.BytesIO(header + b"".join(lines))).id


def state(import_id):
    db.session.rollback()
    return db.session.get(ImportFile, import_id, populate_existing=True)


def counters(import_id):
    found = state(import_id)
    return found.imported, found.duplicates, found.refused


def tallies():
    db.session.rollback()
    return {
        tuple(found)
        for found in db.session.execute(select(Tally.day, Tally.source, Tally.event, Tally.count))
    }


def messages():
    return db.session.scalar(select(func.count()).select_from(Message))


def stored_files(app):
    folder = app.config["STORAGE_URL"].removeprefix("file://")
    return [name for _, _, names in os.walk(folder) for name in names]


def expire(import_id, at=None):
    """Let a claim, or the time of the next look, pass."""
    moment = at or now() - timedelta(seconds=1)
    db.session.execute(update(ImportFile).where(ImportFile.id == import_id).values(claimed_until=moment))
    db.session.commit()


def test_lines_become_messages_that_are_done_and_counted(app):
    body = json.dumps({"repository": {"full_name": "a/b"}, "sender": {"login": "eve"}})
    import_id = begin(row(1, "github", "push", body), row(2), row(40), row(41))
    before = state(import_id)
    assert (before.name, before.status, before.bytes_read) == ("may.csv", "waiting", 0)
    assert imports.read(import_id) == "done"
    found = state(import_id)
    assert (found.status, found.error, found.line, found.bytes_read) == ("done", None, 5, found.bytes_total)
    assert (found.claim, found.claimed_until) == (None, None)
    assert found.ended_at >= found.created_at
    first, second = db.session.scalars(select(Message).order_by(Message.id).limit(2))
    assert (first.source, first.delivery_id, first.event, first.body) == ("github", "d-000001", "push", body)
    assert first.received_at == MOMENT + timedelta(minutes=1)
    assert (first.title, second.title) == ("push a/b by eve", "sold")
    assert (first.status, first.attempt_count) == ("done", 0)
    assert first.processed_at is not None
    # As if they had come in by themselves: the same signed body cannot be sent again.
    assert (len(first.digest), second.digest) == (64, None)
    first_day, second_day = date(2026, 9, 1), date(2026, 9, 2)
    assert tallies() == {
        (first_day, "github", "push", 1),
        (first_day, "shop", "sold", 1),
        (second_day, "shop", "sold", 2),
    }
    assert stored_files(app) == []
    assert imports.read(import_id) == "skipped"


def test_what_is_there_already_is_counted_as_duplicate_and_left_alone(app):
    imports.read(begin(row(1), row(2)))
    again = begin(row(2, body='{"other": 1}'), row(3), row(3, kind="returned"))
    assert imports.read(again) == "done"
    assert counters(again) == (1, 2, 0)
    kept = db.session.scalars(select(Message.body).order_by(Message.delivery_id)).all()
    assert kept == ['{"number": 1}', '{"number": 2}', '{"number": 3}']
    assert sum(found[3] for found in tallies()) == 3
    assert {found[2] for found in tallies()} == {"sold"}


def test_bad_lines_are_kept_with_their_numbers_and_the_others_are_imported(app):
    import_id = begin(row(1), b"not,csv\n", row(2, body='{"a":\n1}'), b'"open\n', row(3))
    assert imports.read(import_id) == "done"
    assert counters(import_id) == (3, 0, 2)
    query = select(ImportProblem.line, ImportProblem.error).filter_by(import_file_id=import_id)
    problems = dict(db.session.execute(query.order_by(ImportProblem.line)).all())
    assert list(problems) == [3, 6]
    assert problems[3] == "It has 2 columns instead of 5."


def test_reasons_kept_are_bounded_and_the_count_goes_on(app, monkeypatch):
    monkeypatch.setattr(imports, "PROBLEMS_MAX", 700)
    import_id = begin(b"bad\n" * 1200, row(1))
    assert imports.read(import_id) == "done"
    assert counters(import_id) == (1, 0, 1200)
    assert db.session.scalar(select(func.count()).select_from(ImportProblem)) == 700


@pytest.mark.parametrize("header", [b"", b"a,b,c\n", HEADER.replace(b",", b";")])
def test_file_of_another_kind_fails_with_the_reason_and_is_deleted(app, header):
    import_id = begin(*([row(1)] if header else []), header=header)
    assert imports.read(import_id) == "failed"
    found = state(import_id)
    assert found.status == "failed"
    assert "header" in found.error or "empty" in found.error
    assert found.ended_at is not None
    assert stored_files(app) == []
    assert messages() == 0


def test_file_is_read_in_pieces_to_its_end(app, monkeypatch):
    monkeypatch.setattr(imports, "PIECE_SECONDS", 0)
    import_id = begin(
        *(row(number) for number in range(5)), b"bad\n", b"\n", row(7, body='{"a":\n1}'), row(8)
    )
    answers = [imports.read(import_id) for _ in range(10)]
    assert answers == ["reading"] * 9 + ["done"]
    assert counters(import_id) == (7, 0, 1)
    assert state(import_id).line == 11


def test_import_is_handed_out_once_a_minute_and_not_while_it_is_read(app, monkeypatch):
    monkeypatch.setattr(imports, "PIECE_SECONDS", 0)
    import_id = begin(row(1), row(2))
    assert imports.due() == [], "its first task is on its way"
    expire(import_id)
    assert imports.due() == [import_id]
    assert imports.due() == [], "a task for it waits in the queue"
    assert imports.read(import_id) == "reading"
    assert imports.due() == [], "the next piece's task is on its way"
    expire(import_id)
    assert imports.due() == [import_id]
    assert [imports.read(import_id) for _ in range(2)] == ["reading", "done"]
    assert imports.due() == []


def test_storage_that_is_away_is_waited_for(app, monkeypatch):
    import_id = begin(row(1))

    def away(*_):
        raise storage.StorageError("STORAGE_URL: away")

    with monkeypatch.context() as patch:
        patch.setattr(storage.FolderStorage, "open", away)
        assert imports.read(import_id) == "skipped"
        assert imports.due() == []
    with monkeypatch.context() as patch:
        patch.setattr(storage.FolderStorage, "delete", away)
        assert imports.read(import_id) == "skipped"
    assert (state(import_id).status, counters(import_id)) == ("reading", (1, 0, 0))
    assert imports.read(import_id) == "done"
    assert counters(import_id) == (1, 0, 0)


def test_stored_file_that_is_gone_and_a_defect_end_the_import(app, monkeypatch):
    gone, broken = begin(row(1)), begin(row(2), row(3))
    storage.current().delete(state(gone).storage_key)
    assert imports.read(gone) == "failed"
    assert "gone" in state(gone).error

    def defect(*_):
        raise ZeroDivisionError("with the customer's words")

    monkeypatch.setattr(imports.summaries, "title", defect)
    assert imports.read(broken) == "failed"
    assert state(broken).error == "A defect of this app, after line 0: ZeroDivisionError."
    assert stored_files(app) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_connection_that_breaks_is_told_to_celery_and_the_next_try_goes_on_at_once(app, monkeypatch):
    monkeypatch.setattr(imports, "BATCH_ROWS", 2)
    import_id = begin(*(row(number) for number in range(5)))
    really = imports.inbox.count
    calls = []

    def count(tallied):
        calls.append(1)
        if len(calls) == 2:
            db.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        really(tallied)

    monkeypatch.setattr(imports.inbox, "count", count)
    with pytest.raises(OperationalError):
        imports.read(import_id)
    assert counters(import_id) == (2, 0, 0)
    assert imports.read(import_id) == "done"
    assert counters(import_id) == (5, 0, 0)


@contextmanager
def killed_at(number, after):
    """Kill this process at a commit: before the database has it, or right after."""
    seen = []

    def count(*_):
        seen.append(1)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.session, "after_commit" if after else "before_commit", count)
    yield


def in_another_process(app, work):
    """Run something in a process that may be killed; return whether it was."""
    db.session.remove()
    db.engine.dispose()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_worker_killed_at_any_commit_is_followed_by_one_that_counts_each_line_once(app, monkeypatch, after):
    monkeypatch.setattr(imports, "BATCH_ROWS", 3)
    rows = [row(number) for number in range(10)]

    def read(number):
        with killed_at(number, after):
            imports.read(import_id)

    killed = 0
    for number in range(1, 20):
        import_id = begin(*rows, b"bad\n", row(3))
        if not in_another_process(app, lambda number=number: read(number)):
            assert state(import_id).status == "done"
            break
        killed += 1
        if state(import_id).claim is not None:
            assert imports.read(import_id) == "skipped", "its worker is not yet given up for lost"
            expire(import_id)
            assert imports.due() == [import_id]
        if state(import_id).status != "done":
            assert imports.read(import_id) == "done"
        assert counters(import_id) == (10, 1, 1), f"killed at commit {number}"
        assert tallies() == {(date(2026, 9, 1), "shop", "sold", 10)}
        assert db.session.scalar(select(func.count()).select_from(ImportProblem)) == 1
        assert stored_files(app) == []
        for table in (ImportProblem, ImportFile, Message, Tally):
            db.session.execute(table.__table__.delete())
        db.session.commit()
    # The claim, four batches, the file's end, and that all is done.
    assert killed == 7


def test_worker_killed_between_deleting_the_file_and_saying_so_loses_nothing(app, monkeypatch):
    import_id = begin(row(1), row(2))
    really = storage.FolderStorage.delete

    def delete(self, key):
        really(self, key)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(storage.FolderStorage, "delete", delete)
        assert in_another_process(app, lambda: imports.read(import_id))
    assert (state(import_id).status, stored_files(app)) == ("reading", [])
    expire(import_id)
    assert imports.read(import_id) == "done"
    assert counters(import_id) == (2, 0, 0)


def test_worker_that_was_given_up_and_lives_writes_nothing(app, monkeypatch):
    monkeypatch.setattr(imports, "BATCH_ROWS", 2)
    import_id = begin(*(row(number) for number in range(6)))
    really = imports._store
    others = []

    def store(file, batch):
        if not others:
            others.append("begun")
            expire(import_id)
            other = threading.Thread(target=lambda: others.append(in_context(app, imports.read, import_id)))
            other.start()
            other.join()
        return really(file, batch)

    monkeypatch.setattr(imports, "_store", store)
    assert imports.read(import_id) == "skipped"
    assert others == ["begun", "done"]
    assert counters(import_id) == (6, 0, 0)
    assert sum(found[3] for found in tallies()) == 6


def in_context(app, work, *arguments):
    with app.app_context():
        try:
            return work(*arguments)
        finally:
            db.session.remove()


def test_files_with_the_same_messages_in_other_orders_are_read_side_by_side(app, monkeypatch):
    monkeypatch.setattr(imports, "BATCH_ROWS", 3000)
    barrier = threading.Barrier(2)
    really = imports._insert

    def insert(rows):
        if rows:
            barrier.wait(10)
        return really(rows)

    monkeypatch.setattr(imports, "_insert", insert)
    rows = [row(number) for number in range(3000)]
    ids = [begin(*rows), begin(*reversed(rows))]
    answers = []
    readers = [
        threading.Thread(target=lambda each=each: answers.append(in_context(app, imports.read, each)))
        for each in ids
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert answers == ["done", "done"]
    done = [counters(each) for each in ids]
    assert sum(imported for imported, _, _ in done) == sum(duplicates for _, duplicates, _ in done) == 3000
    assert messages() == sum(found[3] for found in tallies()) == 3000


@pytest.mark.parametrize(
    ("name", "shown"),
    [("../../etc/passwd", "passwd"), ("a\nb\0ä.csv", "abä.csv"), ("", "file.csv"), ("x" * 300, "x" * 255)],
)
def test_names_of_files_are_shown_and_nothing_more(name, shown):
    assert imports._shown(name) == shown


def test_import_that_cannot_be_noted_leaves_no_file(app, monkeypatch):
    monkeypatch.setattr(imports, "_shown", lambda name: None)
    with pytest.raises(IntegrityError):
        imports.begin("a.csv", io.BytesIO(HEADER))
    db.session.rollback()
    assert stored_files(app) == []


class Made(io.RawIOBase):
    """A CSV file that is made while it is read."""

    def __init__(self, size, body):
        self.size = size
        self.body = body
        self.left = io.BytesIO(HEADER)
        self.number = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self.left.read(len(buffer))
        if not data and self.size > 0:
            self.number += 1
            line = row(self.number, body=self.body)
            self.size -= len(line)
            self.left = io.BytesIO(line)
            data = self.left.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def test_memory_does_not_grow_with_the_file(app):
    body = json.dumps({"text": "x" * 4000})

    def peak(mebibytes):
        import_id = imports.begin("a.csv", io.BufferedReader(Made(mebibytes * 1024**2, body))).id
        tracemalloc.start()
        try:
            assert imports.read(import_id) == "done"
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(2), peak(8)
    assert large < 1.5 * small
    assert large < 8 * 1024**2
