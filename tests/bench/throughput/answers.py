"""What every contestant must answer before it is measured: the same, in full."""

from __future__ import annotations

import http.client
import json
import ssl

import jinja2

from .. import SERVED_DIR
from .views import VIEWS, View


def check(port: int, view: View) -> None:
    """See that a view's answer is the one that it must be.

    :raises RuntimeError: if it is another.
    """
    path, content_type, content = ask(port, view)
    checks = {
        "json": lambda: json.loads(content) == {"hello": "world"},
        "one": lambda: json.loads(content) == row(_key(path)),
        "twenty": lambda: json.loads(content) == [row(key) for key in keys(_key(path))],
        "update": lambda: _is_changed(port, json.loads(content)),
        "page": lambda: content.decode() == page(_key(path)),
        "upload": lambda: json.loads(content) == {"size": len(view.body)},
        "slow": lambda: json.loads(content) == {"peer": {"waited": "1s"}},
    }
    wanted = "text/html" if view.name == "page" else "application/json"
    if not content_type.startswith(wanted) or not checks[view.name]():
        raise RuntimeError(f"{path} answered {content_type} {content[:300]!r}")


def ask(port: int, view: View, path: str = "") -> tuple[str, str, bytes]:
    """Return a path of the view, the one given or its last, and its answer's media type and content.

    :raises RuntimeError: if the answer is not 200.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    headers = {"Content-Type": view.content_type} if view.body is not None else {}
    path = path or view.paths[-1]
    connection.request("GET" if view.body is None else "POST", path, view.body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {content[:300]!r}")
    return path, answer.headers["Content-Type"], content


def row(key: int) -> dict[str, object]:
    """Return a row as schema.sql makes it and no view changes it."""
    return {"id": key, "name": f"Item <{key}>", "value": key * 7 % 10_007}


def keys(start: int) -> list[int]:
    """Return the keys of the rows that ``/twenty/<start>`` answers."""
    return [1 + (start + 7919 * number) % 10_000 for number in range(20)]


def page(start: int) -> str:
    """Return the page of ten rows."""
    loader = jinja2.FileSystemLoader(SERVED_DIR / "templates")
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("items.html")
    return template.render(items=[row(key) for key in range(start, start + 10)])


def _key(path: str) -> int:
    return int(path.rpartition("/")[2])


def _is_changed(port: int, answer: dict[str, object]) -> bool:
    """Say whether a row is as it was answered, and is not as it was made."""
    _, _, content = ask(port, VIEWS["one"], f"/one/{answer['id']}")
    made = row(answer["id"])
    return json.loads(content) == answer and answer == made | {"value": answer["value"]} != made
