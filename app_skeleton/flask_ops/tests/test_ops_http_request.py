"""What is read here of a request is what gunicorn reads, to the last byte."""

import weakref
from random import Random

import generated_requests
import pytest
from flask_ops.http_request import Connection, Listener
from flask_ops.http_response import PlainResponse
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import create

# Objects of the one connection or the other.
THEIR_OWN = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket"}
PEERS = {"unix": ("", "/run/web.sock"), "tcp": (("127.0.0.1", 4711), ("127.0.0.1", 80))}
PEERS["stranger"] = (("203.0.113.9", 4711), ("192.0.2.1", 8000))
HEAD = b"GET /a%%20b?c=d HTTP/1.1\r\nHost: example.org\r\n%b\r\n"


class NoSocket:
    """One on which nothing more comes."""

    def send(self, data):
        pass

    def recv(self, size):
        return b""


def config(**settings):
    made = Config()
    made.set("secure_scheme_headers", {"X-FORWARDED-PROTO": "https"})
    for name, value in settings.items():
        made.set(name, value)
    return made


def read_here(data, cfg, peer="unix"):
    address, listener = PEERS[peer]
    connection = Connection(Listener(cfg, listener), NoSocket(), address)
    return connection, connection.read(data)


def described(request, environ, rest):
    body = environ["wsgi.input"].read()
    kept = {key: value for key, value in environ.items() if key not in THEIR_OWN}
    told = {name: getattr(request, name) for name in ("method", "uri", "path", "query", "version", "scheme")}
    told |= {"headers": request.headers, "closes": request.should_close(), "trailers": request.trailers}
    return {"environ": kept, "request": told, "body": body, "rest": rest()}


def compare(data, cfg, peer="unix"):
    """Read some bytes both ways; return whether they were read here at all."""
    connection, request = read_here(data, cfg, peer)
    if request is None:
        assert connection.rest == b""
        return False
    ours = request.take_environ()
    if len(ours.get("CONTENT_LENGTH", "")) > 9:
        return True
    address, listener = PEERS[peer]
    unreader = IterUnreader([data])
    theirs = Request(cfg, unreader, address)
    environ = create(theirs, NoSocket(), address, listener, cfg)[1] | {"wsgi.multithread": True}
    got = described(request, ours, lambda: connection.rest or connection.unreader.take_buffered())
    wanted = described(theirs, environ, unreader.take_buffered)
    assert got == wanted, data
    return True


@pytest.mark.parametrize("peer", PEERS)
def test_request_read_here_is_gunicorns_to_the_last_byte(peer):
    random = Random(peer)
    cfg, plain, count = config(), 0, 10_000
    for _ in range(count):
        plain += compare(generated_requests.stream(random), cfg, peer)
    # Or it would be proven of nothing.
    assert plain > count / 4


@pytest.mark.parametrize(
    "settings",
    [
        {"limit_request_line": 60, "limit_request_fields": 5, "limit_request_field_size": 200},
        {"strip_header_spaces": True, "permit_obsolete_folding": True, "header_map": "dangerous"},
        {"permit_unconventional_http_method": True, "casefold_http_method": True},
        {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}},
        {"forwarded_allow_ips": "*", "forwarder_headers": "SCRIPT_NAME", "limit_request_line": 0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_setting_about_requests_holds_here_too(settings):
    random, cfg = Random(1), config(**settings)
    assert sum(compare(generated_requests.stream(random), cfg, "stranger") for _ in range(3000)) > 100


def test_script_name_is_taken_off_the_path(monkeypatch):
    monkeypatch.setenv("SCRIPT_NAME", "/plain")
    assert compare(b"GET /plain/x HTTP/1.1\r\n\r\n", config())
    assert not compare(b"GET /other HTTP/1.1\r\n\r\n", config())


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Host: example.com\r\n",
        b"X_Under: score\r\n",
        b"X-Space : before\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"X-Bare: a\nY: b\r\n",
        b"X-Null: \x00\r\n",
        b"X-After: space \r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3\r\nContent-Length: 3\r\n",
    ],
)
def test_what_needs_a_rule_is_left_to_gunicorn(fields):
    assert read_here(HEAD % fields, config())[1] is None


@pytest.mark.parametrize("data", [HEAD[:20], b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\n"])
def test_head_that_is_not_whole_is_left_to_gunicorn(data):
    assert read_here(data, config())[1] is None


def test_body_that_has_come_is_read_at_once_and_the_next_request_kept():
    connection, request = read_here(HEAD % b"Content-Length: 3\r\n" + b"abcGET /next", config())
    assert (request.body.read(), connection.rest) == (b"abc", b"GET /next")


def test_names_and_hosts_that_clients_make_up_are_not_kept_for_ever():
    cfg = config()
    connection, _ = read_here(b"", cfg)
    for number in range(3000):
        data = b"GET / HTTP/1.1\r\nX-%d: a\r\nHost: %d.example.org\r\n\r\n" % (number, number)
        assert connection.read(data).take_environ()["SERVER_NAME"] == f"{number}.example.org"
    assert len(connection.listener._servers) <= 1024


def test_request_that_was_answered_is_freed_at_once():
    connection, request = read_here(HEAD % b"", config())
    environ, response = request.take_environ(), PlainResponse(request, connection.client, None, None)
    environ["wsgi.early_hints"] = response.early_hints
    kept = weakref.ref(request)
    del environ, response, request
    # Not only when the garbage collector comes: that is seldom, on purpose.
    assert kept() is None
