"""Take out of Sentry's events what must not leave the host.

What is known to be harmless stays (the code's own lines, the method, a few headers); every other text goes
through :mod:`flask_ops.scrub`, as in the logs.
"""

from __future__ import annotations

from typing import Any

from . import scrub

#: In lower case. Any other header may be a secret of somebody's own making.
_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "content-length",
        "content-type",
        "host",
        "origin",
        "referer",
        "user-agent",
        "x-request-id",
    }
)
#: Of an outgoing call; the text of a statement or a command stays, its values do not.
_DROPPED_DATA = frozenset({"http.query", "http.fragment", "url.query", "url.fragment", "db.params"})
#: Seen to one by one, or the code's own words: frames hold source lines, and no variables.
_DONE = frozenset({"request", "exception", "threads", "breadcrumbs", "spans", "modules", "sdk"})


def scrubbed(event: dict[str, Any], hint: dict[str, Any], tags: dict[str, str | None]) -> dict[str, Any]:
    """Return an event, or a transaction, with nothing in it that may be a secret.

    :param event: as Sentry's client has prepared it; changed in place.
    :param hint: what Sentry's client knows of it; ``log_record`` is used.
    :param tags: more tags; one that is None is left out.
    """
    event.pop("_meta", None)  # what Sentry's client says of the values that are replaced here
    fields = _structlog_fields(hint)
    if fields:
        event["logentry"] = {"message": fields.pop("event", None), "params": []}
        event["extra"] = fields
    if "request" in event:
        event["request"] = _request(event["request"])
    if isinstance(event.get("user"), dict):
        event["user"].pop("ip_address", None)
    for error in _values(event.get("exception")):
        error["value"] = scrub.text(error.get("value") or "")
    for crumb in _values(event.get("breadcrumbs")):
        _scrub_entry(crumb, "message")
    for span in event.get("spans") or []:
        _scrub_entry(span, "description")
    for key in event.keys() - _DONE:
        event[key] = scrub.value(event[key])
    event["tags"] = {**(event.get("tags") or {}), **{name: value for name, value in tags.items() if value}}
    return event


def plain_breadcrumb(crumb: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """Give a log line's breadcrumb the line's words: structlog hands over all its fields instead."""
    fields = _structlog_fields(hint)
    if fields:
        crumb["message"] = fields.get("event")
    return crumb


def _structlog_fields(hint: dict[str, Any]) -> dict[str, Any]:
    record = hint.get("log_record")
    if record is None or not isinstance(record.msg, dict):
        return {}
    return {name: value for name, value in record.msg.items() if isinstance(value, str | int | float)}


def _request(request: dict[str, Any]) -> dict[str, Any]:
    headers = request.get("headers") or {}
    return {
        "method": request.get("method"),
        "url": scrub.text(request.get("url") or ""),
        "headers": {
            name: scrub.text(str(value)) for name, value in headers.items() if name.lower() in _HEADERS
        },
    }


def _values(interface: Any) -> list[dict[str, Any]]:
    return (interface or {}).get("values") or []


def _scrub_entry(entry: dict[str, Any], words: str) -> None:
    if isinstance(entry.get(words), str):
        entry[words] = scrub.text(entry[words])
    # A program's arguments have no names to know a secret by.
    if entry.get("category") == "subprocess" or str(entry.get("op", "")).startswith("subprocess"):
        entry[words] = (entry.get(words) or "").partition(" ")[0]
    data = entry.get("data")
    if isinstance(data, dict):
        kept = {key: value for key, value in data.items() if key not in _DROPPED_DATA}
        entry["data"] = scrub.value(kept)
