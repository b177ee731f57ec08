"""Requests of HTTP/2 that would be others in HTTP/1: what nginx makes of them is one request, or none.

Each is the bytes a client sends once HTTP/2 was agreed on, its request on stream 1. In names and values
``{host}`` stands for the site's, ``{id}`` for the request's id, ``{inner}`` for that of a request hidden in
it, ``{size}`` for the length of its body. HTTP/2's framing is done here: libraries refuse to send most of it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
GOAWAY, WINDOW_UPDATE, CONTINUATION = 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x4, 0x8, 0x20

Fields = list[tuple[bytes, bytes]]

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: {host}\r\nX-Id: {inner}\r\n\r\n"
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN
ID = (b"x-id", b"{id}")

# What HTTP/2 forbids a request to carry, and what HTTP/1 would read into a name or a value.
FIELDS: list[Fields] = [
    *([(b"connection", value)] for value in (
        b"keep-alive", b"close", b"upgrade", b"transfer-encoding", b"content-length", b"x-id", b"host",
        b"close\r\nTransfer-Encoding: chunked",
    )),
    [(b"keep-alive", b"timeout=5")], [(b"proxy-connection", b"keep-alive")], [(b"te", b"trailers")],
    [(b"te", b"chunked")], [(b"te", b"trailers, chunked")], [(b"trailer", b"transfer-encoding")],
    [(b"upgrade", b"h2c"), (b"connection", b"Upgrade, HTTP2-Settings"),
    (b"http2-settings", b"AAMAAABkAAQAAP__")],
    [(b"upgrade", b"h2c")], [(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
    [(b"expect", b"100-continue")],
    *([(b"transfer-encoding", value)] for value in (
        b"chunked", b"Chunked", b" chunked", b"chunked ", b"\tchunked", b"\x0bchunked", b"identity", b"",
        b"gzip, chunked", b"chunked, identity", b"xchunked", b"chunked\x00", b"\x00chunked", b"chu\xffnked",
        b"chunked\r\nX-Y: z", b"\r\nchunked",
    )),
    [(b"transfer-encoding", b"chunked"), (b"content-length", b"{size}")],
    [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")],
    [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")],
    *([(name, b"chunked")] for name in (
        b"Transfer-Encoding", b"TRANSFER-ENCODING", b"transfer-encodinG", b"transfer-encoding ",
        b" transfer-encoding", b"\ttransfer-encoding", b"transfer-encoding\t", b"transfer-encoding:",
        b"transfer-encoding: chunked\r\nx-y", b"transfer_encoding", b"transfer encoding",
        b"transfer-encoding\x00", b"\x00transfer-encoding", b"transfer-encoding\r", b"transfer-encoding\n",
        b"\r\ntransfer-encoding", b"\ntransfer-encoding", b"x-y: z\r\ntransfer-encoding",
        b"x-y: z\ntransfer-encoding", b"x-y\r\ntransfer-encoding", b"transfer-encodin\xc4\xa1",
        b"content-length: 0\r\ntransfer-encoding",
    )),
    *([(name, b"z")] for name in (
        b"", b" ", b":", b"x y", b"x:y", b"x\x00y", b"x\ry", b"x\ny", b"x\x7fy", b"x\xffy", b"x(y)", b'x"y',
        b"X-Upper", b"x-y: z\r\nx-id: {inner}\r\nx-z", b"x-y: z\r\n\r\n" + HIDDEN + b"x-z",
    )),
    *([(b"x-y", value)] for value in (
        b"z\r\nX-Id: {inner}", b"z\nX-Id: {inner}", b"z\rX-Id: {inner}", b"z\r\n X-Id: {inner}",
        b"z\r\nTransfer-Encoding: chunked", b"z\nTransfer-Encoding: chunked", b"z\r\nContent-Length: 0",
        b"z\r\n\r\n" + HIDDEN, b"z\n\n" + HIDDEN, b"z\r\rGET /hidden HTTP/1.1\r\rX-Id: {inner}\r\r",
        b"z\r\nHost: other", b"\r\n\r\n", b"\r\n", b"\x00", b"z\x00z", b"\x7f", b"\xff", b" z ", b"\tz\t",
        b"z" * 7000, "z\u010d\u010aX-Id: {inner}".encode(),
    )),
    [(b"cookie", b"a=b\r\nX-Id: {inner}")], [(b"cookie", b"a=b"), (b"cookie", b"c=d\r\n\r\n" + HIDDEN)],
    [(b"cookie", b"a=b"), (b"cookie", b"c=d")], [(b"x_id", b"{inner}")],
    [(b"user-agent", b"a\r\nX-Id: {inner}")], [(b"referer", b"https://other/\r\n\r\n" + HIDDEN)],
    [(b"accept", b"*/*\nContent-Length: 0")], [(b"range", b"bytes=0-0\r\nX-Id: {inner}")],
    [(b"x-forwarded-host", b"other")], [(b"x-original-url", b"/hidden")], [(b"forwarded", b"host=other")],
    *([(b"host", value)] for value in (
        b"{host}", b"other", b"", b"{host}\r\nX-Id: {inner}", b"{host}, other", b"{host}:443", b"www.{host}",
    )),
    [(b"host", b"{host}"), (b"host", b"other")], [(b"Host", b"other")], [(b"host ", b"other")],
]  # fmt: skip

# What a content-length says, beside a body that may be another.
LENGTHS: list[list[bytes]] = [
    *([value] for value in (
        b"{size}", b"0", b"1", b"4", b"6", b"100000", b"+{size}", b"-{size}", b"0{size}", b"0x{size}",
        b" {size}",
        b"{size} ", b"\t{size}", b"{size},{size}", b"{size}, {size}", b"{size};", b"{size}.0", b"{size}\x00",
        b"{size}\x0b", b"", b"chunked", b"{size}\r\nTransfer-Encoding: chunked", b"{size}\r\n\r\n" + HIDDEN,
        b"\r\n{size}", b"18446744073709551616", b"9223372036854775808", b"4294967296{size}", b"\xef\xbc\x95",
    )),
    [b"{size}", b"{size}"], [b"0", b"{size}"], [b"{size}", b"0"],
]  # fmt: skip

# Each pseudo-header in turn, by what else it may be; None: left out.
PSEUDO: dict[bytes, list[bytes | None]] = {
    b":method": [
        None, b"", b"post", b"PO ST", b"POST ", b" POST", b"POST\t", b"P\x00ST", b"POST\r\n", b"PRI",
        b"TRACE",
        b"CONNECT", b"OPTIONS", b"GET", b"HEAD", b"DELETE", b"GET / HTTP/1.1", b"P\xffST", b"POST:",
        b"GET /hidden HTTP/1.1\r\nHost: {host}\r\nX-Id: {inner}\r\n\r\nPOST",
        b"GET /hidden HTTP/1.1\nX-Id: {inner}\n\nPOST",
        b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Y: z",
    ],
    b":scheme": [
        None, b"", b"http", b"ftp", b"https\r\nX-Id: {inner}", b"https ", b"ht tps", b"https\x00", b"HTTPS",
        b"https://other/p?", b"https://{host}/hidden HTTP/1.1\r\nX-Id: {inner}\r\n\r\n",
    ],
    b":authority": [
        None, b"", b"other", b"{host}:443", b"{host}:", b"{host} ", b" {host}", b"{host}\r\nX-Id: {inner}",
        b"{host}\nX-Id: {inner}", b"{host}\x00", b"{host}\x00other", b"u@{host}", b"{host}@other",
        b"{host}, other",
        b"{host}/hidden", b"{host}?x", b"{host}#x", b"{host}.", b"other\t{host}", b"[::1]", b"{host}:443:80",
        b"{host}\r\n\r\n" + HIDDEN, b"{host}\\other", b"www.{host}",
    ],
    b":path": [
        None, b"", b"*", b"p", b"//p", b"//other/p", b"/p x", b"/p HTTP/1.1", b"/p HTTP/1.0", b"/p\t",
        b"/p\x00",
        b"/p\r\n", b"/p\r", b"/p\n", b"/p\x7f", b"/\xff", b"/p#f", b"/p\\x", b"/../p", b"/p/%2e%2e/p", b"/%",
        b"/p%00", b"/p?x=%0d%0aX-Id:%20{inner}", b"/p%0d%0aX-Id:%20{inner}", b"https://{host}/p",
        b"https://other/p",
        b"http://other/p", b"/p HTTP/1.1\r\nHost: {host}\r\nX-Id: {inner}\r\n\r\nGET /hidden",
        b"/p HTTP/1.1\nX-Id: {inner}\n\nGET /hidden", b"/p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Y: z",
        b"/p HTTP/1.1\r\nContent-Length: 0\r\nX-Y: z", b"/p?" + b"x" * 7000,
    ],
    b":status": [b"200"], b":protocol": [b"websocket"], b":x": [b"y"], b":": [b"y"], b":Method": [b"GET"],
}  # fmt: skip


def framed(
    kind: int, flags: int, payload: bytes = b"", stream: int = 1, *, length: int | None = None
) -> bytes:
    """Return one frame; `length`: what it says of itself, if not the truth."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(fields: Fields, *, huffman: bool = False) -> bytes:
    """Pack header fields so that the server remembers none: a block it refuses changes no later one."""
    return Encoder().encode([NeverIndexedHeaderTuple(*one) for one in fields], huffman=huffman)


