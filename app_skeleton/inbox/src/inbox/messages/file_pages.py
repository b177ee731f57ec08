"""The pages for files: CSV in and out, and the reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, send_file, url_for
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from sqlalchemy import select
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response

from .. import storage
from .. import tasks as celery_of_app
from ..auth import sessions
from ..extensions import csrf
from ..models import ID_MAX, db, now
from ..paging import cursor_of, newest
from . import csv_file, exports, imports, reports
from .filter_form import FilterForm
from .models import ImportFile, ImportProblem
from .tasks import read_import

PAGE_SIZE = 25
PROBLEMS_PAGE_SIZE = 100
#: Of a form beside its file: a token, names, boundaries.
FORM_ROOM_BYTES = 64 * 1024
REFRESH_SECONDS = 5
UNFINISHED = ("waiting", "reading")

bp = Blueprint("files", __name__, url_prefix="/files", template_folder="templates")


class ImportForm(FlaskForm):
    """A CSV file."""

    file = FileField(
        "CSV file", [FileRequired("Choose a file.")], render_kw={"accept": ".csv,text/csv", "required": True}
    )


@bp.app_template_filter("size")
def size(count: int) -> str:
    """Return a number of bytes in words."""
    amount, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count:,} bytes" if unit == "bytes" else f"{amount:,.1f} {unit}"


@bp.app_template_filter("percent")
def percent(file: ImportFile) -> int:
    """Return how much of a file is read; 100 only when all of it is."""
    if file.status == "done":
        return 100
    return min(99, file.bytes_read * 100 // file.bytes_total) if file.bytes_total else 0


@bp.get("/imports")
@sessions.requires("viewer")
def list_imports() -> str:
    """List the files that were handed in, newest first."""
    cursor = cursor_of(request.args.get("cursor"))
    page = newest(select(ImportFile), ImportFile.id, PAGE_SIZE, cursor)
    return render_template(
        "messages/imports.html", page=page, first=cursor is None, refresh=_refresh_seconds(page.items)
    )


@bp.get("/imports/new")
@sessions.requires("operator")
def new_import() -> str:
    """Ask for a file."""
    return _form(ImportForm())


@bp.post("/imports/new")
# Checked below: here the hook before requests would read the form with the small limit of other forms,
# whoever sent it.
@csrf.exempt
@sessions.requires("operator")
def take_import() -> Response | tuple[str, int]:
    """Take a file, and have it read."""
    request.max_content_length = current_app.config["IMPORT_MAX_BYTES"] + FORM_ROOM_BYTES
    try:
        if current_app.config["WTF_CSRF_ENABLED"]:
            csrf.protect()
        form = ImportForm()
    except RequestEntityTooLarge:
        form = ImportForm(formdata=None)
        form.file.errors = [f"The file is larger than {size(current_app.config['IMPORT_MAX_BYTES'])}."]
        return _form(form), 413
    if not form.validate():
        return _form(form), 422
    sent = form.file.data
    file = imports.begin(sent.filename, sent.stream)
    celery_of_app.send_soon(read_import, file.id)
    flash("The file is here and is being read.")
    return redirect(url_for("files.show_import", import_id=file.id), 303)


def _form(form: ImportForm) -> str:
    return render_template(
        "messages/import_new.html",
        form=form,
        columns=csv_file.COLUMNS,
        limit=current_app.config["IMPORT_MAX_BYTES"],
    )


@bp.get("/imports/<int:import_id>")
@sessions.requires("viewer")
def show_import(import_id: int) -> str:
    """Show how far a file is read, and which lines could not be taken."""
    file = db.session.get(ImportFile, import_id) if 0 < import_id <= ID_MAX else None
    if file is None:
        abort(404, "There is no such import.")
    after = cursor_of(request.args.get("after")) or 0
    found = _problems(file, after)
    return render_template(
        "messages/import_show.html",
        file=file,
        problems=found[:PROBLEMS_PAGE_SIZE],
        first=not after,
        more_after=found[PROBLEMS_PAGE_SIZE - 1].line if len(found) > PROBLEMS_PAGE_SIZE else None,
        kept=imports.PROBLEMS_MAX,
        refresh=_refresh_seconds([file]) if not after else None,
    )


def _problems(file: ImportFile, after: int) -> Sequence[ImportProblem]:
    """Return a page of what was wrong after a line, and one more if there is more."""
    query = (
        select(ImportProblem)
        .where(ImportProblem.import_file_id == file.id, ImportProblem.line > after)
        .order_by(ImportProblem.line)
        .limit(PROBLEMS_PAGE_SIZE + 1)
    )
    return db.session.scalars(query).all()


def _refresh_seconds(files: Sequence[ImportFile]) -> int | None:
    """Return how soon a page is to refresh: only while something on it moves, and it was not told to stop."""
    moves = any(file.status in UNFINISHED for file in files)
    return REFRESH_SECONDS if moves and "still" not in request.args else None


@bp.get("/messages.csv")
@sessions.requires("viewer")
def export() -> Response:
    """Give the messages that a list's filters match as CSV, a piece at a time."""
    form = FilterForm()
    if not form.validate():
        abort(400, "These filters are not understood: correct them above the list of messages.")
    answer = Response(exports.stream(form.wanted()), mimetype="text/csv")
    return _for_keeping(answer, f"messages-{now():%Y%m%dT%H%M%SZ}.csv")


@bp.get("/reports")
@sessions.requires("viewer")
def list_reports() -> str:
    """List the days' reports, newest first."""
    return render_template("messages/reports.html", reports=reports.listed())


@bp.get("/reports/<day>.pdf")
@sessions.requires("viewer")
def report(day: str) -> Response:
    """Give a day's report."""
    try:
        found = reports.get(date.fromisoformat(day))
    except ValueError:
        found = None
    if found is None:
        abort(404, "There is no report of that day.")
    answer = send_file(storage.current().open(found.storage_key), mimetype="application/pdf")
    return _for_keeping(answer, f"inbox-{found.day:%Y-%m-%d}.pdf")


def _for_keeping(answer: Any, name: str) -> Response:
    """Have a browser keep an answer as a file under a name of ours, and show nothing of it."""
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-store"
    return answer
