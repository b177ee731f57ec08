"""Send errors to Sentry when there is somewhere to send them.

A Sentry that is down, hangs or refuses costs no request anything: reports wait in a queue of
:data:`QUEUE_SIZE`, sent by a thread (under gevent a greenlet) of its own, and what does not fit is dropped
before it is written out.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from . import operators_pages, sentry_events
from .request_id import current_request_id, end_request
from .settings import credential, number, release, service, setting

if TYPE_CHECKING:
    from sentry_sdk.transport import HttpTransport

TRACES_RATE = "FLASK_OPS_SENTRY_TRACES_SAMPLE_RATE"
#: Reports that may wait, in each worker.
QUEUE_SIZE = 100
#: How long Sentry may take to answer, and how long a stopping worker waits for what is still queued.
ANSWER_SECONDS, SHUTDOWN_SECONDS = 5, 2
#: While reports are lost a worker says so no more often.
TOLD_EVERY_SECONDS = 60
#: Libraries, by their names, that Sentry has views into under the same name.
_LOOKED_INTO = frozenset(
    {"aiohttp", "boto3", "celery", "flask", "httpx", "huey", "pymongo", "redis", "rq", "sqlalchemy"}
)

log = structlog.get_logger(__name__)


def init_sentry() -> bool:
    """Turn Sentry on if the credential ``sentry_dsn`` exists, and say whether it is on.

    No cookies, addresses, query strings, request bodies or local variables leave the host: each may hold a
    user's data or a secret. See "Options" and "Scrubbing Sensitive Data" in Sentry's Python documentation,
    and :mod:`flask_ops.sentry_events`. Where the app has set Sentry up itself, this takes its place.

    :raises SettingError: if the credential cannot be read, or the rate is not from 0 to 1.
    :raises sentry_sdk.utils.BadDsn: if it is not a DSN.
    """
    dsn = credential("sentry_dsn", None)
    if not dsn:
        return False
    import sentry_sdk
    from sentry_sdk.integrations import DidNotEnable

    rate = traces_rate()
    if sentry_sdk.get_client().options.get("before_send") is _finish:
        return True  # a second app in this process
    options = _options(dsn, rate)
    try:
        sentry_sdk.init(**options, integrations=[*_own_integrations(), *_views(_LOOKED_INTO, rate)])
    except DidNotEnable as error:
        log.warning("Sentry cannot look into a library of this version", error=str(error))
        flask = _views(frozenset({"flask"}), rate)
        sentry_sdk.init(**options, integrations=[*_own_integrations(), *flask])
    if not sentry_sdk.get_client().options["debug"]:
        # It makes a record of every request not traced, and drops it then.
        logging.getLogger("sentry_sdk.errors").setLevel(logging.CRITICAL)
    return True


def traces_rate() -> float:
    """Return the share of requests that are traced.

    :raises SettingError: if :data:`TRACES_RATE` is no number from 0 to 1.
    """
    return number(TRACES_RATE, 0, maximum=1)


def _options(dsn: str, rate: float) -> dict[str, Any]:
    return dict(
        dsn=dsn,
        release=release(),
        environment=setting("APP_ENV", "development"),
        transport=_transport(),
        transport_queue_size=QUEUE_SIZE,
        shutdown_timeout=SHUTDOWN_SECONDS,
        # Personal data stays out by default; naming send_default_pii is deprecated since sentry-sdk 2.75.
        max_request_body_size="never",
        include_local_variables=False,
        # One message a minute from every worker, to say that all is well: readiness and metrics say so
        # already.
        auto_session_tracking=False,
        # It would import every library that is installed to look whether it is: 40 MB a worker, measured.
        auto_enabling_integrations=False,
        disabled_integrations=_unwanted_integrations(),
        traces_sampler=_sampler(rate) if rate else None,
        # The headers carry half of the DSN, the release and the environment to whomever the app calls.
        trace_propagation_targets=[".*"] if rate else [],
        before_send=_finish,
        before_send_transaction=_finish,
        before_breadcrumb=sentry_events.plain_breadcrumb,
    )


def _views(libraries: frozenset[str], rate: float) -> Iterator[Any]:
    """Yield Sentry's views into those of the libraries that the app has imported by now.

    :param libraries: their names.
    :param rate: of traces. At 0 no request begins one: Sentry's client makes it and throws it away otherwise,
        for half of what it costs a request.
    """
    from sentry_sdk.integrations import Integration

    names = sorted(libraries & sys.modules.keys())
    for name in names:
        import_module(f"sentry_sdk.integrations.{name}")
    known = {each.identifier: each for each in Integration.__subclasses__()}
    untraced: dict[str, dict[str, Any]] = {} if rate else {"flask": {"http_methods_to_capture": ()}}
    yield from (known[name](**untraced.get(name, {})) for name in names)


def _own_integrations() -> list[Any]:
    from sentry_sdk.integrations import Integration
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.scope import add_global_event_processor

    def waiting(pending: int, timeout: float) -> None:
        log.info("waiting for Sentry before the end", pending=pending, at_most_seconds=timeout)

    class Dropping(Integration):
        identifier = "flask_ops"

        @staticmethod
        def setup_once() -> None:
            add_global_event_processor(_unless_it_cannot_go)

    return [AtexitIntegration(callback=waiting), Dropping()]


def _unless_it_cannot_go(event: Any, hint: Any) -> Any:
    """Drop a report while the queue is full or Sentry has asked for a pause: most of its cost is to come."""
    import sentry_sdk

    transport = sentry_sdk.get_client().transport
    return event if transport is None or transport.is_healthy() else None


def _unwanted_integrations() -> list[Any]:
    from sentry_sdk.integrations.argv import ArgvIntegration

    return [ArgvIntegration]  # a command line may hold a secret


def _transport() -> type[HttpTransport]:
    from sentry_sdk.transport import HttpTransport

    class Transport(HttpTransport):
        TIMEOUT = ANSWER_SECONDS
        _silent_until = 0.0

        def _get_pool_options(self) -> dict[str, Any]:
            # urllib3 warns of each retry: a Sentry that is away would fill the journal, three lines a report.
            return {**super()._get_pool_options(), "retries": False}

        def on_dropped_event(self, reason: str) -> None:
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + TOLD_EVERY_SECONDS
                log.warning("reports do not reach Sentry and are dropped", reason=reason)

        def _send_envelope(self, envelope: Any) -> None:
            # Under gevent the sender inherits the context of the request that started it.
            end_request()
            super()._send_envelope(envelope)

    return Transport


def _sampler(rate: float) -> Callable[[dict[str, Any]], float]:
    pages = frozenset(operators_pages.paths().values())

    def sample(context: dict[str, Any]) -> float:
        if context.get("wsgi_environ", {}).get("PATH_INFO") in pages:
            return 0
        parent = context.get("parent_sampled")
        return rate if parent is None else float(parent)

    return sample


def _finish(event: Any, hint: dict[str, Any]) -> Any:
    import sentry_sdk

    if sentry_sdk.get_client().options["traces_sampler"] is None:
        event.get("contexts", {}).pop("trace", None)  # one for the whole process, where requests begin none
    request_id = current_request_id()
    return sentry_events.scrubbed(event, hint, {"service": service(), "request_id": request_id})
