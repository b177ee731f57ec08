"""A report for each day, made again when more is counted, legible whatever the events are called."""

import re
import threading
import zlib
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations

import pytest
from fpdf import FPDF
from inbox import storage
from inbox.messages import reports
from inbox.messages.models import Message, Report, Tally
from inbox.models import db, now
from sqlalchemy import insert, select, update

DAY = date(2026, 9, 30)
NO_STATES = dict.fromkeys(("pending", "processing", "done", "failed", "dead"), 0)


@pytest.fixture
def app(app_on_both):
    return app_on_both


def figures(kinds=(), states=None, days=None):
    span = [(DAY - timedelta(days=back), 0) for back in range(13, -1, -1)]
    return reports.Figures(DAY, list(kinds), NO_STATES | (states or {}), days or span)


WRITTEN = re.compile(rb"/F(\d+) ([\d.]+) Tf|([\d.]+) ([\d.]+) Td|\(((?:[^()\\]|\\.)*)\) Tj", re.DOTALL)


def pages(data):
    """Return a PDF's texts, page by page: (left, baseline, width, size, text), in points."""
    measure = FPDF(unit="pt")
    found = []
    for stream in re.findall(rb"stream\n(.*?)\nendstream", data, re.DOTALL):
        try:
            drawn = zlib.decompress(stream)
        except zlib.error:
            continue
        if b" Tj" not in drawn:
            continue
        texts, left, base, size = [], 0.0, 0.0, 0.0
        for number, size_text, x, y, text in WRITTEN.findall(drawn):
            if size_text:
                size = float(size_text)
                # The headline is the first text.
                measure.set_font("Helvetica", "B" if number == b"1" else "", size)
            elif x:
                left, base = float(x), float(y)
            else:
                text = re.sub(rb"\\(.)", rb"\1", text).decode("latin-1")
                width = measure.get_string_width(text)
                texts.append((left, base, width, size, text))
                left += width
        found.append(texts)
    return found


def words(data):
    return [text for page in pages(data) for *_, text in page]


def assert_legible(data):
    for page in pages(data):
        assert page
        for left, base, width, size, text in page:
            assert left >= 40, text
            assert left + width <= 595 - 40, text
            assert 20 <= base <= 842 - 30, text
            assert size >= 7, text
        for (left, base, width, size, text), (left2, base2, width2, size2, text2) in combinations(page, 2):
            apart = (
                left + width <= left2 + 0.5
                or left2 + width2 <= left + 0.5
                or abs(base - base2) >= 0.9 * min(size, size2)
            )
            assert apart, (text, text2)


KINDS = [
    ("github", "push", 12_345),
    ("github", "pull_request", 7),
    ("stripe", "x" * 255, 3),
    ("a" * 40, "customer.subscription.updated:" + "W" * 200, 1),
    ("Ärger 漢字 " + "W" * 90, "e", 1),
    *(("stripe", f"kind.{number}", 5) for number in range(90)),
]


def test_report_says_how_many_of_which_kind_and_in_which_state():
    found = words(reports.render(figures(KINDS[:2], {"done": 12_000, "dead": 4})))
    assert "Messages of 2026-09-30" in found
    assert any("12,352 processed" in text and "UTC" in text for text in found)
    for wanted in ("github", "push", "12,345", "pull_request", "7", "done", "12,000", "4"):
        assert wanted in found
    assert any("given up" in text for text in found)
    assert not any("not begun" in text for text in found)


def test_day_without_messages_says_so():
    found = words(reports.render(figures()))
    assert "No message was processed." in found
    assert "None is kept." in found


def test_names_of_any_length_and_script_do_not_overlap_and_pages_repeat_the_head():
    days = [(DAY - timedelta(days=back), 10**back) for back in range(13, -1, -1)]
    data = reports.render(figures(KINDS, {"pending": 1, "done": 10**12}, days))
    assert_legible(data)
    found = pages(data)
    assert len(found) == 4
    for page in found[1:]:
        texts = [text for *_, text in page]
        assert texts[:3] == ["source", "event", "messages"]
    for number, page in enumerate(found, 1):
        assert f"Page {number} of 4" in "".join(text for *_, text in page)
    whole = "".join(words(data))
    assert "x" * 255 in whole.replace("3", "")
    assert "Ärger ??" in whole
    assert_legible(reports.render(figures()))


