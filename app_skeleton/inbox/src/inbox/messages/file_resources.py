"""The domain's API for files: CSV in and out, the days' reports."""

from __future__ import annotations

from datetime import date
from typing import Any

import marshmallow as ma
from flask import Response, abort, current_app, request, send_file
from sqlalchemy import select

from .. import storage
from .. import tasks as celery_of_app
from ..api.service import Blueprint
from ..auth import tokens
from ..models import ID_MAX, db
from ..paging import Page, cursor_of, newest
from . import exports, imports, inbox, reports, schemas
from .models import ImportFile, ImportProblem, Report
from .tasks import read_import

CSV = "text/csv"
PDF = "application/pdf"
BINARY = {"type": "string", "format": "binary"}

imports_bp = Blueprint("imports_api", __name__, url_prefix="/imports", description="CSV in")
exports_bp = Blueprint("exports_api", __name__, url_prefix="/exports", description="CSV out")
reports_bp = Blueprint("reports_api", __name__, url_prefix="/reports", description="Daily reports")
BLUEPRINTS = [imports_bp, exports_bp, reports_bp]


class Paged(ma.Schema):
    """Which page."""

    limit = ma.fields.Integer(
        load_default=schemas.LIMIT_DEFAULT, validate=ma.validate.Range(1, schemas.LIMIT_MAX)
    )
    cursor = schemas.cursor()


class Name(ma.Schema):
    """What to call a file."""

    name = ma.fields.String(load_default="api.csv", validate=[ma.validate.Length(1, 255), schemas.no_nul])


class Import(ma.Schema):
    """A CSV file that was handed in, and how far reading it has come."""

    id = ma.fields.Integer(required=True)
    name = ma.fields.String(required=True)
    status = ma.fields.String(required=True)
    error = ma.fields.String(required=True, allow_none=True)
    bytes_total = ma.fields.Integer(required=True)
    bytes_read = ma.fields.Integer(required=True)
    imported = ma.fields.Integer(required=True)
    duplicates = ma.fields.Integer(required=True)
    refused = ma.fields.Integer(required=True)
    created_at = ma.fields.AwareDateTime(required=True, format="iso")
    ended_at = ma.fields.AwareDateTime(required=True, format="iso", allow_none=True)


class ImportPage(ma.Schema):
    """Some imports, newest first."""

    imports = ma.fields.List(ma.fields.Nested(Import), attribute="items", required=True)
    next_cursor = ma.fields.String(required=True, allow_none=True)


class RefusedLine(ma.Schema):
    """A line that could not be taken."""

    line = ma.fields.Integer(required=True)
    error = ma.fields.String(required=True)


class RefusedLines(ma.Schema):
    """Some of an import's lines that could not be taken, first ones first."""

    problems = ma.fields.List(ma.fields.Nested(RefusedLine), required=True)
    next_cursor = ma.fields.String(required=True, allow_none=True)


class DaysReport(ma.Schema):
    """A day's report."""

    day = ma.fields.Date(required=True)
    messages = ma.fields.Integer(required=True)
    made_at = ma.fields.AwareDateTime(required=True, format="iso")


class DaysReports(ma.Schema):
    """The last days' reports, newest first."""

    reports = ma.fields.List(ma.fields.Nested(DaysReport), required=True)


@imports_bp.post("")
@tokens.requires("operator")
@imports_bp.arguments(Name, location="query")
@imports_bp.response(202, Import)
@imports_bp.doc(requestBody={"required": True, "content": {CSV: {"schema": BINARY}}})
def take_import(given: dict[str, str]) -> ImportFile:
    """Hand in a CSV file as the request's body; it is read in the background"""
    if request.mimetype != CSV:
        abort(415, f"A file is sent as {CSV}.")
    limit = current_app.config["IMPORT_MAX_BYTES"]
    if request.content_length is None:
        abort(411)
    if request.content_length > limit:
        abort(413, f"A file has at most {limit} bytes.")
    request.max_content_length = limit
    file = imports.begin(given["name"], request.stream)
    celery_of_app.send_soon(read_import, file.id)
    return file


@imports_bp.get("")
@tokens.requires("viewer")
@imports_bp.arguments(Paged, location="query")
@imports_bp.response(200, ImportPage)
def list_imports(given: dict[str, Any]) -> Page:
    """List imports, newest first"""
    return newest(select(ImportFile), ImportFile.id, given["limit"], cursor_of(given.get("cursor")))


@imports_bp.get("/<int:import_id>")
@tokens.requires("viewer")
@imports_bp.response(200, Import)
def show_import(import_id: int) -> ImportFile:
    """Show how far a file is read"""
    return _found(import_id)


@imports_bp.get("/<int:import_id>/problems")
@tokens.requires("viewer")
@imports_bp.arguments(Paged, location="query")
@imports_bp.response(200, RefusedLines)
def list_problems(given: dict[str, Any], import_id: int) -> dict[str, Any]:
    """List a file's lines that could not be taken, first ones first"""
    file, after, limit = _found(import_id), cursor_of(given.get("cursor")) or 0, given["limit"]
    query = (
        select(ImportProblem)
        .where(ImportProblem.import_file_id == file.id, ImportProblem.line > after)
        .order_by(ImportProblem.line)
        .limit(limit + 1)
    )
    found = db.session.scalars(query).all()
    next_cursor = str(found[limit - 1].line) if len(found) > limit else None
    return {"problems": found[:limit], "next_cursor": next_cursor}


@exports_bp.get("/messages.csv")
@tokens.requires("viewer")
@exports_bp.arguments(schemas.Filters, location="query")
@exports_bp.response(200, BINARY, content_type=CSV)
def export(given: dict[str, Any]) -> Response:
    """Get messages as CSV, as they are read; the same file can be handed in again

    Messages without a delivery id, which an earlier release took, are left out.
    """
    return Response(exports.stream(inbox.Filters(**given)), mimetype=CSV)


@reports_bp.get("")
@tokens.requires("viewer")
@reports_bp.response(200, DaysReports)
def list_reports() -> dict[str, Any]:
    """List the last days' reports, newest first"""
    return {"reports": reports.listed()}


@reports_bp.get("/<string:day>")
@tokens.requires("viewer")
@reports_bp.response(200, BINARY, content_type=PDF)
@reports_bp.doc(
    parameters=[
        {"name": "day", "in": "path", "required": True, "schema": {"type": "string", "format": "date"}}
    ]
)
def show_report(day: str) -> Response:
    """Get a day's report as PDF"""
    try:
        found: Report | None = reports.get(date.fromisoformat(day))
    except ValueError:
        found = None
    if found is None:
        abort(404, "There is no report of that day.")
    return send_file(storage.current().open(found.storage_key), mimetype=PDF)


def _found(import_id: int) -> ImportFile:
    found = db.session.get(ImportFile, import_id) if 0 < import_id <= ID_MAX else None
    return found or abort(404, "There is no such import.")
