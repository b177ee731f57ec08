"""The pages for files, in and out."""

import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from inbox import storage
from inbox.messages import csv_file, file_pages, reports
from inbox.messages.models import ImportFile, ImportProblem, Message
from inbox.models import db, now
from markup import Page, faults
from sqlalchemy import select

NEW = "/files/imports/new"


def content(count, *more):
    moment = datetime(2026, 9, 1, tzinfo=UTC)
    rows = [csv_file.row("shop", f"d-{number}", "sale", moment, '{"n": 1}') for number in range(count)]
    return csv_file.header() + b"".join([*rows, *more])


def hand_in(client, data, name="old.csv", **fields):
    return client.post(
        NEW, data={"file": (io.BytesIO(data), name), **fields}, content_type="multipart/form-data"
    )


@pytest.fixture
def add(app):
    """Put an import into the database; return its id."""

    def add(problems=0, **values):
        with app.app_context():
            values = {
                "name": "a.csv",
                "storage_key": "imports/a.csv",
                "bytes_total": 1000,
                "created_at": now(),
                **values,
            }
            file = ImportFile(**values)
            db.session.add(file)
            db.session.flush()
            for line in range(2, 2 + problems):
                db.session.add(ImportProblem(import_file_id=file.id, line=line, error=f"Wrong <b>{line}</b>"))
            db.session.commit()
            return file.id

    return add


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_every_page_can_be_used_by_everybody(app, client, sign_in, add, role):
    sign_in(role)
    empty = ["/files/imports", "/files/reports"]
    for path in empty:
        assert faults(client.get(path).text) == [], path
    ids = [
        add(3, status=status, error="why" if status == "failed" else None)
        for status in ("waiting", "reading", "done", "failed")
    ]
    with app.app_context():
        reports.make_missing()
    for path in [
        *empty,
        *(f"/files/imports/{number}" for number in ids),
        *([NEW] if role == "operator" else []),
    ]:
        assert faults(client.get(path).text) == [], path


@pytest.mark.parametrize(
    "path", ["/files/imports", NEW, "/files/imports/1", "/files/reports", "/files/messages.csv"]
)
def test_nobody_sees_anything(client, path):
    assert client.get(path).headers["Location"].startswith("/auth/sign-in")


def test_file_is_taken_and_read(client, sign_in):
    sign_in("operator")
    answer = hand_in(
        client, content(3, b"shop,d-0,sale,2026-09-01T00:00:00Z,{}\n", b"wrong\n"), name="../old.csv"
    )
    assert answer.status_code == 303, answer.text
    page = client.get(answer.headers["Location"]).text
    facts = dict(re.findall(r"<dt>(\w+)</dt><dd>([\d,]+)</dd>", page))
    assert (facts["Imported"], facts["Duplicates"], facts["Refused"]) == ("3", "1", "1")
    assert "<bdi>old.csv</bdi></h1>" in page
    assert '<th scope="row" data-label="Line">6</th>' in page
    assert "http-equiv" not in page
    assert "old.csv" in client.get("/files/imports").text


def test_viewer_hands_in_nothing(app, client, sign_in):
    sign_in("viewer")
    assert hand_in(client, content(1)).status_code == 403
    assert NEW not in client.get("/files/imports").text


