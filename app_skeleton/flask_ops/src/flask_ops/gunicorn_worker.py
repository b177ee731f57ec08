"""A worker class for gunicorn: its gevent one, with less work between the socket and the app.

What it keeps is gunicorn's: a greenlet for each connection, at most ``worker_connections`` of them, the
heartbeat, ``max_requests``, every rule on requests and answers, every hook. What it leaves out of each
request is a parser in Python (:mod:`flask_ops.http_request`), a system call for the head alone
(:mod:`flask_ops.http_response`), a timer for the keep-alive time, a read that finds nothing yet, and the
look-up of settings.

An idle connection is closed within a second after its keep-alive time, and at once when the worker is told to
stop. A worker that ends by itself (``max_requests``, the watchdog) lets nginx close them, whose own time is
shorter: only who sends the requests knows that none is on its way.

A connection over TLS, or that could speak the proxy protocol, HTTP/2 or uwsgi's, is gunicorn's own to serve.
"""

from __future__ import annotations

import errno
import socket
from datetime import datetime
from functools import partial
from io import BytesIO
from time import monotonic
from typing import Any

from gevent import GreenletExit, Timeout, get_hub, getcurrent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http.errors import NoMoreData
from gunicorn.http.message import Request
from gunicorn.http.wsgi import FileWrapper, create
from gunicorn.workers.base_async import ALREADY_HANDLED
from gunicorn.workers.ggevent import GeventWorker

from .http_request import Connection, Listener, PlainRequest
from .http_response import PlainResponse

_READABLE = 1
# As gunicorn: what it says of a head that is wrong twice depends on how much of it has come.
_RECEIVED_AT_ONCE = 8192
_UNREAD_AT_ONCE = 64 * 1024
_PEER_IS_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


