"""What only a real server can show: many at once, and which way a query takes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from flask_ops.testing import eventually
from inbox.messages import inbox, processing, pruning
from inbox.messages.models import Attempt, Message, Tally
from inbox.models import db, now
from sqlalchemy import func, insert, select, text, update

AT_ONCE = 16


@pytest.fixture
def app(make_app, sender, postgresql_database):
    app = make_app(
        SQLALCHEMY_DATABASE_URI=postgresql_database,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": AT_ONCE, "max_overflow": 0},
        WEBHOOK_SOURCES=sender.sources(),
    )
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def unsent(monkeypatch):
    """Have nothing processed where it is sent."""
    monkeypatch.setattr("inbox.tasks.send_soon", lambda *args: False)


def together(work, count=AT_ONCE):
    """Do the same in many threads, all let go at one moment; return what each had."""
    barrier = Barrier(count)

    def one(number):
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_deliveries_that_come_at_once_make_one_row_and_one_processing(app, sender):
    answers = together(lambda _: sender.github(app.test_client(), "d-1"))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json["status"] for answer in answers) == ["accepted"] + ["duplicate"] * (AT_ONCE - 1)
    with app.app_context():
        assert db.session.scalar(select(func.count(Message.id))) == 1
        assert db.session.scalars(select(Attempt.outcome)).all() == ["done"]
        assert db.session.scalars(select(Tally.count)).all() == [1]


def test_copies_under_other_ids_that_come_at_once_are_refused(app, sender):
    body = b'{"ref": "main"}'
    answers = together(lambda number: sender.github(app.test_client(), f"d-{number}", body=body))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * (AT_ONCE - 1)


def test_workers_that_want_the_same_message_work_on_it_once(app, sender, unsent):
    sender.github(app.test_client(), "d-1")

    def work(number):
        with app.app_context():
            return processing.process(1, f"worker {number}")

    assert sorted(together(work)) == ["done"] + ["skipped"] * (AT_ONCE - 1)
    with app.app_context():
        assert db.session.scalars(select(Tally.count)).all() == [1]


def test_beats_that_look_at_once_hand_each_message_out_once(app, sender, unsent):
    for number in range(10):
        sender.github(app.test_client(), f"d-{number}")
    with app.app_context():
        db.session.execute(update(Message).values(next_attempt_at=now() - timedelta(seconds=1)))
        db.session.commit()

    def look(number):
        with app.app_context():
            return processing.due(10)

    found = [message_id for ids in together(look, 4) for message_id in ids]
    assert sorted(found) == list(range(1, 11))


def test_message_that_is_replayed_while_old_ones_are_deleted_is_kept(app, sender):
    sender.github(app.test_client(), "d-1")
    sender.github(app.test_client(), "d-2")
    long_ago = now() - timedelta(days=200)
    with app.app_context():
        db.session.execute(update(Message).values(received_at=long_ago, processed_at=long_ago))
        db.session.commit()

    def prune():
        with app.app_context():
            return pruning.prune()

    with app.app_context(), ThreadPoolExecutor(1) as pool, db.engine.connect() as operator:
        # As a replay does it, and not committed yet.
        operator.execute(update(Message).where(Message.id == 2).values(status="pending"))
        pruned = pool.submit(prune)
        eventually(lambda: waits_for_a_lock(operator), 10)
        operator.commit()
        assert pruned.result(10) == 1
        assert db.session.execute(select(Message.id, Message.status)).all() == [(2, "pending")]


def waits_for_a_lock(connection):
    blocked = "NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return connection.scalar(text(f"SELECT count(*) FROM pg_locks WHERE {blocked}"))


def test_counting_in_any_order_ends_in_no_deadlock(app):
    kinds = [(now().date(), "shop", f"event-{number}") for number in range(20)]

    def count(number):
        with app.app_context():
            for _ in range(5):
                inbox.count(dict.fromkeys(kinds if number % 2 else reversed(kinds), 1))
                db.session.commit()

    together(count, 8)
    with app.app_context():
        assert set(db.session.scalars(select(Tally.count))) == {40}


def test_title_is_searched_and_what_waits_is_found_by_an_index(app):
    rows = [
        {"source": "shop", "body": "{}", "title": f"sale number {number} of tea", "status": "done"}
        for number in range(20_000)
    ]
    with app.app_context():
        db.session.execute(insert(Message), rows)
        db.session.commit()
        db.session.execute(text("ANALYZE message"))
        # So few rows are read faster than any index; the question is whether there is a way by one.
        db.session.execute(text("SET enable_seqscan = off"))

        def way(query):
            shown = query.compile(db.engine, compile_kwargs={"literal_binds": True})
            return "\n".join(db.session.scalars(text(f"EXPLAIN {shown}".replace(":", r"\:"))))

        found = inbox.Filters(text="number 17 of").apply(select(Message.id))
        assert "ix_message_title_trgm" in way(found)
        waiting = Message.status.in_(("pending", "failed", "processing"))
        assert "ix_message_due" in way(select(Message.id).where(waiting, Message.next_attempt_at <= now()))
        newest = inbox.Filters(source="shop").apply(select(Message.id)).order_by(Message.id.desc()).limit(26)
        assert "Seq Scan" not in way(newest)
