"""An HTTP peer that answers each request after one second: ``python slow_peer.py`` prints its port.

It keeps connections, and holds as many requests at once as come.
"""

from __future__ import annotations

import asyncio

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"waited":"1s"}'
SECONDS = 1.0


class Peer(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport):
        """Keep it."""
        self.transport, self._head = transport, b""

    def data_received(self, data):
        """Answer later, if this is the end of a head."""
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._head = b""
            asyncio.get_running_loop().call_later(SECONDS, self._answer)

    def _answer(self):
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main():
    """Listen on a port of the loopback until killed."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
