"""An app that imports nothing of this project, and says whatever it is given in every way there is."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import warnings

import gevent
from flask import Flask, request

app = Flask(__name__)
own = logging.getLogger("with_a_handler_of_its_own")
own.propagate = False
own.addHandler(logging.StreamHandler())
logging.basicConfig(format="%(levelname)s in plain words: %(message)s")


def crash(text: str) -> None:
    raise RuntimeError(text)


def print_a_traceback(text: str) -> None:
    try:
        crash(text)
    except RuntimeError:
        traceback.print_exc()


WAYS = {
    "message": app.logger.warning,
    "argument": lambda text: app.logger.warning("said %s", text),
    "wrong arguments": lambda text: app.logger.warning(text, 1, {2: 3}),
    "extra field": lambda text: app.logger.warning("said", extra={"said": text, "level": text}),
    "library": lambda text: logging.getLogger("some.library").error(text),
    "own handler": own.warning,
    "print": print,
    "print to stderr": lambda text: print(text, file=sys.stderr),
    "warning": lambda text: warnings.warn(text, stacklevel=1),
    "printed traceback": print_a_traceback,
    "greenlet": lambda text: gevent.spawn(crash, text),
    "thread": lambda text: threading.Thread(target=crash, args=(text,)).start(),
    "exception": crash,
}


@app.post("/say")
def say():
    """Say the body, as far as it is text."""
    WAYS[request.args["way"]](request.get_data().decode("utf-8", "surrogateescape"))
    return "said"


@app.get("/version")
def version():
    """Answer under a name that the operators' pages have too, if nothing stands before theirs."""
    return "the app's own version"


@app.post("/spill")
def spill():
    """Do with secrets what careless code does."""
    password = request.get_json()["password"]
    app.logger.warning("asked for %s by %s", request.url, dict(request.headers))
    app.logger.warning("was given %s and %s", request.get_json(), request.cookies)
    app.logger.warning(
        "will pay", extra={"api_key": os.environ["PAYMENT_KEY"], "seen": [dict(request.headers)]}
    )
    print(f"Authorization: {request.headers['Authorization']}")
    if len(password) % 2:
        # Nothing of it is in the words; the value is in a local variable alone.
        raise LookupError("no such account")
    raise ValueError(f"cannot read {request.get_data(as_text=True)[:2000]}")


@app.post("/pay")
def pay():
    """Quote a secret without a telling name beside it."""
    raise ConnectionError(f"the bank refuses {os.environ['PAYMENT_KEY']} for {request.full_path}")


@app.get("/payment-key")
def payment_key():
    """Show that the secret is there, without showing it."""
    return hashlib.sha256(os.environ["PAYMENT_KEY"].encode()).hexdigest()


@app.get("/call")
def call():
    """Say whether an address is reached."""
    try:
        socket.create_connection((request.args["host"], int(request.args["port"])), timeout=3).close()
    except OSError as error:
        return f"not reached: {error}"
    return "reached"


@app.post("/die")
def die():
    """Take the worker away under its request."""
    os.kill(os.getpid(), signal.SIGKILL)
