"""What the layer between server and app does to answers, without a server."""

import io

import pytest
from flask_ops import deadline
from flask_ops.settings import Mistakes, Reader


@pytest.fixture(autouse=True)
def limit():
    deadline.enforce(1, lambda: None, lambda guarded: None)
    yield
    deadline.enforce(0, lambda: None, lambda guarded: None)
    assert not deadline.running
    deadline.running.clear()


class Server:
    """A server that notes what it is given; its start_response is as strict as gunicorn's."""

    def __init__(self, **environ):
        self.environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "wsgi.file_wrapper": FileWrapper,
            **environ,
        }
        self.given = []

    def start_response(self, status, headers, exc_info=None):
        if exc_info and self.given:
            raise exc_info[1]
        assert exc_info or not self.given
        self.given.append(status)
        return self.given.append

    def call(self, app):
        body = deadline.limited(app, self.environ, self.start_response)
        try:
            self.given += list(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        return self.given


class FileWrapper:
    def __init__(self, file):
        self.file = file

    def __iter__(self):
        return iter([self.file.read()])


class Body:
    def __init__(self, chunks):
        self.chunks, self.closed = iter(chunks), False

    def __iter__(self):
        return self.chunks

    def close(self):
        self.closed = True


def late(*args):
    raise deadline.DeadlineExceeded


def test_file_reaches_the_server_as_what_it_is():
    wrapped = FileWrapper(io.BytesIO(b"file"))
    server = Server()

    def app(environ, start_response):
        start_response("200 OK", [])
        return wrapped

    assert deadline.limited(app, server.environ, server.start_response) is wrapped
    assert server.given == ["200 OK"]


@pytest.mark.parametrize("chunks", [[b"a", b"b"], (b"a", b"b")])
def test_whole_body_is_passed_on_as_it_is(chunks):
    server = Server()

    def app(environ, start_response):
        start_response("200 OK", [])
        return chunks

    assert deadline.limited(app, server.environ, server.start_response) is chunks


def test_answer_that_is_no_iterable_is_the_servers_own_business():
    answered = object()
    assert deadline.limited(lambda *args: answered, Server().environ, Server().start_response) is answered


def test_body_is_closed_and_forgotten_whatever_happens():
    body = Body([b"x"])
    server = Server()

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    assert server.call(app) == ["200 OK", b"x"]
    assert body.closed
    with pytest.raises(LookupError):
        Server().call(lambda *args: {}["absent"])


def test_empty_body_still_has_a_head():
    def app(environ, start_response):
        start_response("204 No Content", [])
        return Body([])

    assert Server().call(app) == ["204 No Content"]


def test_app_may_start_its_answer_at_the_first_chunk():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"x"

    assert Server().call(app) == ["200 OK", b"x"]


def test_app_may_replace_its_answer_until_something_is_sent():
    def app(environ, start_response):
        start_response("200 OK", [])
        start_response("500 No", [], (ValueError, ValueError(), None))
        return Body([b"x"])

    assert Server().call(app) == ["500 No", b"x"]


def test_app_may_not_replace_an_answer_that_is_on_its_way():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        start_response("500 No", [], (ValueError, ValueError("the cause"), None))

    with pytest.raises(ValueError, match="the cause"):
        Server().call(app)


def test_write_sends_the_head_first():
    def app(environ, start_response):
        start_response("200 OK", [])(b"written")
        return [b"x"]

    assert Server().call(app) == ["200 OK", b"written", b"x"]


def test_late_app_is_a_503_without_the_apps_headers():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "1")])
        late()

    status, body = Server().call(app)
    assert status == "503 Service Unavailable"
    assert b"took longer than 1 s" in body


def test_503_to_head_has_no_body():
    assert Server(REQUEST_METHOD="HEAD").call(late) == ["503 Service Unavailable", b""]


def test_late_end_of_a_written_answer_cuts_the_connection():
    def app(environ, start_response):
        start_response("200 OK", [])(b"written")
        late()

    with pytest.raises(ConnectionResetError):
        Server().call(app)


def test_late_close_is_no_second_answer():
    body = Body([b"x"])
    body.close = late

    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    assert Server().call(app) == ["200 OK", b"x"]


def test_upgrade_to_another_protocol_is_not_limited():
    body = Body([b"x"])
    server = Server(HTTP_UPGRADE="websocket")
    assert deadline.limited(lambda *args: body, server.environ, server.start_response) is body


def test_hooks_are_told_of_each_request_that_is_ended():
    told = []
    deadline.on_timeout.append(lambda: told.append(1))
    try:
        Server().call(late)
    finally:
        deadline.on_timeout.clear()
    assert told == [1]


@pytest.mark.parametrize(
    ("env", "graceful", "timeout", "said"),
    [
        ({}, 30, 60, None),
        ({"FLASK_OPS_REQUEST_DEADLINE_SECONDS": "0"}, 2, 5, None),
        ({"FLASK_OPS_REQUEST_DEADLINE_SECONDS": "30"}, 30, 60, "below GUNICORN_GRACEFUL_TIMEOUT_SECONDS=30"),
        ({}, 30, 29, "5 s and more below GUNICORN_TIMEOUT_SECONDS=29"),
        ({"FLASK_OPS_BLOCKED_SECONDS": "25"}, 30, 60, "below FLASK_OPS_REQUEST_DEADLINE_SECONDS=25"),
        ({"FLASK_OPS_REQUEST_DEADLINE_SECONDS": "3"}, 30, 60, None),
        ({"FLASK_OPS_REQUEST_DEADLINE_SECONDS": "soon"}, 30, 60, "'soon' is not a number"),
    ],
)
def test_time_limits_must_nest(monkeypatch, env, graceful, timeout, said):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    read = Reader()
    deadline.require_order(read, graceful_timeout=graceful, timeout=timeout)
    if said is None:
        read.finish()
    else:
        with pytest.raises(Mistakes, match=said):
            read.finish()


def late_after(*chunks):
    yield from chunks
    late()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_late_first_chunk_is_a_503_and_a_later_one_a_cut(method):
    def app(environ, start_response):
        start_response("200 OK", [])
        return Body(late_after())

    assert Server(REQUEST_METHOD=method).call(app)[0] == "503 Service Unavailable"

    def begun(environ, start_response):
        start_response("200 OK", [])
        return Body(late_after(b"x"))

    with pytest.raises(ConnectionResetError):
        Server(REQUEST_METHOD=method).call(begun)


@pytest.mark.parametrize("chunks", [[b"x"], Body([b"x"])])
def test_request_that_was_answered_from_outside_is_not_answered_again(chunks):
    def app(environ, start_response):
        start_response("200 OK", [])
        for call in deadline.running:
            call.answered = True
        return chunks

    server = Server()
    with pytest.raises(ConnectionResetError):
        server.call(app)
    assert server.given == []


def test_stream_that_was_answered_from_outside_ends():
    def chunks():
        for call in deadline.running:
            call.answered = True
        yield b"x"

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body(chunks())

    server = Server()
    with pytest.raises(ConnectionResetError):
        server.call(app)
    assert server.given == []


def test_interrupt_on_its_way_is_taken_back_when_the_app_is_left():
    taken_back = []
    deadline.enforce(1, lambda: None, taken_back.append)

    def app(environ, start_response):
        for call in deadline.running:
            call.first = 1.0
        start_response("200 OK", [])
        return [b"x"]

    Server().call(app)
    assert len(taken_back) == 1
