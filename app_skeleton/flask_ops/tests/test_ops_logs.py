import io
import json
import logging
import logging.config
import sys
import threading

import pytest
import structlog
from flask_ops import logs


@pytest.fixture
def written(monkeypatch):
    """Configure logging onto a stream of our own; return a function that reads the lines."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logging.config.dictConfig(logs.dict_config("info"))
    logs.end_request()
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_structlog_and_logging_write_the_same_shape(written):
    assert logs.begin_request("req-1") == logs.current_request_id() == "req-1"
    structlog.contextvars.bind_contextvars(user=7)
    structlog.get_logger("shop").info("sold %s", "tea", price=3)
    logging.getLogger("library").info("sold %s", "tea", extra={"price": 3})
    logs.begin_request("req-2")
    logging.getLogger("library").debug("not at this level")
    structlog.get_logger("shop").debug("nor this")
    logging.getLogger("gunicorn.access").info("never")
    logs.end_request()
    logging.getLogger("library").info("later")
    first, second, third = written()
    for line in (first, second):
        assert (line["event"], line["price"], line["request_id"], line["user"]) == ("sold tea", 3, "req-1", 7)
        assert line["timestamp"].endswith("Z")
    assert (first["logger"], second["logger"]) == ("shop", "library")
    assert (third["request_id"], "user" in third) == (None, False)


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\nb", "ä", "a;b"])
def test_request_id_that_is_not_ours_to_repeat_is_replaced(given):
    assert logs.begin_request(given) != given
    assert len(logs.current_request_id()) == 32
    logs.end_request()


def test_long_record_keeps_its_fields_and_the_end_of_its_traceback(written):
    try:
        raise ValueError("a" * 100_000 + "the end")
    except ValueError:
        logging.getLogger("shop").exception("failed %s", "ü\n" * 60_000, extra={"things": ["y" * 99] * 1000})
    (line,) = written()
    assert line["truncated"] is True
    assert line["exception"].endswith("the end")
    assert line["event"].startswith("failed ü\n")
    assert len(json.dumps(line)) <= logs.LINE_LIMIT_BYTES


def test_record_of_very_many_fields_is_reduced_to_the_known_ones():
    text = logs.render(
        None, "info", {f"field{n}": n for n in range(10_000)} | {"event": "x" * 5000, "level": "info"}
    )
    assert len(text) <= logs.LINE_LIMIT_BYTES
    line = json.loads(text)
    assert (line["level"], line["truncated"], len(line["event"])) == ("info", True, line["event"].count("x"))


def test_value_json_does_not_know_is_shown_not_fatal():
    assert json.loads(logs.render(None, "info", {"event": "x", "thing": {1}}))["thing"] == "{1}"


def test_uncaught_exceptions_are_logged_and_an_interrupt_is_left_alone(written, capsys):
    logs.capture_uncaught()
    try:
        raise LookupError("nothing here")
    except LookupError as error:
        sys.excepthook(LookupError, error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    thread = threading.Thread(target=lambda: 1 / 0, name="worker-9")
    thread.start()
    thread.join()
    uncaught, in_thread = written()
    assert (uncaught["level"], "nothing here" in uncaught["exception"]) == ("critical", True)
    assert in_thread["thread"] == "worker-9"


def test_a_process_that_has_logging_keeps_it(monkeypatch):
    handler = logging.NullHandler()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    logs.configure_unless_configured()
    assert root.handlers == [handler]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_at_a_terminal_gets_words(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure_unless_configured()
    logging.getLogger("shop").info("open")
    assert stream.getvalue().startswith("{") is not terminal
    assert "open" in stream.getvalue()
    structlog.reset_defaults()