class OpsWorker(GeventWorker):
    """Serve a WSGI app over HTTP/1."""

    def run(self) -> None:
        """Accept connections until told to stop, then answer what is in flight."""
        cfg = self.cfg
        if cfg.is_ssl or cfg.proxy_protocol != "off" or cfg.protocol != "http" or "h2" in cfg.http_protocols:
            super().run()
            return
        self._hub = get_hub()
        self._stopped = Event()
        #: Connections that wait for a request, and the second since which they do.
        self._idle: dict[Connection, int] = {}
        self._second = 0
        # Each look into gunicorn's settings costs a microsecond.
        self._keepalive = cfg.keepalive
        self._pre_request, self._post_request = cfg.pre_request, cfg.post_request
        self._logs_access = self.log.access_log_enabled
        servers = [self._listen(listener) for listener in self.sockets]
        while self.alive:
            # First: the arbiter watches no worker that has never given a sign.
            self._second_passed()
            self._stopped.wait(1.0)
        self._end(servers)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop, without waiting for the second to pass."""
        super().handle_exit(sig, frame)
        if hasattr(self, "_stopped"):
            self._stopped.set()

    def _listen(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        handle = partial(self._connected, Listener(self.cfg, listener.getsockname()))
        server = StreamServer(listener, handle=handle, spawn=Pool(self.worker_connections))
        if self.cfg.workers > 1:
            # The others may be less busy.
            server.max_accept = 1
        server.start()
        return server

    def _second_passed(self) -> None:
        self.notify()
        self._second += 1
        if self._keepalive:
            self._close_idle(self._keepalive)

    def _close_idle(self, seconds: int) -> None:
        """Let connections that have been idle for longer end.

        What has arrived on one nevertheless is still read, and answered.
        """
        for connection, since in tuple(self._idle.items()):
            if self._second - since > seconds:
                try:
                    connection.client.shutdown(socket.SHUT_RD)
                except OSError:
                    self.log.debug("A connection has gone before it was closed.")

    def _end(self, servers: list[StreamServer]) -> None:
        for server in servers:
            server.close()
        patience = monotonic() + self.cfg.graceful_timeout
        # Later ones are those that were accepted a moment ago.
        idle_seconds = -1
        while any(server.pool for server in servers):
            if monotonic() > patience:
                self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
                for server in servers:
                    server.stop(timeout=1)
                return
            if self._stopped.is_set():
                self._close_idle(idle_seconds)
                idle_seconds = 1
            for server in servers:
                server.pool.join(timeout=1.0 / len(servers))
            self._second_passed()

    # A connection, in its greenlet.

    def _connected(self, listener: Listener, client: Any, address: Any) -> None:
        connection = Connection(listener, client, address)
        client.setblocking(1)
        readable = self._hub.loop.io(client.fileno(), _READABLE)
        try:
            self._serve(connection, readable)
        except OSError as error:
            if error.errno in _PEER_IS_GONE:
                self.log.debug("Ignoring %s", error)
            else:
                self.log.exception("Socket error processing request.")
        except (GreenletExit, SystemExit):
            self.log.debug("Closing connection: its greenlet ends.")
        except BaseException as error:
            self.handle_error(None, client, address, error)
        finally:
            readable.close()
            util.close(client)

    def _serve(self, connection: Connection, readable: Any) -> None:
        request: Request | None = None
        number = 0
        try:
            while data := connection.rest or self._wait_and_receive(connection, readable):
                number += 1
                request = connection.read(data) or self._read_by_gunicorn(connection, data, number)
                if request is None or not self._answer(connection, request):
                    return
                body, request = request.body, None
                if type(body) is not BytesIO and not self._read_past(connection, body):
                    return
        except NoMoreData as error:
            self.log.debug("Ignored premature client disconnection. %s", error)
        except OSError:
            raise
        except Exception as error:
            self.handle_error(request, connection.client, connection.address, error)

    def _wait_and_receive(self, connection: Connection, readable: Any) -> bytes:
        self._idle[connection] = self._second
        # What hub.wait() does, without an object to wait on: nobody else has this greenlet to switch to.
        readable.start(getcurrent().switch)
        try:
            self._hub.switch()
        finally:
            readable.stop()
            del self._idle[connection]
        return connection.client.recv(_RECEIVED_AT_ONCE)

    def _read_by_gunicorn(self, connection: Connection, data: bytes, number: int) -> Request | None:
        """Return a request of any kind; None if it does not come in time."""
        connection.rest = b""
        connection.unreader.unread(data)
        with Timeout(self._keepalive or None, False):
            return Request(connection.listener.cfg, connection.unreader, connection.address, number)
        return None

    def _read_past(self, connection: Connection, body: Any) -> bool:
        """Read what the app has left of a body; return whether the next request can be found."""
        if body.failed:
            return False
        with Timeout(self._keepalive or None, False):
            while body.read(_UNREAD_AT_ONCE):
                pass
            connection.rest = connection.unreader.take_buffered()
            return True
        return False

    # A request.

    def _answer(self, connection: Connection, request: Request) -> bool:
        """Give a request to the app; return whether the connection may carry another."""
        began = datetime.now() if self._logs_access else None
        environ: dict[str, Any] = {}
        response = None
        try:
            self._pre_request(self, request)
            response, environ = self._prepare(connection, request)
            self._count(response)
            body = self.wsgi(environ, response.start_response)
            if body is ALREADY_HANDLED:
                return False
            try:
                if isinstance(body, FileWrapper):
                    response.write_file(body)
                else:
                    for item in body:
                        response.write(item)
                response.close()
            finally:
                if began is not None:
                    self.log.access(response, request, environ, datetime.now() - began)
                if hasattr(body, "close"):
                    body.close()
            return not response.should_close()
        except OSError:
            raise
        except Exception:
            if response is None or not response.headers_sent:
                raise
            # A second answer would be taken for a part of the first.
            self.log.exception("Error handling request")
            return False
        finally:
            try:
                self._post_request(self, request, environ, response)
            except Exception:
                self.log.exception("Exception in post_request hook")

    def _prepare(self, connection: Connection, request: Request) -> tuple[PlainResponse, dict[str, Any]]:
        cfg = connection.listener.cfg
        if type(request) is PlainRequest:
            response = PlainResponse(request, connection.client, cfg, self)
            environ = request.take_environ()
            environ["wsgi.early_hints"] = response.early_hints
            return response, environ
        client, name = connection.client, connection.listener.name
        response, environ = create(
            request, client, connection.address, name, cfg, PlainResponse, response_args=(self,)
        )
        environ["wsgi.multithread"] = True
        return response, environ

    def _count(self, response: PlainResponse) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self._keepalive:
            response.force_close()