@pytest.mark.parametrize("fields", [{}, {"file": (io.BytesIO(b""), "")}])
def test_form_without_a_file_says_so_at_its_field(client, sign_in, fields):
    sign_in("operator")
    answer = client.post(NEW, data=fields, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert 'aria-describedby="file-hint file-error"' in answer.text
    assert '<a href="#file">CSV file: Choose a file.</a>' in answer.text
    assert faults(answer.text) == []


def test_file_may_be_larger_than_other_forms_and_no_larger_than_it_may(app, client, sign_in):
    app.config["IMPORT_MAX_BYTES"] = 2 * app.config["MAX_CONTENT_LENGTH"]
    sign_in("operator")
    filler = csv_file.row("shop", "d-x", "sale", now(), '{"long": "%s"}' % ("x" * 700_000))
    assert hand_in(client, content(0, filler)).status_code == 303
    answer = hand_in(client, content(0, filler, filler))
    assert answer.status_code == 413
    assert "The file is larger than 1.0 MiB." in answer.text
    assert faults(answer.text) == []
    with app.app_context():
        assert len(db.session.scalars(select(ImportFile)).all()) == 1


def test_token_is_checked_after_the_role_and_before_anything_is_kept(app, client, sign_in):
    app.config["WTF_CSRF_ENABLED"] = True
    assert hand_in(client, content(1)).headers["Location"].startswith("/auth/sign-in"), (
        "before the file is read"
    )
    app.config["WTF_CSRF_ENABLED"] = False
    sign_in("operator")
    app.config["WTF_CSRF_ENABLED"] = True
    assert hand_in(client, content(1)).status_code == 400
    assert hand_in(client, content(1), csrf_token="forged").status_code == 400
    with app.app_context():
        assert db.session.scalars(select(ImportFile)).all() == []
    (token,) = {
        field["value"]
        for field in Page(client.get(NEW).text).all("input")
        if field.get("name") == "csrf_token"
    }
    assert hand_in(client, content(1), csrf_token=token).status_code == 303


def test_large_form_of_a_stranger_is_not_read(client):
    """A redirect comes at once, whatever is being sent."""

    class Untouchable(io.BytesIO):
        def read(self, *_):
            raise AssertionError("somebody read it")

        readinto = readline = read

    answer = client.post(
        NEW,
        input_stream=Untouchable(b"x" * 1000),
        content_length=1000,
        content_type="multipart/form-data; boundary=b",
    )
    assert answer.status_code == 302


def test_storage_that_is_away_is_said(app, client, sign_in, tmp_path):
    sign_in("operator")
    (tmp_path / "a file").write_text("")
    app.extensions["storage"] = storage.from_url(f"file://{tmp_path}/a file/in the way")
    answer = hand_in(client, content(1))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "The storage does not answer." in answer.text
    with app.app_context():
        assert db.session.scalars(select(ImportFile)).all() == []


def test_report_in_a_storage_that_is_away_may_be_asked_for_again(app, client, sign_in, tmp_path):
    sign_in("viewer")
    with app.app_context():
        reports.make_missing()
        path = f"/files/reports/{reports.listed()[0].day}.pdf"
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    (tmp_path / "files").write_text("in the way")
    answer = client.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Content-Disposition" not in answer.headers


@pytest.mark.parametrize(
    ("status", "moves"), [("waiting", True), ("reading", True), ("done", False), ("failed", False)]
)
def test_only_what_moves_refreshes_and_it_can_be_told_not_to(client, sign_in, add, status, moves):
    sign_in("viewer")
    number = add(status=status, bytes_read=420)
    for path in ("/files/imports", f"/files/imports/{number}"):
        page = client.get(path).text
        assert ('<meta http-equiv="refresh" content="5">' in page) == moves
        assert ("<progress" in page) == moves
        assert "http-equiv" not in client.get(f"{path}?still").text
    assert ("42&nbsp;%" in page) == moves


@pytest.mark.parametrize(
    ("status", "read", "total", "percent"),
    [
        ("waiting", 0, 0, 0),
        ("reading", 0, 7, 0),
        ("reading", 7, 7, 99),
        ("reading", 3, 7, 42),
        ("done", 7, 7, 100),
        ("done", 0, 0, 100),
    ],
)
def test_percent_is_whole_only_when_all_is_done(status, read, total, percent):
    assert file_pages.percent(ImportFile(status=status, bytes_read=read, bytes_total=total)) == percent


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (1024**3, "1.0 GiB"), (2**50, "1,024.0 TiB")],
)
def test_sizes_are_said_with_their_unit(count, words):
    assert file_pages.size(count) == words


