"""flask-smorest, told what is the same for every resource."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Request, abort
from flask_smorest import Api
from flask_smorest import Blueprint as SmorestBlueprint
from webargs import core
from webargs.core import is_json
from webargs.flaskparser import FlaskParser

from ..errors import PROBLEM

VERSION = "v1"
PREFIX = f"/api/{VERSION}"
#: What any resource may answer, besides what it says itself.
USUAL_ERRORS = {
    400: "The request cannot be understood.",
    401: "There is no token, or it is not good.",
    403: "The token's role may not do this.",
    404: "There is no such thing.",
    413: "The body is too large.",
    415: "The body's content type is not taken.",
    422: "What was sent is not as it should be; `errors` names each field.",
    429: "Too many requests: wait as long as Retry-After says.",
    500: "A defect of this service; `request_id` finds it in its log.",
    503: "Something the answer needs is away: wait as long as Retry-After says.",
}
CONFIG = {
    "API_TITLE": "Inbox",
    "API_VERSION": VERSION,
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": PREFIX,
    "OPENAPI_JSON_PATH": "openapi.json",
}


class Problem(ma.Schema):
    """What every error is answered with (RFC 9457)."""

    type = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    status = ma.fields.Integer(required=True)
    detail = ma.fields.String(allow_none=True)
    request_id = ma.fields.String(allow_none=True)
    errors = ma.fields.Dict(keys=ma.fields.String())


class Service(Api):
    """The API of one app. Errors are the app's own, see :mod:`inbox.errors`."""

    ERROR_SCHEMA = Problem
    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        """Make the document that resources describe themselves in."""
        tokens = {
            "access": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "refresh": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        }
        super().__init__(
            app,
            spec_kwargs={
                "info": {"description": "Webhooks received: find them, replay them, take them out."},
                "marshmallow_plugin": MarshmallowPlugin(),
                "components": {"securitySchemes": tokens},
            },
        )

    def _register_error_handlers(self) -> None:
        """Leave errors to the app: one format for the whole of it."""

    def _register_responses(self) -> None:
        """Describe errors as what they are; flask-smorest would call them application/json."""
        for status, words in USUAL_ERRORS.items():
            content = {PROBLEM: {"schema": Problem}}
            self.spec.components.response(f"Problem{status}", {"description": words, "content": content})

    def _register_pagination_header(self) -> None:
        """Leave out what no resource has: pages go by cursor, see :mod:`inbox.paging`."""


class Parser(FlaskParser):
    """Reads requests, and refuses what cannot be read with the right words."""

    # Answers are written by what a client meant: a misspelt filter would silently match everything.
    DEFAULT_UNKNOWN_BY_LOCATION: ClassVar = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": ma.RAISE}

    def _raw_load_json(self, req: Request) -> Any:
        """Return the body, parsed.

        :raises RequestEntityTooLarge: if it is too large, and its length was not said.
        :raises UnsupportedMediaType: if there is one that does not say that it is JSON.
        :raises BadRequest: if it is not JSON, or nested too deep, or has a number of thousands of digits.
        """
        body = req.get_data(cache=True)
        limit = req.max_content_length
        if not req.content_length and limit is not None and len(body) >= limit:
            abort(413)  # Werkzeug has cut it off at the limit, in silence
        if not is_json(req.mimetype):
            if body:
                abort(415, "The body must be JSON: say so by Content-Type: application/json.")
            return core.missing
        try:
            return super()._raw_load_json(req)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            self._handle_invalid_json_error(error, req)


class Blueprint(SmorestBlueprint):
    """Resources of the API."""

    ARGUMENTS_PARSER = Parser()

    def __init__(self, name: str, import_name: str, **kwargs: Any) -> None:
        """Put the resources below the API's address."""
        path = kwargs.pop("url_prefix", "")
        super().__init__(name, import_name, url_prefix=PREFIX + path, **kwargs)
        self._prepare_doc_cbks += [_describe_errors, _describe_token]

    def _store_endpoint_docs(self, endpoint: str, obj: Any, *args: Any, **options: Any) -> None:
        """Name the operation too: generated clients call their functions so."""
        super()._store_endpoint_docs(endpoint, obj, *args, **options)
        for described in self._docs[endpoint].values():
            if isinstance(described, dict):
                described.setdefault("manual_doc", {}).setdefault("operationId", endpoint)


def _describe_errors(doc: dict[str, Any], doc_info: dict[str, Any], **_: Any) -> dict[str, Any]:
    # To flask-smorest an error that an operation names itself is application/json: it is a problem too.
    answers = doc.setdefault("responses", {})
    for status, answer in answers.items():
        if int(status) >= 400 and isinstance(answer, dict):
            answer["content"] = {PROBLEM: {"schema": "Problem"}}
    for status in USUAL_ERRORS:
        answers.pop(status, None)
        answers[str(status)] = f"Problem{status}"
    return doc


def _describe_token(doc: dict[str, Any], doc_info: dict[str, Any], **_: Any) -> dict[str, Any]:
    # See inbox.auth.tokens.requires.
    doc["security"] = [{doc_info["token"]: []}] if "token" in doc_info else []
    return doc
