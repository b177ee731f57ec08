import pytest
from inbox import storage
from inbox.messages import csv_file, reports
from inbox.messages.models import ImportFile
from inbox.models import db, now
from sqlalchemy import select

IMPORTS = "/api/v1/imports"


def hand_in(client, bearer, content, **options):
    return client.post(IMPORTS, data=content, content_type="text/csv", headers=bearer, **options)


def rows(count):
    lines = [csv_file.row("shop", f"d-{n}", "sale", now(), f'{{"n": {n}}}') for n in range(count)]
    return csv_file.header() + b"".join(lines)


def test_file_handed_in_is_read_and_comes_out_as_it_went_in(client, bearer):
    token = bearer("operator")
    given = rows(7)
    taken = hand_in(client, token, given + b"no,message\n", query_string={"name": "old.csv"})
    assert (taken.status_code, taken.json["name"]) == (202, "old.csv")
    address = f"{IMPORTS}/{taken.json['id']}"
    shown = client.get(address, headers=token).json
    assert (shown["status"], shown["imported"], shown["duplicates"], shown["refused"]) == ("done", 7, 0, 1)
    problems = client.get(f"{address}/problems", headers=token).json
    assert ([problem["line"] for problem in problems["problems"]], problems["next_cursor"]) == ([9], None)
    (again,) = client.get(IMPORTS, headers=token).json["imports"]
    assert again == shown
    out = client.get("/api/v1/exports/messages.csv", headers=token)
    assert (out.mimetype, sorted(out.data.splitlines())) == ("text/csv", sorted(given.splitlines()))
    some = client.get("/api/v1/exports/messages.csv?q=d-3&source=shop", headers=token)
    assert len(some.data.splitlines()) == 2


def test_problems_come_in_pages(client, bearer):
    token = bearer()
    import_id = hand_in(client, token, rows(0) + b"x\n" * 5).json["id"]
    lines, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{IMPORTS}/{import_id}/problems?limit=2&cursor={cursor}", headers=token).json
        lines += [problem["line"] for problem in page["problems"]]
        cursor = page["next_cursor"]
    assert lines == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content_type": "application/json"}, 415),
        ({"content_type": "text/csv", "query_string": {"name": "n" * 256}}, 422),
    ],
)
def test_what_is_no_file_is_refused(app, client, bearer, options, status):
    answer = client.post(IMPORTS, data=b"x", headers=bearer(), **options)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    with app.app_context():
        assert db.session.scalars(select(ImportFile)).all() == []


def test_file_that_is_too_large_is_refused_before_it_is_read(app, client, bearer):
    token = bearer()
    app.config["IMPORT_MAX_BYTES"] = 10
    assert hand_in(client, token, b"x" * 11).status_code == 413


def test_storage_that_is_away_is_said_and_nothing_is_kept(app, client, bearer, tmp_path):
    token = bearer("operator")
    with app.app_context():
        reports.make_missing()
        day = reports.listed()[0].day
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    (tmp_path / "files").write_text("in the way")
    for answer in (hand_in(client, token, rows(1)), client.get(f"/api/v1/reports/{day}", headers=token)):
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json"), answer.text
        assert (answer.headers["Retry-After"], answer.json["detail"]) == ("5", "The storage does not answer.")
    with app.app_context():
        assert db.session.scalars(select(ImportFile)).all() == []


def test_report_whose_file_is_gone_is_not_found(app, client, bearer):
    token = bearer("viewer")
    with app.app_context():
        reports.make_missing()
        report = reports.listed()[0]
        day, key = report.day, report.storage_key
        storage.current().delete(key)
    answer = client.get(f"/api/v1/reports/{day}", headers=token)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert "not in the storage" in answer.json["detail"]


def test_viewer_hands_nothing_in(client, bearer):
    assert hand_in(client, bearer("viewer"), rows(1)).status_code == 403


@pytest.mark.parametrize("path", ["imports/9", "imports/9/problems", "reports/2026-09-01", "reports/x"])
def test_what_is_not_there_is_not_found(client, bearer, path):
    assert client.get(f"/api/v1/{path}", headers=bearer()).status_code == 404


def test_days_report_is_listed_and_handed_out(app, client, bearer):
    token = bearer("viewer")
    with app.app_context():
        assert reports.make_missing() > 0
    listed = client.get("/api/v1/reports", headers=token).json["reports"]
    report = client.get(f"/api/v1/reports/{listed[0]['day']}", headers=token)
    assert (report.mimetype, report.data[:5]) == ("application/pdf", b"%PDF-")


def test_import_that_failed_says_why(client, bearer):
    token = bearer()
    import_id = hand_in(client, token, b"no header of ours\n").json["id"]
    shown = client.get(f"{IMPORTS}/{import_id}", headers=token).json
    assert (shown["status"], bool(shown["error"]), bool(shown["ended_at"])) == ("failed", True, True)
