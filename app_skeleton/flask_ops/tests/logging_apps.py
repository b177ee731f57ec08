"""Apps that log in every way they should not. They know nothing of flask_ops."""

import logging
import logging.config
import os
import sys
import threading
import traceback
import warnings

from flask import Flask, request
from flask.logging import default_handler


class Unshowable:
    def __repr__(self):
        raise ValueError("no words for it")


def _circle():
    inner = {"name": "circle"}
    inner["self"] = [inner]
    return inner


#: What ends up in a message, a field, and what is printed.
HOSTILE = {
    "newlines": 'one\ntwo\r\nthree {"event": "forged"}',
    "escapes": "\x1b[31mred\x1b[0m \x00 \x07 \x7f",
    "separators": "a\u2028b\u2029c\x85d",
    "surrogates": "half \ud800 and a byte \udcff",
    "bytes": b"\xff\xfe no utf-8",
    "long": "ü" * 200_000,
    "unshowable": Unshowable(),
    "deep": [[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]],
    "circle": _circle(),
    "many": [{"number": number} for number in range(5_000)],
    "keys": {1: "a", None: "b", (2, 3): "c", b"\xff": "d", 1.5: "e"},
    "numbers": [float("nan"), float("inf"), 10**5000, -0.0, True],
    "exception": ValueError("as a value"),
}


def _log_all(log):
    for name, thing in HOSTILE.items():
        log.info("%s: %s", name, thing, extra={"thing": thing, "event": "mine", "level": thing, "logger": 1})
        log.warning(thing)


def routes(app: Flask) -> Flask:
    @app.get("/")
    def index():
        return "ok"

    @app.get("/say")
    def say():
        text = request.args["text"]
        log = logging.getLogger("shop")
        log.info("said %s", text, extra={"text": text, "release": text})
        print(text)
        print(text, file=sys.stderr)
        return "ok"

    @app.get("/hostile")
    def hostile():
        _log_all(logging.getLogger("shop"))
        return "ok"

    @app.get("/printed")
    def printed():
        for name in HOSTILE.keys() - {"unshowable", "numbers"}:
            print(HOSTILE[name])
        print("no end of line", end="")
        sys.stdout.buffer.write(b"raw \xff bytes\n")
        sys.stderr.writelines(["three\n", "lines\n", "here\n"])
        print("to", "wsgi.errors", file=request.environ["wsgi.errors"])
        return "ok"

    @app.get("/tracebacks")
    def tracebacks():
        try:
            raise KeyError("caught one")
        except KeyError:
            traceback.print_exc()
            traceback.print_exc(file=request.environ["wsgi.errors"])
        threading.Thread(target=lambda: 1 / 0).start()
        warnings.warn("old ways", stacklevel=1)
        Collected()
        return "ok"

    @app.get("/mistakes")
    def mistakes():
        log = logging.getLogger("shop")
        log.info("%s %s", "one")
        log.info("%d", "word")
        log.info("%(absent)s", {"a": 1})
        log.info("100 %", "what")
        logging.getLogger("mute").warning("nobody listens")
        logging.getLogger("apart").warning("apart")
        app.logger.error("the app's own")
        return "ok"

    @app.get("/boom")
    def boom():
        raise LookupError(f"{HOSTILE['newlines']} {HOSTILE['escapes']}")

    return app


class Collected:
    def __del__(self):
        raise OSError("in a destructor")


def _own_loggers(app: Flask) -> None:
    logging.getLogger("mute").propagate = False
    apart = logging.getLogger("apart")
    apart.propagate = False
    apart.addHandler(logging.StreamHandler(sys.stderr))
    app.logger.addHandler(default_handler)


def basic() -> Flask:
    """Call basicConfig by force, which throws all other handlers out."""
    print("printed at import")
    logging.basicConfig(level="DEBUG", force=True, stream=sys.stdout, format="plain %(message)s")
    app = routes(Flask("basic"))
    _own_loggers(app)
    return app


def by_dict() -> Flask:
    """Use the dictionary of Flask's manual, which switches off the loggers that exist."""
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"default": {"format": "[%(asctime)s] %(levelname)s in %(module)s: %(message)s"}},
            "handlers": {
                "wsgi": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://flask.logging.wsgi_errors_stream",
                    "formatter": "default",
                },
                "file": {"class": "logging.FileHandler", "filename": os.environ["TEST_LOG_FILE"]},
            },
            "root": {"level": "ERROR", "handlers": ["wsgi", "file"]},
        }
    )
    app = routes(Flask("by_dict"))
    _own_loggers(app)
    return app


def broken() -> Flask:
    print("about to break")
    raise ImportError(os.environ["TEST_WORDS"])
