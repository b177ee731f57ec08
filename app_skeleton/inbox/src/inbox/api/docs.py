"""The API's documentation as a page, drawn from the OpenAPI document: no script, and nobody else's host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from flask import Blueprint, current_app, render_template, request

from ..auth import sessions

bp = Blueprint("docs", __name__, url_prefix="/api/docs")
METHODS = ("get", "post", "put", "patch", "delete")
_SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Type:
    """What a value is.

    :param words: for people.
    :param schema: the schema it is described by, empty for none.
    """

    words: str
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter, or a field of a schema.

    :param place: where a parameter stands: ``path``, ``query``, ``header``; empty for a field.
    :param limits: what a value must keep to, in words.
    """

    name: str
    place: str
    type: Type
    required: bool
    limits: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the API does, as the page shows it.

    :param anchor: its place on the page.
    :param token: which token it takes, empty for none.
    :param bodies: content type and schema of what may be sent.
    :param answers: status, what it means, content type and schema; None for an answer without a body.
    """

    anchor: str
    tag: str
    method: str
    path: str
    summary: str
    description: str
    token: str
    parameters: list[Value]
    bodies: list[tuple[str, Type]]
    answers: list[tuple[str, str, tuple[str, Type] | None]]


@bp.get("")
def show() -> str:
    """Show the documentation, to everybody."""
    sessions.user()  # whoever has signed in keeps the navigation
    document = current_app.extensions["api"].spec.to_dict()
    found = sorted(operations(document), key=lambda operation: (operation.tag, operation.path))
    return render_template(
        "api/docs.html",
        info=document["info"],
        groups=[(tag, list(group)) for tag, group in groupby(found, lambda operation: operation.tag)],
        words={tag["name"]: tag.get("description", "") for tag in document.get("tags", [])},
        usual=usual_errors(document),
        schemas=schemas(document),
        example=request.host_url.rstrip("/") + _first_to_try(found),
    )


def _first_to_try(found: list[Operation]) -> str:
    """Return the path of an operation that can be tried without knowing more."""
    return next(
        (
            one.path
            for one in found
            if one.method == "GET"
            and "{" not in one.path
            and any(content and content[0] == "application/json" for _, _, content in one.answers)
        ),
        "",
    )


def operations(document: dict[str, Any]) -> list[Operation]:
    """Return everything an OpenAPI document describes."""
    found = []
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                shared = item.get("parameters", [])
                found.append(_operation(document, path, method, item[method], shared))
    return found


def usual_errors(document: dict[str, Any]) -> dict[str, str]:
    """Return what statuses mean that several operations answer alike: said once, above them all."""
    given = document["components"].get("responses", {})
    return {
        name.removeprefix("Problem"): answer["description"]
        for name, answer in given.items()
        if name.startswith("Problem")
    }


def schemas(document: dict[str, Any]) -> dict[str, tuple[str, list[Value]]]:
    """Return the schemas that operations speak of, by name: what each is, and its fields."""
    everything = document["components"].get("schemas", {})
    used: set[str] = set()
    new = set(references([document["paths"], document["components"].get("responses", {})]))
    while new:
        used |= new
        new = {name for known in new for name in references(everything[known])} - used
    return {
        name: (everything[name].get("description", ""), fields(everything[name])) for name in sorted(used)
    }


def references(part: Any) -> Iterator[str]:
    """Yield the names of the schemas that a part of the document refers to."""
    if isinstance(part, dict):
        if str(part.get("$ref", "")).startswith(_SCHEMAS):
            yield part["$ref"].removeprefix(_SCHEMAS)
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from references(inner)


def _operation(
    document: dict[str, Any], path: str, method: str, entry: dict[str, Any], shared: list[dict[str, Any]]
) -> Operation:
    security = entry.get("security") or [{}]
    # What several may answer is said once, above them all.
    given = [one for one in sorted(entry.get("responses", {}).items()) if not _is_usual(one[1])]
    return Operation(
        anchor=re.sub(r"[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-"),
        tag=(entry.get("tags") or [""])[0],
        method=method.upper(),
        path=path,
        summary=entry.get("summary", ""),
        description=entry.get("description", ""),
        token=next(iter(security[0]), ""),
        parameters=[
            _value(found["name"], found["in"], found.get("schema", {}), found.get("required", False), found)
            for found in (resolve(document, one) for one in [*shared, *entry.get("parameters", [])])
        ],
        bodies=_contents(resolve(document, entry.get("requestBody", {}))),
        answers=[
            (status, found.get("description", ""), next(iter(_contents(found)), None))
            for status, found in ((status, resolve(document, one)) for status, one in given)
        ],
    )


def _is_usual(answer: dict[str, Any]) -> bool:
    return answer.get("$ref", "").startswith("#/components/responses/Problem")


def resolve(document: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference of the document points to, or the thing itself."""
    if "$ref" not in given:
        return given
    found: Any = document
    for key in given["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return found


def fields(schema: dict[str, Any]) -> list[Value]:
    """Return a schema's fields."""
    required = schema.get("required", [])
    return [
        _value(name, "", field, name in required, field)
        for name, field in schema.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> Type:
    """Return a schema's type."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Type(name, name)
    kind = schema.get("type", "")
    if kind == "array":
        item = type_of(schema.get("items", {}))
        return Type(f"list of {item.words}", item.schema)
    either = [type_of(one) for name in ("anyOf", "oneOf", "allOf") for one in schema.get(name, [])]
    if either:
        return Type(
            " or ".join(one.words for one in either), next((one.schema for one in either if one.schema), "")
        )
    if "enum" in schema:
        return Type("one of " + ", ".join(str(value) for value in schema["enum"] if value is not None))
    words = " or ".join(kind) if isinstance(kind, list) else kind or "anything"
    return Type(f"{words}, {schema['format']}" if "format" in schema else words)


def _value(name: str, place: str, schema: dict[str, Any], required: bool, described: dict[str, Any]) -> Value:
    return Value(name, place, type_of(schema), required, _limits(schema), described.get("description", ""))


def _limits(schema: dict[str, Any]) -> str:
    found = [
        _between(schema.get("minimum"), schema.get("maximum"), ""),
        _between(schema.get("minLength"), schema.get("maxLength"), " characters"),
        _between(schema.get("minItems"), schema.get("maxItems"), " of them"),
        f"default {schema['default']}" if schema.get("default") is not None else "",
    ]
    return "; ".join(words for words in found if words)


def _between(least: int | None, most: int | None, unit: str) -> str:
    if least is None or most is None:
        return "" if least is most else f"at least {least}{unit}" if most is None else f"at most {most}{unit}"
    return f"{least} to {most}{unit}"


def _contents(given: dict[str, Any]) -> list[tuple[str, Type]]:
    return [(kind, type_of(content.get("schema", {}))) for kind, content in given.get("content", {}).items()]