@dataclass
class Smuggled:
    """What a client says: a request's fields, its body in pieces, its trailers, and how they are framed."""

    fields: Fields
    pieces: list[bytes] = field(default_factory=lambda: [CHUNKED_HIDDEN])
    trailers: Fields = field(default_factory=list)
    way: str = "whole"

    def named(self, values: dict[bytes, bytes]) -> Smuggled:
        """Return it with the marks filled in."""

        def each(fields: Fields) -> Fields:
            return [(filled(name, values), filled(value, values)) for name, value in fields]

        pieces = [filled(piece, values) for piece in self.pieces]
        values = values | {b"size": b"%d" % sum(map(len, pieces))}
        return Smuggled(each(self.fields), pieces, each(self.trailers), self.way)

    def framed(self, stream: int = 1) -> bytes:
        """Return the bytes of its frames."""
        frame = partial(framed, stream=stream)
        packed, alone = block(self.fields, huffman=self.way == "huffman"), not (self.pieces or self.trailers)
        ended = END_STREAM if alone else 0
        if self.way == "split":
            first, *parts, last = [packed[at : at + 7] for at in range(0, len(packed), 7)]
            sent = frame(HEADERS, ended, first)
            sent += b"".join(frame(CONTINUATION, 0, part) for part in parts)
            sent += frame(CONTINUATION, END_HEADERS, last)
        elif self.way == "padded":
            # What a careless reader takes for a request lies in the padding.
            padding = b"GET / HTTP/1.1\r\n\r\n"
            weighed = bytes([len(padding)]) + b"\0\0\0\0\x10" + packed + padding
            sent = frame(HEADERS, ended | END_HEADERS | PADDED | PRIORITIZED, weighed)
        else:
            sent = frame(HEADERS, ended | END_HEADERS, packed)
        for number, piece in enumerate(self.pieces, 1):
            ended = END_STREAM if number == len(self.pieces) and not self.trailers else 0
            sent += frame(DATA, ended, piece)
        if self.trailers:
            sent += frame(HEADERS, END_STREAM | END_HEADERS, block(self.trailers))
        return sent


