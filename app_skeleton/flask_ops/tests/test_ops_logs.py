import io
import json
import logging
import logging.config
import os
import sys
import threading
import time

import pytest
import structlog
from flask_ops import json_lines, logs, request_id
from logging_apps import HOSTILE


def strict(line):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


def shop_loggers():
    """Return a logger of each kind, unknown to pytest: its own handler raises what ours must swallow."""
    log = logging.Logger("shop", logging.INFO)
    log.addHandler(next(x for x in logging.getLogger().handlers if isinstance(x, logs.LineHandler)))
    return log, structlog.wrap_logger(log)


@pytest.fixture
def written(monkeypatch):
    """Configure logging onto a stream of our own; return a function that reads the lines."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logging.config.dictConfig(logs.dict_config("info"))
    request_id.end_request()
    yield lambda: [strict(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_structlog_and_logging_write_the_same_shape(written):
    assert request_id.begin_request("req-1") == request_id.current_request_id() == "req-1"
    structlog.contextvars.bind_contextvars(user=7)
    structlog.get_logger("shop").info("sold %s", "tea", price=3)
    logging.getLogger("library").info("sold %s", "tea", extra={"price": 3})
    request_id.begin_request("req-2")
    logging.getLogger("library").debug("not at this level")
    structlog.get_logger("shop").debug("nor this")
    logging.getLogger("gunicorn.access").info("never")
    request_id.end_request()
    logging.getLogger("library").info("later")
    first, second, third = written()
    for line in (first, second):
        assert list(line)[:7] == list(json_lines.FIRST)
        assert (line["event"], line["price"], line["request_id"], line["user"]) == ("sold tea", 3, "req-1", 7)
        assert line["timestamp"].endswith("Z")
    assert (first["logger"], second["logger"]) == ("shop", "library")
    assert (third["request_id"], "user" in third) == (None, False)


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\nb", "ä", "a;b"])
def test_request_id_that_is_not_ours_to_repeat_is_replaced(given):
    assert request_id.begin_request(given) != given
    assert len(request_id.current_request_id()) == 32
    request_id.end_request()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_stays_inside_its_field(written, name):
    thing = HOSTILE[name]
    log, structured = shop_loggers()
    log.info("%s", thing, extra={"thing": thing, "level": thing, "event": "mine"})
    structured.info(thing, thing=thing, level=thing, logger="mine")
    structured.info("%s", thing)
    for line in written():
        assert (line["level"], line["logger"]) == ("info", "shop")
        assert line["event"] != "mine"
        assert isinstance(line["event"], str)
        assert len(json.dumps(line)) <= json_lines.LINE_LIMIT_BYTES
    first, second, _ = written()
    assert first["extra_event"] == second["extra_logger"] == "mine"


def test_values_json_does_not_know_are_shown(written):
    logging.getLogger("shop").info("x", extra={"things": {1: {2}, "n": float("nan"), "b": b"\xff"}, 7: "y"})
    assert written()[0]["things"] == {"1": [2], "n": "nan", "b": "b'\\xff'"}
    assert written()[0]["7"] == "y"


@pytest.mark.parametrize("arguments", [("one", "two"), (), ({"a": 1},)])
def test_wrong_format_arguments_lose_no_words_and_raise_nothing(written, arguments):
    for log in shop_loggers():
        log.info("%d of %(all)s", *arguments)
    for line in written():
        assert line["event"].startswith("%d of %(all)s")
        assert all(str(argument) in line["event"] for argument in arguments)
        assert ("format_error" in line) is bool(arguments)


def test_message_whose_argument_cannot_be_shown_keeps_the_others(written):
    shop_loggers()[0].info("%s %s", HOSTILE["unshowable"], "kept")
    (line,) = written()
    assert "Unshowable that cannot be shown" in line["event"]
    assert "kept" in line["event"]


def test_record_that_breaks_the_formatter_is_still_a_line(written):
    broken = {"name": "shop", "levelno": logging.WARNING, "levelname": "WARNING", "msg": "kept"}
    shop_loggers()[0].handle(logging.makeLogRecord({**broken, "created": "yesterday"}))
    (line,) = written()
    assert (line["level"], line["logger"]) == ("warning", "shop")
    assert line["event"] == "kept [the rest cannot be shown: TypeError]"


def test_filter_that_an_app_gives_our_handler_counts(written):
    log, _ = shop_loggers()
    log.handlers[0].addFilter(lambda record: "noise" not in record.getMessage())
    log.info("noise")
    log.info("sound")
    assert [line["event"] for line in written()] == ["sound"]


def test_long_record_keeps_its_fields_and_the_end_of_its_traceback(written):
    try:
        raise ValueError("a" * 100_000 + "the end")
    except ValueError:
        logging.getLogger("shop").exception("failed %s", "ü\n" * 60_000, extra={"things": ["y" * 99] * 1000})
    (line,) = written()
    assert line["truncated"] is True
    assert line["exception"].endswith("the end")
    assert line["event"].startswith("failed ü\n")
    assert len(json.dumps(line)) <= json_lines.LINE_LIMIT_BYTES


def test_long_message_is_written_in_reasonable_time(written):
    begin = time.process_time()
    logging.getLogger("shop").info("%s", 'password="x" ?a=b ' * 11_000)
    logging.getLogger("shop").info("y" * 20_000_000)
    assert time.process_time() - begin < 2
    assert [line["truncated"] for line in written()] == [True, True]


def test_record_of_very_many_fields_is_reduced_to_the_known_ones():
    text = json_lines.render({f"field{n}": n for n in range(10_000)} | {"event": "x" * 5000, "level": "info"})
    assert len(text) <= json_lines.LINE_LIMIT_BYTES
    line = json.loads(text)
    assert (line["level"], line["truncated"], len(line["event"])) == ("info", True, line["event"].count("x"))


def test_traceback_shows_its_source_but_neither_locals_nor_secrets(written):
    value = os.urandom(8).hex()
    for log in (logging.getLogger("shop"), structlog.get_logger("shop")):
        try:
            password = value
            raise ValueError('refused {"password": "%s"}' % password)  # noqa: UP031 - as apps write it
        except ValueError:
            log.exception("failed", stack_info=True)
        log.error("failed", exc_info=LookupError(f"?key={value}"))
        log.error("failed", exc_info=True)
    lines = written()
    assert value not in json.dumps(lines)
    assert [line.get("exception", "").count("password = value") for line in lines] == [0] * 6
    for line in lines[::3]:
        assert """raise ValueError('refused {"password": "%s"}' % password)""" in line["exception"]
        assert line["exception"].endswith('ValueError: refused {"password": [scrubbed]}')
        assert "test_traceback_shows" in line["stack"]
    assert lines[1]["exception"] == lines[4]["exception"] == "LookupError: ?[scrubbed]"
    assert "exception" not in lines[2]


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
    logs.settle()
    assert root.handlers == [handler]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_at_a_terminal_gets_words(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure_unless_configured()
    logging.getLogger("shop").info("open")
    assert stream.getvalue().startswith("{") is not terminal
    assert "open" in stream.getvalue()
    structlog.reset_defaults()
