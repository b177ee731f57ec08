"""Requests that two servers in a row may understand differently: where one ends, and the next begins.

Each is the bytes a client sends, made for the site's name. ``{id}`` stands for the id of the request itself,
``{inner}`` for that of a request hidden in it: whoever counts an id knows what was taken for a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CORPUS = Path(__file__).with_name("gunicorn_invalid.txt")
ID = b"X-Id: {id}\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: {host}\r\nX-Id: {inner}\r\n\r\n"
CHUNKED_FIELDS = [
    b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding:chunked", b"Transfer-Encoding:  chunked", b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked\t", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked", b" Transfer-Encoding: chunked", b"\tTransfer-Encoding: chunked",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \x0cchunked", b"Transfer-Encoding: \x00chunked",
    b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding: 'chunked'", b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chu\xffnked", b"Transfer-Encoding: identity", b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked", b"Transfer-Encodin\xc4\xa1: chunked", b"Transfer Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding:\n chunked",
    b"X-Y: z\r\n Transfer-Encoding: chunked", b"X-Y: z\nTransfer-Encoding: chunked",
    b"X-Y: z\rTransfer-Encoding: chunked", b"X-Y: z\n\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
]  # fmt: skip
LENGTH_FIELDS = [
    b"Content-Length: +%d", b"Content-Length: -%d", b"Content-Length: 0%d", b"Content-Length: 0x%x",
    b"Content-Length: %d,%d", b"Content-Length: %d, %d", b"Content-Length: 0,%d", b"Content-Length: %d 0",
    b"Content-Length: %d;", b"Content-Length: %d.0", b"Content-Length: 1_%d", b"Content-Length: %d\x0b",
    b"Content-Length: \x0c%d", b"Content-Length: \x00%d", b"Content-Length:\t%d\t", b"Content-Length : %d",
    b"Content-Length\t: %d", b" Content-Length: %d", b"Content_Length: %d", b"Content Length: %d",
    b"Content-Length:", b"Content-Length: chunked", b"Content-Length: 18446744073709551616",
    b"Content-Length: 9223372036854775808", b"Content-Length: 4294967296%d",
    b"Content-Length: %d\r\nContent-Length: %d", b"Content-Length: 0\r\nContent-Length: %d",
    b"Content-Length: %d\r\nContent-Length: 0", b"Content-Length: %d\r\n ,%d", b"Content-Length:\r\n %d",
    b"X-Y: z\nContent-Length: %d", b"X-Y: z\rContent-Length: %d",
    b"Connection: Content-Length\r\nContent-Length: %d", b"Content-Length: \xef\xbc\x95",
]  # fmt: skip
CHUNKS = [
    b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b"05\r\nhello\r\n0\r\n\r\n", b"0000000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n",
    b"5\x0b\r\nhello\r\n0\r\n\r\n", b"5_0\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n",
    b"5\rhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"5;x\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\n\r\n", b'5;x="a b"\r\nhello\r\n0\r\n\r\n',
    b'5;x="a\r\nb"\r\nhello\r\n0\r\n\r\n', b"5;\r\nhello\r\n0\r\n\r\n", b"5 ;x\r\nhello\r\n0\r\n\r\n",
    b"5;\x00\r\nhello\r\n0\r\n\r\n", b"5;x\nhello\r\n0\r\n\r\n", b"5;x\rhello\r\n0\r\n\r\n",
    b"5;" + b"x" * 9000 + b"\r\nhello\r\n0\r\n\r\n", b"5,5\r\nhello\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n", b"5.0\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    b"7FFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"100000005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n0;x\r\n\r\n", b"5\r\nhello\r\n0 \r\n\r\n",
    b"5\r\nhello\r\n-0\r\n\r\n", b"5\r\nhello\r\n0\r\nX-T: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nContent-Length: 60\r\n\r\n",
    b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n0\r\nHost: other\r\n\r\n", b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", b"5\r\nhello\r\n0\r\n\rX: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n0\r\n\r\n",
]  # fmt: skip
LINES = [
    b"POST https://{host}/p HTTP/1.1\r\nHost: {host}", b"POST https://{host}/p HTTP/1.1\r\nHost: other",
    b"POST https://other/p HTTP/1.1\r\nHost: {host}", b"POST http://{host}/p HTTP/1.1\r\nHost: {host}",
    b"POST  /p HTTP/1.1\r\nHost: {host}", b"POST /p  HTTP/1.1\r\nHost: {host}",
    b"POST\t/p HTTP/1.1\r\nHost: {host}", b"POST /p\tHTTP/1.1\r\nHost: {host}",
    b"POST /p HTTP/1.1 \r\nHost: {host}", b"POST /p HTTP/1.1\nHost: {host}",
    b"POST /p HTTP/1.1\rHost: {host}",
    b"POST /p HTTP/1.0\r\nHost: {host}", b"POST /p HTTP/1.0\r\nConnection: keep-alive\r\nHost: {host}",
    b"POST /p HTTP/1.2\r\nHost: {host}", b"POST /p HTTP/1.10\r\nHost: {host}",
    b"POST /p HTTP/2.0\r\nHost: {host}",
    b"POST /p HTTP/0.9\r\nHost: {host}", b"POST /p http/1.1\r\nHost: {host}", b"POST /p\r\nHost: {host}",
    b"post /p HTTP/1.1\r\nHost: {host}", b"\r\nPOST /p HTTP/1.1\r\nHost: {host}",
    b"\n\nPOST /p HTTP/1.1\r\nHost: {host}", b"GET /p HTTP/1.1\r\nHost: {host}",
    b"HEAD /p HTTP/1.1\r\nHost: {host}", b"OPTIONS * HTTP/1.1\r\nHost: {host}",
    b"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}", b"POST /p HTTP/1.1\r\nHost: {host}\r\nHost: {host}",
    b"POST /p HTTP/1.1\r\nHost: {host}\r\nHost: other", b"POST /p HTTP/1.1\r\nHost : {host}",
    b"POST /p HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue",
    b"POST /p HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AA",
    b"POST /p HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade",
    b"POST /p?x=%0d%0aX-Y:%20z%0d%0a HTTP/1.1\r\nHost: {host}", b"POST /p\x00 HTTP/1.1\r\nHost: {host}",
    b"POST /p#f HTTP/1.1\r\nHost: {host}", b"POST //p/../p HTTP/1.1\r\nHost: {host}",
]  # fmt: skip

# Ways to ask for HTTP/2 without TLS, which a proxy that passes them on tunnels past itself.
UPGRADES = [
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Upgrade: h2c",
    b"Upgrade: h2c, websocket\r\nConnection: Upgrade",
    b"upgrade: H2C\r\nconnection: upgrade, keep-alive", b"Upgrade: h2c\r\nConnection: close, Upgrade",
]  # fmt: skip
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def corpus() -> Iterator[bytes]:
    """Yield gunicorn's own, as they are and with the site's name put in, so that nginx lets them further."""
    for part in CORPUS.read_text(encoding="utf-8").split("\n== ")[1:]:
        text = part.partition("\n")[2].replace("\n", "")
        for escaped, char in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\0", "\0")):
            text = text.replace(escaped, char)
        text = re.sub(r"\\x([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
        said = text.encode("latin-1")
        yield said
        line, end, rest = said.partition(b"\r\n")
        yield line + end + b"Host: {host}\r\n" + ID + re.sub(rb"(?im)^host:.*\r\n", b"", rest)


def mutations() -> Iterator[bytes]:
    """Yield what was made of a request with a body, one thing or two changed at a time."""
    start = b"POST /p HTTP/1.1\r\nHost: {host}\r\n" + ID
    ended = b"0\r\n\r\n" + HIDDEN
    plain = b"5\r\nhello\r\n0\r\n\r\n"
    for field in CHUNKED_FIELDS:
        yield start + field + b"\r\n\r\n" + ended
        for length in (b"{size}", b"4", b"0"):
            yield start + b"Content-Length: " + length + b"\r\n" + field + b"\r\n\r\n" + ended
        yield start + field + b"\r\nContent-Length: {size}\r\n\r\n" + ended
    for field in LENGTH_FIELDS:
        named = re.sub(rb"%[dx]", b"{size}", field)
        yield start + named + b"\r\n\r\n" + HIDDEN
        yield start + named + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + ended
        yield start + b"Transfer-Encoding: chunked\r\n" + named + b"\r\n\r\n" + ended
    for body in CHUNKS:
        yield start + b"Transfer-Encoding: chunked\r\n\r\n" + body
        yield start + b"Transfer-Encoding: chunked\r\n\r\n" + body + HIDDEN
        yield start + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + body + HIDDEN
    for line in LINES:
        yield line + b"\r\n" + ID + b"Content-Length: {size}\r\n\r\n" + HIDDEN
        yield line + b"\r\n" + ID + b"Transfer-Encoding: chunked\r\n\r\n" + plain + HIDDEN
        yield line + b"\r\n" + ID + b"\r\n" + HIDDEN
    for upgrade in UPGRADES:
        yield start + upgrade + b"\r\n\r\n" + HTTP2 + HIDDEN
        yield start + upgrade + b"\r\nContent-Length: {size}\r\n\r\n" + HTTP2 + HIDDEN
    yield HTTP2 + start + b"\r\n" + HIDDEN


def sized(said: bytes) -> bytes:
    """Put the length of a request's body where it says ``{size}``; ids and names have their own lengths."""
    body = said.partition(b"\r\n\r\n")[2]
    return said.replace(b"{size}", b"%d" % len(body))


def requests(host: str) -> list[dict[str, str]]:
    """Return every request to a site, each with its ids, as text of one byte a character."""
    found = []
    for number, said in enumerate([*corpus(), *mutations()]):
        name, inner = f"p{number:04}", f"h{number:04}"
        for mark, value in (("host", host), ("id", name), ("inner", inner)):
            said = said.replace(b"{%s}" % mark.encode(), value.encode())
        found.append({"id": name, "inner": inner, "bytes": sized(said).decode("latin-1")})
    return found