def asked(*more: tuple[bytes, bytes], path: bytes = b"/p", name: bytes = b"{id}") -> Fields:
    """Return the fields of a good request, and more behind them."""
    pseudo = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"{host}"), (b":path", path)]
    return [*pseudo, (b"x-id", name), *more]


def with_fields() -> Iterator[Smuggled]:
    for fields in FIELDS:
        for way in ("whole", "huffman", "split", "padded"):
            yield Smuggled(asked(*fields), way=way)
        # Before what it may undo, without a body, and where HTTP/2 has room for more behind a body.
        yield Smuggled([*asked()[:4], *fields, ID], [])
        yield Smuggled(asked(), [b"5\r\nhello\r\n", CHUNKED_HIDDEN], fields)


def with_lengths() -> Iterator[Smuggled]:
    for values in LENGTHS:
        fields = asked(*((b"content-length", value) for value in values))
        for pieces in ([], [b"hello"], [HIDDEN], [b"hel", b"", b"lo"]):
            yield Smuggled(fields, pieces)
        yield Smuggled(fields, [b"hello"], [(b"content-length", b"0"), (b"x-id", b"{inner}")])
        yield Smuggled([*asked()[:4], (b"transfer-encoding", b"chunked"), *fields[4:]])


def with_pseudo() -> Iterator[Smuggled]:
    good = asked()
    for name, values in PSEUDO.items():
        for value in values:
            own = [(name, value)] if value is not None else []
            rest = [one for one in good if one[0] != name]
            yield Smuggled([*own, *rest], [HIDDEN])
            yield Smuggled([*own, *rest], [], way="split")
            yield Smuggled([*own, *rest, (b"host", b"{host}")], [HIDDEN])
            if own:
                yield Smuggled([*own, *good], [HIDDEN])
                yield Smuggled([*good, *own], [HIDDEN])
                yield Smuggled(good, [HIDDEN], own)


