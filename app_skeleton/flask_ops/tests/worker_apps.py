"""A WSGI app that takes its time, or goes wrong."""

import time
from pathlib import Path
from wsgiref.validate import validator

from gunicorn.workers.base_async import ALREADY_HANDLED


def app(environ, start_response):
    """Do what the path says."""
    path = environ["PATH_INFO"]
    if path.startswith("/file"):
        return file(path[len("/file") :], environ, start_response)
    if path == "/slow-stream":
        start_response("200 OK", [])
        return slowly()
    if path == "/takes-over":
        environ["gunicorn.socket"].sendall(b"another protocol")
        return ALREADY_HANDLED
    body = ANSWERS.get(path, said)(environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def said(environ):
    return f"{environ['REQUEST_METHOD']} {environ['wsgi.input'].read().decode()!r}".encode()


def slow(environ):
    time.sleep(1)
    return b"slow"


def very_slow(environ):
    time.sleep(4)
    return b"very slow"


def endless(environ):
    time.sleep(60)
    return b""


def blocks(environ):
    from gevent import monkey

    monkey.get_original("time", "sleep")(60)
    return b""


def fails(environ):
    raise ValueError("planted")


def exits(environ):
    raise SystemExit(3)


def slowly():
    yield b"first"
    time.sleep(0.5)
    yield b"second"


def file(path, environ, start_response):
    opened = Path(path).open("rb")  # noqa: SIM115 - the server closes it
    opened.seek(10)
    start_response("200 OK", [("Content-Length", str(400_000 - 10))])
    return environ["wsgi.file_wrapper"](opened)


ANSWERS = {
    "/blocks": blocks,
    "/endless": endless,
    "/exits": exits,
    "/fails": fails,
    "/large": lambda environ: b"x" * 5_000_000,
    "/slow": slow,
    "/unread": lambda environ: b"unread",
    "/very-slow": very_slow,
}


@validator
def validated(environ, start_response):
    """Say what was read; wsgiref watches server and app."""
    source = environ["wsgi.input"]
    body = source.read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body) + 1))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body + b"."]
