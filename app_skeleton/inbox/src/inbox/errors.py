"""Answer errors in the language of the question: problem+json (RFC 9457) below /api/, a page elsewhere."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, render_template, request
from flask_ops.request_id import current_request_id
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wrappers import Response as WerkzeugResponse

from .messages import InvalidMessage


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(InvalidMessage, invalid_message)
    app.register_error_handler(PoolTimeout, overloaded)


def http_error(error: HTTPException) -> WerkzeugResponse:
    """Answer an HTTP error, whoever raised it; an unhandled exception arrives here as a 500."""
    answer = error.get_response()
    if answer.status_code < HTTPStatus.BAD_REQUEST:  # a redirect of the router's
        return answer
    return _render(answer, error.name, error.description)


def invalid_message(error: InvalidMessage) -> WerkzeugResponse:
    """Say which fields are wrong."""
    answer = Response(status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return _render(answer, "Unprocessable Content", "The message cannot be taken.", errors=error.errors)


def overloaded(error: PoolTimeout) -> WerkzeugResponse:
    """Say that every database connection is busy: the caller may try again, nothing was begun."""
    current_app.logger.warning("no free database connection")
    return http_error(ServiceUnavailable("All database connections are busy.", retry_after=1))


def _render(answer: WerkzeugResponse, title: str, detail: str | None, **members: Any) -> WerkzeugResponse:
    # The answer is kept and not remade: it carries Allow, Retry-After and the like.
    if request.path.startswith("/api/"):
        problem = {
            "type": "about:blank",
            "title": title,
            "status": answer.status_code,
            "detail": detail,
            **members,
        }
        answer.data = json.dumps(problem).encode() + b"\n"
        answer.content_type = "application/problem+json"
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
