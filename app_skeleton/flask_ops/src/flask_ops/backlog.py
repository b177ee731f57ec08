"""Ask the kernel how many connections wait for a worker, and how many may.

A full unix queue refuses the next connection at once (connect(2), EAGAIN) and nginx answers 502; no other
figure of the app shows it coming. Sources: sock_diag(7) and unix_diag.h for unix sockets, tcp_info of a
listening socket (tcp_get_info in the kernel's net/ipv4/tcp.c) for TCP.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_STATES = 1 << 10  # TCP_LISTEN, also for unix sockets
_SHOW_RQLEN = 0x10
_RQLEN = 4
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, pad, states, inode, show, cookie
_ANSWER_BYTES = _HEADER.size + 16  # then unix_diag_msg, then its attributes
_ATTRIBUTE = struct.Struct("=HH")
_TWO = struct.Struct("=II")
_TCPI_UNACKED = 24  # tcp_info: eight bytes, then rto, ato, snd_mss, rcv_mss, unacked, sacked


class BacklogUnknown(Exception):
    """The kernel does not tell: netlink is forbidden or the socket is of another kind."""


def listen_backlog(listener: Any) -> tuple[int, int]:
    """Return how many connections wait in a listening socket's queue, and its limit.

    :param listener: a listening stream socket, unix or TCP.
    :raises BacklogUnknown: if the kernel does not say.
    """
    try:
        if listener.family == socket.AF_UNIX:
            return _unix(os.fstat(listener.fileno()).st_ino)
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_UNACKED + _TWO.size)
        return _TWO.unpack_from(info, _TCPI_UNACKED)
    except (OSError, struct.error) as error:
        raise BacklogUnknown(f"{type(error).__name__}: {error}") from error


def _unix(inode: int) -> tuple[int, int]:
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _STATES, inode, _SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE)
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        # The kernel answers within send(): there is nothing to wait for.
        netlink.setblocking(False)
        netlink.send(head + request)
        return _queue_in(netlink.recv(4096))


def _queue_in(answer: bytes) -> tuple[int, int]:
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        raise BacklogUnknown(f"netlink answered with a message of type {kind}")
    position = _ANSWER_BYTES
    while position < length:
        size, attribute = _ATTRIBUTE.unpack_from(answer, position)
        if attribute == _RQLEN:
            return _TWO.unpack_from(answer, position + _ATTRIBUTE.size)
        position += max(_ATTRIBUTE.size, size + 3 & ~3)
    raise BacklogUnknown("netlink's answer has no queue length")
