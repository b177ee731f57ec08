"""What gunicorn promises of a worker, and of how one ends, holds for ours."""

import http.client
import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager

import pytest
from bare_gunicorn import OURS, Gunicorn, received
from flask_ops.http_response import PlainResponse
from flask_ops.testing import UnixConnection, eventually

GET = b"GET %b HTTP/1.1\r\nHost: example.org\r\n\r\n"


@contextmanager
def served(*options, app="worker_apps:app"):
    with Gunicorn(OURS, app, *options) as server:
        yield server


@pytest.fixture(scope="module")
def server():
    """One for the tests that leave it as it was."""
    with served("--keep-alive", "30") as made:
        yield made


class Unbuffered:
    """A connection that http.client reads no byte more from than it needs."""

    def __init__(self, client):
        self.client = client

    def makefile(self, mode):
        return self.client.makefile(mode, buffering=0)


def answer(client):
    """Read one answer, and leave the next where it is."""
    response = http.client.HTTPResponse(Unbuffered(client))
    response.begin()
    body = b""
    while len(body) < response.length and (more := client.recv(response.length - len(body))):
        body += more
    return response, body


def ask(client, path=b"/"):
    client.sendall(GET % path)
    return answer(client)


def ended(client):
    """Return whether the server has closed a connection."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20)


def test_connection_carries_many_requests_whichever_way_they_are_read(server):
    with server.connect() as client:
        for path in (b"/", b"/", b"http://example.org/", b"/"):
            assert ask(client, path)[0].status == 200
        client.sendall(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + GET % b"/"
        )
        assert [answer(client)[1] for _ in range(2)] == [b"POST 'abc'", b"GET ''"]


def test_head_may_come_byte_by_byte(server):
    with server.connect() as client:
        for byte in GET % b"/":
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert answer(client)[1] == b"GET ''"


def test_large_body_that_the_app_does_not_read_leaves_the_next_request_whole(server):
    with server.connect() as client:
        client.sendall(
            b"POST /unread HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000 + GET % b"/"
        )
        assert [answer(client)[1] for _ in range(2)] == [b"unread", b"GET ''"]


def test_client_that_waits_for_leave_to_send_is_given_it(server):
    with server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(b"abc")
        assert answer(client)[1] == b"POST 'abc'"


def test_stream_is_sent_as_it_comes(server):
    with server.connect() as client:
        client.sendall(GET % b"/slow-stream")
        first, began = client.recv(1000), time.monotonic()
        assert b"first" in first
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest += client.recv(1000)
        assert b"second" in rest
        assert time.monotonic() - began > 0.3


def test_file_is_sent_whole_and_from_where_it_stands(server, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(400_000))
    with server.connect() as client:
        assert ask(client, b"/file" + bytes(path))[1] == path.read_bytes()[10:]
        assert ask(client)[0].status == 200


def test_client_that_reads_slowly_gets_all_of_a_large_answer(server):
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(GET % b"/large")
        time.sleep(0.5)
        assert answer(client)[1] == b"x" * 5_000_000


def test_requests_are_answered_side_by_side(server):
    with server.connect() as slow, server.connect() as quick:
        slow.sendall(GET % b"/slow")
        assert ask(quick)[1] == b"GET ''"
        assert not ended(slow)
        assert answer(slow)[1] == b"slow"


def test_app_that_fails_is_a_500_and_the_connection_ends(server):
    with server.connect() as client:
        response, _ = ask(client, b"/fails")
        assert response.status == 500
        assert received(client) == b""


def test_app_that_exits_ends_its_connection_and_nothing_else(server):
    with server.connect() as client:
        client.sendall(GET % b"/exits")
        assert received(client) == b""
    assert server.talk(GET % b"/")


def test_app_may_take_the_connection_over(server):
    with server.connect() as client:
        client.sendall(GET % b"/takes-over")
        assert received(client) == b"another protocol"


def test_client_that_leaves_is_no_error(server):
    for data in (b"GET", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", GET % b"/large"):
        with server.connect() as client:
            client.sendall(data)
    assert server.talk(GET % b"/")
    text = server.output.read_text()
    assert "Traceback" not in text.split("ValueError: planted")[-1], text


def test_app_is_called_as_wsgi_says():
    with served(app="worker_apps:validated") as server:
        connection = UnixConnection(server.path)
        for method, body in (("GET", None), ("POST", b"abc"), ("HEAD", None)):
            connection.request(method, "/a%20b?c=d", body, {"Cookie": "a=b"})
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, method != "HEAD")
        connection.close()
        assert "AssertionError" not in server.output.read_text()


def test_idle_connection_is_closed_after_its_time_and_not_before():
    with served("--keep-alive", "2") as server, server.connect() as client:
        ask(client)
        began = time.monotonic()
        assert client.recv(1) == b""
        assert 1.5 < time.monotonic() - began < 6


def test_connection_that_is_answering_is_not_idle():
    with served("--keep-alive", "1") as server, server.connect() as client:
        assert ask(client, b"/very-slow")[1] == b"very slow"


def test_head_that_never_ends_is_not_waited_for():
    with served("--keep-alive", "1") as server, server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert received(client) == b""


def test_no_keep_alive_is_one_request_a_connection():
    with served("--keep-alive", "0") as server, server.connect() as client:
        response, _ = ask(client)
        assert response.headers["Connection"] == "close"
        assert received(client) == b""


def test_stop_answers_what_is_in_flight_and_closes_what_is_idle_at_once():
    with served("--keep-alive", "60") as server:
        with server.connect() as idle, server.connect() as busy, server.connect() as silent:
            ask(idle)
            busy.sendall(GET % b"/slow")
            time.sleep(0.2)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert received(idle) == b""
            response, body = answer(busy)
            assert (body, response.headers["Connection"]) == (b"slow", "close")
            assert received(silent) == b""
            server.process.wait(20)
        # The slow request lasts one of these seconds.
        assert time.monotonic() - began < 5


def test_stop_does_not_wait_for_ever():
    with served("--graceful-timeout", "1") as server, server.connect() as client:
        client.sendall(GET % b"/endless")
        time.sleep(0.3)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - began < 10


def test_worker_that_has_answered_enough_is_replaced_and_loses_nothing():
    with served("--max-requests", "20", "--keep-alive", "3") as server:
        first = server.worker
        clients = [server.connect() for _ in range(4)]
        answered = 0
        for _ in range(40):
            for number, client in enumerate(clients):
                response, body = ask(client)
                assert body == b"GET ''"
                answered += 1
                if response.will_close:
                    client.close()
                    clients[number] = server.connect()
        for client in clients:
            client.close()
        assert answered == 160
        eventually(lambda: server.worker not in (0, first))


def test_worker_that_hangs_is_ended_by_its_heartbeat():
    with served("--timeout", "2") as server:
        first = server.worker
        with server.connect() as client:
            client.sendall(GET % b"/blocks")
            eventually(lambda: server.worker not in (0, first))
        assert server.talk(GET % b"/")


def test_connections_beyond_the_limit_wait_their_turn():
    with served("--worker-connections", "2") as server, ExitStack() as clients:
        one, two, three = (clients.enter_context(server.connect()) for _ in range(3))
        ask(one)
        ask(two)
        three.sendall(GET % b"/")
        time.sleep(0.5)
        assert not ended(three)
        one.close()
        assert answer(three)[1] == b"GET ''"


def test_access_log_is_written_when_asked():
    with served("--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(B)s") as server:
        server.talk(GET % b"/")
        eventually(lambda: "GET / 200 6" in server.output.read_text())


class Sent:
    """A socket that keeps what it is given, a call at a time, and may take less than all."""

    def __init__(self, at_most=1 << 30):
        self.calls, self.at_most = [], at_most

    def send(self, data):
        self.calls.append(bytes(data[: self.at_most]))
        return len(self.calls[-1])

    def sendmsg(self, parts):
        return self.send(b"".join(parts))

    def sendall(self, data):
        self.calls.append(bytes(data))


class Asked:
    method, version = "GET", (1, 1)

    def should_close(self):
        return False


class Settings:
    protocol = "http"


class Alive:
    alive = True


@pytest.mark.parametrize("size", [0, 3, 100_000])
@pytest.mark.parametrize("length", [True, False])
def test_head_and_body_are_one_call(size, length):
    client = Sent()
    response = PlainResponse(Asked(), client, Settings(), Alive())
    response.start_response("200 OK", [("Content-Length", str(size))] if length else [])
    response.write(b"x" * size)
    assert len(client.calls) == 1
    response.close()
    assert len(client.calls) == (1 if length else 2)


@pytest.mark.parametrize("at_most", [1, 50, 200, 40_000])
@pytest.mark.parametrize("size", [100, 100_000])
def test_what_the_kernel_does_not_take_at_once_follows(at_most, size):
    client = Sent(at_most)
    response = PlainResponse(Asked(), client, Settings(), Alive())
    response.start_response("200 OK", [("Content-Length", str(size))])
    response.write(bytes(range(100)) * (size // 100))
    assert b"".join(client.calls).partition(b"\r\n\r\n")[2] == bytes(range(100)) * (size // 100)