def with_frames(packed: bytes, hidden: bytes) -> list[bytes]:
    """Return what is no sequence of frames that HTTP/2 knows, around good fields and a hidden request."""
    frame = framed
    whole, ended = (frame(HEADERS, END_HEADERS | end, packed) for end in (0, END_STREAM))
    return [
        frame(DATA, END_STREAM, hidden), whole, whole + frame(DATA, 0, hidden),
        ended + frame(DATA, END_STREAM, hidden), whole + frame(DATA, END_STREAM, hidden) * 2,
        ended + ended, whole + whole + frame(DATA, END_STREAM, hidden), frame(HEADERS, 0, packed),
        # With this one nginx may wait until more is said on the connection; it is still one request.
        frame(HEADERS, END_STREAM, packed) + frame(CONTINUATION, END_HEADERS),
        frame(CONTINUATION, END_HEADERS, packed), whole + frame(CONTINUATION, END_HEADERS, packed),
        frame(HEADERS, 0, packed) + frame(DATA, END_STREAM, hidden) + frame(CONTINUATION, END_HEADERS),
        frame(HEADERS, 0, packed) + frame(CONTINUATION, END_HEADERS, stream=5),
        frame(HEADERS, END_HEADERS | END_STREAM, packed, stream=0), frame(DATA, 0, hidden, stream=0),
        frame(HEADERS, END_HEADERS | END_STREAM, packed, stream=2),
        whole + frame(DATA, END_STREAM | PADDED, b"\xff" + hidden),
        whole + frame(RST_STREAM, 0, b"\0\0\0\x08") + frame(DATA, END_STREAM, hidden),
        whole + frame(DATA, 0, hidden) + frame(RST_STREAM, 0, b"\0\0\0\x08"),
        ended + frame(RST_STREAM, 0, b"\0\0\0\x08"), frame(PRIORITY, 0, b"\0\0\0\x01\x10") + ended,
        frame(WINDOW_UPDATE, 0, b"\0\0\0\0") + ended, frame(SETTINGS, 0, b"\0\0\0", stream=0) + ended,
        frame(SETTINGS, 0, b"\0\x03\0\0\0\x01", stream=1) + ended, frame(PUSH_PROMISE, END_HEADERS, packed),
        frame(99, 0, hidden) + ended, frame(DATA, 0, hidden, length=5),
        frame(DATA, 0, hidden, length=2**24 - 1),
        frame(HEADERS, END_HEADERS | END_STREAM, b"\xff\xff\xff\xff\xff" + packed),
        frame(HEADERS, END_HEADERS | END_STREAM, b"\x3f\xff\xff\xff\x07" + packed),
        frame(HEADERS, END_HEADERS | END_STREAM, packed[:-9]), frame(GOAWAY, 0, bytes(8), stream=0) + ended,
        PREFACE + ended, hidden, b"\r\n\r\n" + hidden, ended + hidden, whole + hidden,
    ]  # fmt: skip


def filled(text: bytes, values: dict[bytes, bytes]) -> bytes:
    """Put in what a text has marks for."""
    return re.sub(rb"\{(host|id|inner|size)\}", lambda found: values[found[1]], text)


def requests(host: str) -> list[dict[str, Any]]:
    """Return every request to a site: its ids, its bytes as one character each, its body's length."""
    found = []

    def add(said: Smuggled | int) -> None:
        name, inner = f"q{len(found):04}", f"i{len(found):04}"
        values = {b"host": host.encode(), b"id": name.encode(), b"inner": inner.encode()}
        good = Smuggled(asked()).named(values)
        if isinstance(said, int):
            sent, size = with_frames(block(good.fields), filled(HIDDEN, values))[said], None
        else:
            said = said.named(values)
            sent, size = said.framed(), sum(map(len, said.pieces))
        last = Smuggled(asked(name=b"l{id}"), [b"bye"]).named(values)
        found.append(
            {
                "id": name,
                "inner": inner,
                "bytes": (PREFACE + framed(SETTINGS, 0, stream=0) + sent).decode("latin-1"),
                "last": last.framed(3).decode("latin-1"),
                "size": size,
                "head": size is not None and (b":method", b"HEAD") in said.fields,
            }
        )

    for said in (*with_fields(), *with_lengths(), *with_pseudo(), *range(len(with_frames(b"", b"")))):
        add(said)
    return found


def answers(said: bytes) -> list[dict[str, Any]]:
    """Return what came back on each stream: its status, and what the app answered where it did."""
    decoder, streams = Decoder(), {}
    while len(said) >= 9:
        size, kind = int.from_bytes(said[:3]), said[3]
        stream, payload, said = int.from_bytes(said[5:9]), said[9 : 9 + size], said[9 + size :]
        answer = streams.setdefault(stream, {"stream": stream, "body": b""})
        if kind == HEADERS:
            answer.update(decoder.decode(payload))
        elif kind == DATA:
            answer["body"] += payload
    found = [one for number, one in sorted(streams.items()) if number and ":status" in one]
    return [
        {"stream": one["stream"], "status": int(one[":status"])}
        | (json.loads(one["body"] or "{}") if "x-app" in one else {})
        for one in found
    ]
