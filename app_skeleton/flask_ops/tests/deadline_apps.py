"""Apps that take too long, in every way there is."""

import asyncio
import ctypes
import hashlib
import logging
import os
import time
from pathlib import Path

from flask import Flask, Response, request, send_file
from flask_ops import init_app
from gevent import monkey

if os.environ.get("TEST_DENY_WRITE_EXECUTE"):
    # PR_SET_MDWE (prctl(2), Linux 6.3): what systemd's MemoryDenyWriteExecute= forbids. Workers inherit it.
    denied = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0

app = Flask("late")
log = logging.getLogger("late")


@app.get("/denied")
def writable_code_denied():
    return str(denied)


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.get("/wait")
def wait():
    time.sleep(float(request.args.get("seconds", 60)))
    return "done"


@app.get("/spin")
def spin():
    password = os.environ["TEST_SECRET"]  # noqa: F841 - must be in no log line
    until = time.monotonic() + float(request.args.get("seconds", 60))
    while time.monotonic() < until:
        pass
    return "done"


@app.get("/stubborn")
def stubborn():
    for _ in range(int(request.args.get("times", 2))):
        try:
            time.sleep(60)
        except:  # noqa: E722
            log.warning("swallowed")
    time.sleep(60)
    return "done"


@app.get("/digest")
def digest():
    """Run C code for about a minute without a step of Python between."""
    return hashlib.pbkdf2_hmac("sha256", b"x", b"y", 60_000_000).hex()


@app.get("/stream")
def stream():
    many, then = int(request.args["chunks"]), float(request.args.get("then", 0))

    def chunks():
        for number in range(many):
            time.sleep(0.3)
            yield f"{number}\n"
        time.sleep(then)
        yield "end\n"

    return Response(chunks(), mimetype="text/plain")


@app.get("/silent")
def silent():
    def chunks():
        time.sleep(60)
        yield "never"

    return Response(chunks(), mimetype="text/plain")


@app.get("/file")
def file():
    return send_file(Path(__file__))


@app.get("/greenlet")
def greenlet():
    import gevent

    gevent.spawn(spin_for_ever)
    return "spawned"


def spin_for_ever():
    while True:
        pass


@app.teardown_request
def told(error):
    if error is not None:
        log.info("torn down by %s", type(error).__name__)


# Views of their own kind: each logs with its request's id.


@app.get("/async")
async def view():
    seconds = float(request.args.get("seconds", 1))
    log.info("before %s", request.args.get("n"))
    await asyncio.gather(*(asyncio.sleep(seconds) for _ in range(3)))
    log.info("after %s", request.args.get("n"))
    return {"n": request.args.get("n"), "id": request.headers["X-Request-ID"]}


async def fetch(port, word):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(word.encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


@app.get("/async-tcp")
async def tcp():
    return await asyncio.gather(*(fetch(int(request.args["port"]), f"word {n}") for n in range(10)))


@app.get("/async-executor")
async def executor():
    def work():
        time.sleep(0.2)
        return "from a thread"

    return await asyncio.get_running_loop().run_in_executor(None, work)


@app.get("/async-future")
async def future():
    """Be woken by another greenlet of this very thread."""
    import gevent

    made = asyncio.get_running_loop().create_future()
    gevent.spawn_later(0.2, made.set_result, "woken")
    return await made


@app.get("/async-boom")
async def boom():
    await asyncio.sleep(0)
    raise LookupError("inside the coroutine")


@app.get("/async-spin")
async def async_spin():
    spin_for_ever()


@app.get("/async-wait")
async def async_wait():
    try:
        await asyncio.sleep(60)
    finally:
        log.info("coroutine cancelled")


@app.get("/threads")
def threads():
    return str(len(list(Path("/proc/self/task").iterdir())))


def bind():
    from structlog.contextvars import bind_contextvars

    bind_contextvars(user="from-the-view")


@app.get("/async-bind")
async def async_bind():
    bind()
    return "bound"


@app.after_request
def after(response):
    if request.path == "/async-bind":
        app.logger.warning("after the view")
    return response


def own() -> Flask:
    """Return the app as one that calls init_app itself."""
    init_app(app)
    return app


def original_sleep(seconds):
    monkey.get_original("time", "sleep")(seconds)


@app.get("/block")
def block():
    original_sleep(float(request.args["seconds"]))
    return "done"
