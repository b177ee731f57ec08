"""The app in FastAPI with a JSON line and metrics for each request.

By structlog's manual ("Performance"): orjson would only replace the standard library's encoder; bytes, a
filtering logger and a cached one are what it asks for besides. The middleware is plain ASGI: FastAPI's own
decorator for one costs a task for each request. The metrics are prometheus-fastapi-instrumentator's, over
several processes by the client's directory.
"""

from __future__ import annotations

import logging
import time
import uuid

import orjson
import structlog
from prometheus_fastapi_instrumentator import Instrumentator
from throughput_fastapi import app

structlog.configure(
    cache_logger_on_first_use=True,
    wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
    ],
    logger_factory=structlog.BytesLoggerFactory(),
)
log = structlog.get_logger()


class RequestLines:
    """Write one line for each request, and give its id to the lines that it causes, and to its answer."""

    def __init__(self, app) -> None:
        """Keep the app within."""
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode() or uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began, status = time.perf_counter(), 500

        async def send_with_id(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = round(time.perf_counter() - began, 6)
            log.info("request", method=scope["method"], path=scope["path"], status=status, seconds=seconds)


Instrumentator().instrument(app).expose(app, include_in_schema=False)
app.add_middleware(RequestLines)
