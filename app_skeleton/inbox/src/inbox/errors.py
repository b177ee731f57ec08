"""Answer errors in the language of the question: problem details (RFC 9457) to programs, a page to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, render_template, request
from flask_ops.request_id import current_request_id
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, NotFound, ServiceUnavailable
from werkzeug.wrappers import Response as WerkzeugResponse

from .storage import NotStored, StorageError
from .store import StoreUnavailable

PROBLEM = "application/problem+json"
#: Where programs ask; everything else is for people.
PROGRAMS = ("/api/", "/hooks/")


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(PoolTimeout, overloaded)
    app.register_error_handler(OperationalError, database_unavailable)
    app.register_error_handler(StoreUnavailable, store_unavailable)
    app.register_error_handler(StorageError, storage_unavailable)
    app.register_error_handler(NotStored, not_stored)
    app.register_error_handler(CSRFError, form_too_old)


def http_error(error: HTTPException) -> WerkzeugResponse:
    """Answer an HTTP error, whoever raised it; an unhandled exception arrives here as a 500."""
    answer = error.get_response()
    if answer.status_code < HTTPStatus.BAD_REQUEST:  # a redirect of the router's
        return answer
    # What webargs found wrong: place (json, query), then field, then reasons.
    found = getattr(error, "data", None) or {}
    errors = {"errors": found["messages"]} if "messages" in found else {}
    detail = "Some of what was sent is not as it should be." if errors else error.description
    answer.headers.extend(found.get("headers") or {})
    return _render(answer, error.name, detail, **errors)


def overloaded(error: PoolTimeout) -> WerkzeugResponse:
    """Say that every database connection is busy: the caller may try again, nothing was begun."""
    current_app.logger.warning("no free database connection")
    return http_error(ServiceUnavailable("All database connections are busy.", retry_after=1))


def database_unavailable(error: OperationalError) -> WerkzeugResponse:
    """Say that the database is away, or gave up: the same question may be answered later."""
    current_app.logger.error("the database does not answer", exc_info=error)
    return http_error(ServiceUnavailable("The database does not answer.", retry_after=5))


def store_unavailable(error: StoreUnavailable) -> WerkzeugResponse:
    """Say that nobody can tell whether a token is good: neither yes nor no would be right."""
    current_app.logger.warning("the store does not answer")
    return http_error(ServiceUnavailable("Tokens cannot be checked right now.", retry_after=2))


def storage_unavailable(error: StorageError) -> WerkzeugResponse:
    """Say that files can be neither stored nor read; why stands in the log, for whoever can mend it."""
    current_app.logger.error("the storage does not answer: %s", error)
    return http_error(ServiceUnavailable("The storage does not answer.", retry_after=5))


def not_stored(error: NotStored) -> WerkzeugResponse:
    """Say that a file is gone: to ask again would not bring it back."""
    current_app.logger.warning("a file is gone: %s", error)
    return http_error(NotFound("The file is not in the storage any more."))


def form_too_old(error: CSRFError) -> WerkzeugResponse:
    """Say what to do about a form without a good CSRF token."""
    error.description = (
        "The form is not from your session, or older than it: go back, reload the page, send it again."
    )
    return http_error(error)


def problem(
    status: int, detail: str | None, *, headers: Mapping[str, str] | None = None, **members: Any
) -> WerkzeugResponse:
    """Return a problem document, or a page for people.

    :param status: the HTTP status.
    :param detail: what is wrong, for whoever reads it.
    :param headers: further headers.
    :param members: further members of the document.
    """
    return _render(Response(status=status, headers=headers), HTTPStatus(status).phrase, detail, **members)


def _render(answer: WerkzeugResponse, title: str, detail: str | None, **members: Any) -> WerkzeugResponse:
    # The answer is kept and not remade: it carries Allow, Retry-After and the like.
    if f"{request.path}/".startswith(PROGRAMS):
        document = {
            "type": "about:blank",
            "title": title,
            "status": answer.status_code,
            "detail": detail,
            "request_id": current_request_id(),
            **members,
        }
        answer.data = json.dumps(document).encode() + b"\n"
        answer.content_type = PROBLEM
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            # RFC 9110, section 11.6.1: it says how to do better.
            answer.headers.setdefault("WWW-Authenticate", "Bearer")
    else:
        answer.data = render_template(
            "error.html",
            status=answer.status_code,
            title=title,
            detail=detail,
            request_id=current_request_id(),
        )
        answer.content_type = "text/html; charset=utf-8"
    return answer
