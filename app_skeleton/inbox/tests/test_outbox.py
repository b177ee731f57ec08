import os
import threading
import time
from contextvars import ContextVar

import pytest
from flask_ops.testing import eventually
from inbox import outbox

asks_for = ContextVar("asks_for", default=None)


@pytest.fixture
def box():
    return outbox.Outbox()


@pytest.fixture
def busy(box):
    """Keep the box's thread at one call until it is let go."""
    begun, go = threading.Event(), threading.Event()

    def hold():
        begun.set()
        return go.wait(10)

    box.put(hold)
    assert begun.wait(10)
    yield go
    go.set()


def test_call_is_made_elsewhere_with_the_context_it_was_put_in(box):
    seen = []

    def call():
        seen.append((asks_for.get(), threading.current_thread().name))
        return True

    for name in ("first", "second"):
        asks_for.set(name)
        assert box.put(call)
    asks_for.set(None)
    assert eventually(lambda: seen[1:], 10)
    assert seen == [("first", "outbox"), ("second", "outbox")]


def test_who_puts_does_not_wait_for_a_call_that_does(box, busy):
    begin = time.monotonic()
    assert box.put(lambda: True)
    assert time.monotonic() - begin < 0.5


def test_what_there_is_no_room_for_is_said_to_be_left(box, busy, monkeypatch):
    made = []
    for number in range(outbox.WAITING_MAX):
        assert box.put(lambda number=number: made.append(number) or True)
    assert box.put(lambda: made.append("one too many") or True) is False
    busy.set()
    eventually(lambda: len(made) == outbox.WAITING_MAX, 10)
    assert made == list(range(outbox.WAITING_MAX))


def test_call_that_came_to_nothing_is_made_again_before_the_next(box, monkeypatch):
    monkeypatch.setattr(outbox, "AGAIN_SECONDS", 0.01)
    made = []
    box.put(lambda: made.append("first") or len(made) == 3)
    box.put(lambda: made.append("second") or True)
    eventually(lambda: "second" in made, 10)
    assert made == ["first", "first", "first", "second"]


def test_call_is_given_up_once_beat_looks_after_it(box, monkeypatch):
    monkeypatch.setattr(outbox, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(outbox, "KEEP_SECONDS", 0.1)
    made = []
    box.put(lambda: made.append("never") and False)
    eventually(lambda: made, 10)
    monkeypatch.setattr(outbox, "KEEP_SECONDS", 10)
    box.put(lambda: made.append("next") or True)
    eventually(lambda: "next" in made, 10)


def test_defect_of_one_call_is_told_and_leaves_the_next_alone(box, monkeypatch):
    made, told = [], []
    monkeypatch.setattr(outbox.log, "exception", told.append)
    box.put(lambda: 1 / 0)
    box.put(lambda: made.append("next") or True)
    eventually(lambda: made, 10)
    assert told == ["task was not sent"]


def test_process_that_was_forked_has_a_thread_of_its_own(box):
    done = threading.Event()
    box.put(lambda: done.set() or True)
    assert done.wait(10)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        made = threading.Event()
        box.put(lambda: made.set() or True)
        os.write(writing, b"1" if made.wait(10) else b"0")
        os._exit(0)
    assert os.read(reading, 1) == b"1"
    os.waitpid(child, 0)
