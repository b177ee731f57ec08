"""A small nginx: TLS in front, kept connections behind, its upstream a path resolved at each connect."""

import http.client
import http.server
import socket
import ssl
import threading
import time

IDLE_SECONDS = 0.3


class Upstream(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


class FakeNginx:
    def __init__(self, upstream, certificate):
        self.upstream, self.idle, self.guard = upstream, [], threading.Lock()
        nginx = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                status, text = nginx.pass_on(self.path, self.headers["Host"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.set_servername_callback(self._name)
        self.names = set()
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.running = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._reap, daemon=True).start()

    def _name(self, _socket, name, _context):
        self.names.add(name)

    def close(self):
        self.running = False
        self.server.shutdown()
        self.server.server_close()

    def pass_on(self, path, host):
        with self.guard:
            upstream = self.idle.pop()[0] if self.idle else None
        try:
            # As nginx does for a GET, once more on a fresh connection when a kept one turns out closed.
            answer = upstream and self._ask(upstream, path, host)
        except (OSError, http.client.HTTPException):
            answer = None
        try:
            return answer or self._ask(Upstream(self.upstream), path, host)
        except (OSError, http.client.HTTPException):
            return 502, b"Bad Gateway"

    def _ask(self, upstream, path, host):
        upstream.request("GET", path, headers={"Host": host})
        response = upstream.getresponse()
        text = response.read()
        if response.getheader("Connection") == "close":
            upstream.close()
        else:
            with self.guard:
                self.idle.append((upstream, time.monotonic()))
        return response.status, text

    def _reap(self):
        while self.running:
            time.sleep(0.05)
            with self.guard:
                old = [kept for kept in self.idle if time.monotonic() - kept[1] > IDLE_SECONDS]
                self.idle = [kept for kept in self.idle if kept not in old]
            for upstream, _ in old:
                upstream.close()
