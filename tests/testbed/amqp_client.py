"""Sign in to RabbitMQ and say how it answered; runs on a host, with nothing but Python there.

usage: python3 - USER VHOST PASSWORD_PATH; prints `open`, or the code with which the server closed.
The bytes are those of AMQP 0-9-1, sections 2.3.5 and 4.2 (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

import socket
import struct
import sys
from pathlib import Path

FRAME_END = b"\xce"
START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK, CLOSE = 10, 11, 30, 31, 40, 41, 50


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


# Without it, the server refuses a password by hanging up.
PROPERTIES = short(b"capabilities") + b"F" + long(short(b"authentication_failure_close") + b"t\1")


def send(connection, method: int, arguments: bytes) -> None:
    """Send a method of the class `connection`, which is 10, on channel 0."""
    payload = struct.pack(">HH", 10, method) + arguments
    connection.sendall(struct.pack(">BHI", 1, 0, len(payload)) + payload + FRAME_END)


def receive(stream) -> tuple[int, bytes]:
    """Return the next method and its arguments."""
    payload = stream.read(struct.unpack(">BHI", stream.read(7))[2])
    assert stream.read(1) == FRAME_END
    return struct.unpack(">HH", payload[:4])[1], payload[4:]


def answer(user: str, vhost: str, password: str) -> str:
    """Return how the server answers."""
    with socket.create_connection(("127.0.0.1", 5672), timeout=10) as connection:
        stream = connection.makefile("rb")
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        method, _ = receive(stream)
        assert method == START, method
        login = long(f"\0{user}\0{password}".encode())
        send(connection, START_OK, long(PROPERTIES) + short(b"PLAIN") + login + short(b"en_US"))
        method, arguments = receive(stream)
        if method == TUNE:
            send(connection, TUNE_OK, arguments)
            send(connection, OPEN, short(vhost.encode()) + short(b"") + b"\0")
            method, arguments = receive(stream)
        if method == CLOSE:
            return str(struct.unpack(">H", arguments[:2])[0])
        assert method == OPEN_OK, method
        return "open"


print(answer(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().strip()))