def test_more_kinds_than_anybody_reads_are_told_as_one():
    kinds = [(f"s-{number % 300}", f"e{number}", 2) for number in range(2000)]
    found = words(reports.render(figures(kinds)))
    assert "1,000 more kinds" in found
    assert "2,000" in found
    assert "200 more sources" in found


def test_same_figures_are_the_same_bytes():
    data = reports.render(figures(KINDS))
    assert data == reports.render(figures(KINDS))
    assert b"20261001000000Z" in data
    assert data != reports.render(figures(KINDS[:-1]))


def fill(day, count, source="github", kind="push"):
    db.session.execute(insert(Tally.__table__), {"day": day, "source": source, "event": kind, "count": count})
    db.session.commit()


def test_figures_are_of_the_day_in_utc(app):
    fill(DAY, 5)
    fill(DAY, 2, kind="star")
    fill(DAY - timedelta(days=1), 9)
    fill(DAY + timedelta(days=1), 100)
    begins = datetime.combine(DAY, time(), UTC)
    for number, (moment, status) in enumerate(
        [
            (begins, "dead"),
            (begins + timedelta(hours=23, minutes=59, seconds=59), "failed"),
            (begins - timedelta(seconds=1), "pending"),
            (begins + timedelta(days=1), "pending"),
        ]
    ):
        values = {"source": "github", "delivery_id": f"d{number}", "body": "{}"}
        db.session.execute(insert(Message.__table__), {**values, "received_at": moment, "status": status})
    found = reports.figures(DAY)
    assert (found.total, found.kinds) == (7, [("github", "push", 5), ("github", "star", 2)])
    assert found.states == NO_STATES | {"dead": 1, "failed": 1}
    assert found.days[-2:] == [(DAY - timedelta(days=1), 9), (DAY, 7)]
    assert len(found.days) == 14


def test_missing_reports_of_the_last_days_are_made_once(app):
    today = now().date()
    fill(today - timedelta(days=2), 4)
    fill(today, 3)
    assert reports.make_missing() == 7
    assert reports.make_missing() == 0
    found = reports.listed()
    assert [report.day for report in found] == [today - timedelta(days=back) for back in range(1, 8)]
    assert [report.messages for report in found] == [0, 4, 0, 0, 0, 0, 0]
    assert reports.get(today) is None
    report = reports.get(today - timedelta(days=2))
    with storage.current().open(report.storage_key) as file:
        data = file.read()
    assert data.startswith(b"%PDF-")
    assert any("4 processed" in text for text in words(data))
    db.session.delete(report)
    db.session.commit()
    assert reports.make_missing() == 1
    with storage.current().open(report.storage_key) as file:
        assert file.read() == data


def stored(day):
    with storage.current().open(reports.get(day).storage_key) as file:
        return words(file.read())


def test_report_is_made_again_when_more_is_counted_later(app):
    day = now().date() - timedelta(days=1)
    assert reports.make_missing() == 7
    assert "No message was processed." in stored(day)
    fill(day, 4)
    db.session.execute(update(Report).values(made_at=datetime(2026, 1, 1, tzinfo=UTC)))
    db.session.commit()
    assert reports.make_missing() == 1
    assert (reports.get(day).messages, reports.get(day).made_at.date()) == (4, now().date())
    assert any("4 processed" in text for text in stored(day))
    assert reports.make_missing() == 0


def test_report_that_cannot_be_stored_again_stays_as_it_was_and_is_made_later(app, monkeypatch):
    day = now().date() - timedelta(days=1)
    fill(day, 4)
    reports.make_missing()
    fill(day, 3, kind="star")
    with monkeypatch.context() as patched:
        patched.setattr(storage.current(), "save", broken)
        with pytest.raises(storage.StorageError):
            reports.make_missing()
    assert reports.get(day).messages == 4
    assert any("4 processed" in text for text in stored(day))
    assert reports.make_missing() == 1
    assert any("7 processed" in text for text in stored(day))


def broken(key, file):
    raise storage.StorageError("the disk is full")


def test_two_workers_at_once_make_one_report(app, monkeypatch):
    barrier = threading.Barrier(2)
    really = reports.render
    made = []

    def render(found):
        barrier.wait(10)
        return really(found)

    def work():
        with app.app_context():
            made.append(reports._make(DAY))
            db.session.remove()

    monkeypatch.setattr(reports, "render", render)
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(made) == [False, True]
    assert len(db.session.scalars(select(Report)).all()) == 1