def test_problems_come_in_pages_as_text(client, sign_in, add):
    sign_in("viewer")
    size = file_pages.PROBLEMS_PAGE_SIZE
    number = add(size + 1, status="done", refused=20_000)
    first = client.get(f"/files/imports/{number}").text
    assert first.count("Wrong &lt;b&gt;") == size
    assert "Of the first 10,000 the reason is kept." in first
    more = re.search(r'<a href="([^"]+)" rel="next"', first)[1]
    second = client.get(more).text
    assert second.count("Wrong &lt;b&gt;") == 1
    assert 'rel="next"' not in second
    assert client.get(f"/files/imports/{number}?after=x").status_code == 400


def test_list_of_imports_comes_in_pages(client, sign_in, add):
    sign_in("viewer")
    for _ in range(file_pages.PAGE_SIZE + 1):
        add(status="done")
    first = client.get("/files/imports").text
    second = client.get(re.search(r'<a href="([^"]+)" rel="next"', first)[1]).text
    assert [page.count('href="/files/imports/') for page in (first, second)] == [file_pages.PAGE_SIZE, 1]
    assert re.search(r'<a href="([^"]+)" rel="prev"', second)[1] == "/files/imports"
    assert "no imports older than these" in client.get("/files/imports?cursor=1").text


@pytest.mark.parametrize(
    "path",
    [
        "/files/imports/9",
        f"/files/imports/{2**63}",
        "/files/imports/0",
        "/files/reports/2026-09-01.pdf",
        "/files/reports/..%2f.pdf",
        "/files/reports/x.pdf",
    ],
)
def test_what_is_not_there_is_not_found(client, sign_in, path):
    sign_in("viewer")
    assert client.get(path).status_code == 404


def test_export_gives_what_the_filters_match(app, client, sign_in):
    sign_in("viewer")
    with app.app_context():
        for number in range(3):
            status = "dead" if number else "done"
            db.session.add(
                Message(
                    source="shop",
                    delivery_id=f"d-{number}",
                    event="sale",
                    body="{}",
                    status=status,
                    received_at=now(),
                )
            )
        db.session.commit()
    answer = client.get("/files/messages.csv?status=dead&q=")
    assert [line.split(",")[1] for line in answer.text.splitlines()] == ["delivery_id", "d-1", "d-2"]
    assert answer.mimetype == "text/csv"
    assert re.fullmatch(
        r'attachment; filename="messages-\d{8}T\d{6}Z.csv"', answer.headers["Content-Disposition"]
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/files/messages.csv?since=x").status_code == 400


def test_export_tells_whom_it_leaves_out_where_it_is_asked_for(app, client, sign_in):
    sign_in("viewer")
    with app.app_context():
        db.session.add(Message(source="shop", body="=1+1", title="of old", received_at=now()))
        db.session.commit()
    page = client.get("/messages").text
    assert "of old" in page
    assert "An export leaves out messages without a delivery id" in page
    assert len(client.get("/files/messages.csv").text.splitlines()) == 1
    described = client.get("/api/v1/openapi.json").json["paths"]["/api/v1/exports/messages.csv"]["get"]
    assert "without a delivery id" in described["description"]


def test_reports_are_listed_and_given(app, client, sign_in):
    sign_in("viewer")
    with app.app_context():
        assert reports.make_missing() == reports.DAYS_BACK
        yesterday = now().date() - timedelta(days=1)
        key = reports.get(yesterday).storage_key
    page = client.get("/files/reports").text
    assert page.count(".pdf") == reports.DAYS_BACK
    path = f"/files/reports/{yesterday}.pdf"
    assert f'href="{path}"' in page
    answer = client.get(path)
    assert answer.data.startswith(b"%PDF-")
    assert answer.mimetype == "application/pdf"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="inbox-{yesterday}.pdf"'
    answer.close()
    with app.app_context():
        storage.current().delete(key)
    gone = client.get(path)
    assert gone.status_code == 404
    assert "not in the storage" in gone.text


def test_page_without_reports_says_when_there_will_be_one(client, sign_in):
    sign_in("viewer")
    assert "There is no report yet." in client.get("/files/reports").text
