"""A WSGI app without any framework, that does whatever a server must put up with."""

import json
from io import BytesIO

# What differs between two servers whatever they do.
OWN = {"REMOTE_PORT", "SERVER_PORT", "SERVER_NAME"}


def app(environ, start_response):
    """Answer as the path says, with what the request was."""
    body = read(environ)
    told = {key: value for key, value in environ.items() if isinstance(value, (str, int, tuple, bool))}
    text = json.dumps([sorted(told.items(), key=str), body], default=str).encode()
    return PATHS.get(environ["PATH_INFO"], plain)(environ, start_response, text)


def read(environ):
    """Read some of a body, or all, or nothing, as the query says; return what was read."""
    how, source = environ.get("QUERY_STRING", ""), environ["wsgi.input"]
    if how == "read=all":
        return repr(source.read())
    if how == "read=some":
        return repr([source.read(3), source.readline(), source.read(0)])
    if how == "read=lines":
        return repr([source.readline(5), list(source)])
    if how == "read=pieces":
        return repr(b"".join(iter(lambda: source.read(1000), b"")))
    return None


def plain(environ, start_response, text):
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]


def stream(environ, start_response, text):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [text[:10], b"", text[10:]]


def generator(environ, start_response, text):
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Space", "  around  ")])
    yield b""
    yield text


def write(environ, start_response, text):
    send = start_response("200 OK", [("Content-Type", "application/json")])
    send(text)
    send(b"")
    return [b"more"]


def empty(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "0")])
    return []


def none(environ, start_response, text):
    start_response("201 Created", [])
    return []


def no_content(environ, start_response, text):
    start_response("204 No Content", [("Content-Length", "3")])
    return [b"abc"]


def not_modified(environ, start_response, text):
    start_response("304 Not Modified", [("ETag", '"a"'), ("Content-Length", "3")])
    return []


def file(environ, start_response, text):
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return environ["wsgi.file_wrapper"](BytesIO(text))


def large(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "300000")])
    return [b"x" * 200_000, b"y" * 100_000]


def early(environ, start_response, text):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    return plain(environ, start_response, text)


def fails(environ, start_response, text):
    raise ValueError("before the head")


def fails_late(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"abc"
    raise ValueError("after the head")


def replaces(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "100")])
    try:
        raise ValueError("replaced")
    except ValueError as error:
        start_response("502 Bad Gateway", [("Content-Length", "2")], (ValueError, error, None))
    return [b"no"]


def splits(environ, start_response, text):
    start_response("200 OK", [("X-Split", "a\r\nX-Forged: b")])
    return [text]


def short(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "1000000")])
    return [text]


def long(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "3")])
    return [text, b"and more"]


def lower(environ, start_response, text):
    start_response("200 fine", [("content-length", str(len(text))), ("date", "never"), ("SERVER", "another")])
    return [text]


def closes(environ, start_response, text):
    start_response("200 OK", [("Connection", "close"), ("Content-Length", str(len(text)))])
    return [text]


def upgrade(environ, start_response, text):
    start_response("101 Switching Protocols", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
    return []


def wrong(environ, start_response, text):
    start_response("200 OK", [("X-Number", 3)])
    return [text]


def text_body(environ, start_response, text):
    start_response("200 OK", [("Content-Length", "3")])
    return ["abc"]


def odd_status(environ, start_response, text):
    start_response("2000 OK", [])
    return [text]


def bad_name(environ, start_response, text):
    start_response("200 OK", [("X Space", "a")])
    return [text]


def latin(environ, start_response, text):
    start_response("200 OK", [("X-Latin", "caf\xe9"), ("X-Tab", "a\tb"), ("Content-Length", "1")])
    return [b"a"]


def exits(environ, start_response, text):
    raise SystemExit(3)


PATHS = {
    "/bad-name": bad_name,
    "/closes": closes,
    "/early": early,
    "/empty": empty,
    "/fails": fails,
    "/fails-late": fails_late,
    "/file": file,
    "/generator": generator,
    "/large": large,
    "/latin": latin,
    "/long": long,
    "/lower": lower,
    "/none": none,
    "/odd-status": odd_status,
    "/replaces": replaces,
    "/short": short,
    "/splits": splits,
    "/stream": stream,
    "/text": text_body,
    "/upgrade": upgrade,
    "/write": write,
    "/wrong": wrong,
    "/204": no_content,
    "/304": not_modified,
}
