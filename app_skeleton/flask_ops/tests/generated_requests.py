"""Bytes that a client may send: requests of every kind, and what is nearly one.

From a ``random.Random``, so that its seed gives the same bytes again.
"""

from __future__ import annotations

from random import Random

PATHS = (
    "/",
    "/plain",
    "/stream",
    "/generator",
    "/write",
    "/empty",
    "/none",
    "/204",
    "/304",
    "/file",
    "/large",
)
PATHS += ("/early", "/fails", "/fails-late", "/splits", "/short", "/long", "/lower", "/closes", "/upgrade")
READS = ("", "?read=all", "?read=some", "?read=lines", "?read=pieces", "?a=b&c=%20d", "?", "??", "?x=%zz")
ODD_TARGETS = ("*", "http://example.org/plain", "http://example.org", "//plain", "/a%2Fb/%c3%a9", "/pl%61in")
ODD_TARGETS += (
    "/plain#part",
    "/[",
    "/a b",
    "",
    "plain",
    "/\x7f",
    "/é",
    "/a;b=c",
    "/..//.",
    "/plain?a#b",
    "/\\",
)
ODD_TARGETS += (
    "http://[::1/",
    "example.org:443",
    "/\t",
    "/a?b?c",
    "https://example.org/plain?x",
    "/%00",
    "/%",
)
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
ODD_METHODS = ("get", "G", "CONNECT", "TRACE", "PROPFIND", "GET#", "", "A" * 21, "GE T", "G\x00T", "PRI")
VERSIONS = (
    "HTTP/1.0",
    "HTTP/1.1 ",
    "HTTP/2.0",
    "HTTP/1.10",
    "HTTP/0.9",
    "http/1.1",
    "HTTP/1,1",
    "",
    "HTTP/1.2",
)
FIELDS = (
    ("Host", "example.org"),
    ("Host", "example.org:8080"),
    ("Host", "[::1]:80"),
    ("host", ""),
    ("Accept", "*/*"),
    ("ACCEPT", "text/html"),
    ("Cookie", "a=b; c=d"),
    ("Content-Type", "text/plain"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Ssl", "on"),
    ("X-Request-ID", "0123456789abcdef"),
    ("Connection", "keep-alive"),
    ("Connection", "close"),
    ("connection", "Close"),
    ("Connection", "upgrade"),
    ("Connection", "close, te"),
    ("Upgrade", "websocket"),
    ("Expect", "100-continue"),
    ("Expect", "200-ok"),
    ("X-Latin", "caf\xe9"),
    ("X-Empty", ""),
    ("X-Long", "x" * 300),
    ("X-Colon", "a:b:c"),
    ("Script-Name", "/x"),
)
ODD_FIELDS = (
    ("SCRIPT_NAME", "/x"),
    ("X_Under", "score"),
    ("X Space", "inside"),
    ("X-After ", "space"),
    (" X-Before", "space"),
    ("", "nothing"),
    ("X-Tab", "\tvalue\t "),
    ("X-Null", "a\x00b"),
    ("X-Return", "a\rb"),
    ("X-Newline", "a\nb"),
    ("X-Folded", "a\r\n b"),
    ("X-Delete", "\x7f"),
    ("X-\xe9", "name"),
    ("X-(", "parenthesis"),
    ("X-Huge", "x" * 9000),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Transfer-Encoding", "identity"),
    ("Transfer-Encoding", "chunked, chunked"),
    ("Content-Length", "-1"),
    ("Content-Length", "+3"),
    ("Content-Length", "3, 3"),
    ("Content-Length", "0x3"),
    ("Content-Length", "\u00b2"),
    ("Content-Length", "1" * 30),
    ("Content-Length", ""),
)


def stream(random: Random) -> bytes:
    """Return what one client sends: one request, or several behind one another."""
    data = b"".join(_request(random) for _ in range(random.choice((1, 1, 1, 2, 3))))
    return _damaged(random, data) if random.random() < 0.25 else data


def pieces(random: Random, data: bytes) -> list[bytes]:
    """Return the bytes as they may arrive."""
    if random.random() < 0.6:
        return [data]
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(1, 3)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _odd(random: Random, usual: tuple, odd: tuple, share: float = 0.06):
    return random.choice(odd if random.random() < share else usual)


def _request(random: Random) -> bytes:
    method = _odd(random, METHODS, ODD_METHODS)
    target = _odd(random, PATHS, ODD_TARGETS, 0.15)
    if target in PATHS:
        target += random.choice(READS)
    version = _odd(random, ("HTTP/1.1",), VERSIONS, 0.1)
    fields = [_odd(random, FIELDS, ODD_FIELDS, 0.04) for _ in range(random.choice((0, 1, 3, 6, 10)))]
    if random.random() < 0.7:
        # Most clients send a field once.
        fields = list(dict(fields).items())
    body = b""
    if random.random() < 0.4:
        body, field = random.choice((_measured, _measured, _chunked))(random)
        fields.insert(random.randint(0, len(fields)), field)
    lines = [f"{method} {target} {version}", *(f"{name}{_colon(random)}{value}" for name, value in fields)]
    before = "\r\n" if random.random() < 0.02 else ""
    return (before + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def _colon(random: Random) -> str:
    return _odd(random, (": ",), (":", ":  ", ":\t", " : "), 0.05)


def _content(random: Random) -> bytes:
    size = random.choice((0, 1, 5, 100, 3000, 40_000))
    return random.choice((b"x", b"line\n", b"\r\n", b"\xff")) * size


def _measured(random: Random) -> tuple[bytes, tuple[str, str]]:
    body = _content(random)
    length = len(body) + (random.choice((-1, 1, 7)) if random.random() < 0.08 else 0)
    return body, ("Content-Length", str(max(0, length)))


def _chunked(random: Random) -> tuple[bytes, tuple[str, str]]:
    parts = []
    for _ in range(random.randint(0, 3)):
        data = _content(random)[:5000]
        if data:
            extension = _odd(random, ("",), (";a=b", ' ; a="b c"', ";", "; =x"), 0.1)
            size = len(data) + (1 if random.random() < 0.03 else 0)
            parts.append(f"{size:x}{extension}\r\n".encode() + data + b"\r\n")
    trailer = _odd(random, (b"",), (b"X-Trailer: a\r\n", b"Host: b\r\n", b"bad\r\n"), 0.1)
    parts.append(_odd(random, (b"0\r\n",), (b"00\r\n", b"0;x\r\n", b"g\r\n", b""), 0.08) + trailer + b"\r\n")
    return b"".join(parts), ("Transfer-Encoding", _odd(random, ("chunked",), ("Chunked", " chunked"), 0.1))


def _damaged(random: Random, data: bytes) -> bytes:
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 8)))
        what = random.randrange(5)
        if what == 0:
            data = data[:at] + data[end:]
        elif what == 1:
            data = data[:at] + bytes([random.randrange(256)]) + data[end:]
        elif what == 2:
            data = data[:at] + random.choice((b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00")) + data[at:]
        elif what == 3:
            data = data[:at] + data[at:end] * 2 + data[end:]
        else:
            data = data[:at]
    return data
