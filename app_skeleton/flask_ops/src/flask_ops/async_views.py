"""Run ``async def`` views where Flask's own way cannot.

Flask runs a coroutine on an event loop in the thread of its request. Under gevent all requests share one
thread, asyncio finds a loop running in it already, and the second view at once is a 500 (pallets/flask#5881).
Here each view gets a native thread and a loop of its own, while its greenlet waits; views may block as they
may in any other worker class. Under gthread and sync Flask's own way works, and needs asgiref; an app without
asgiref gets this module's there too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .native import patched
from .settings import integer

if TYPE_CHECKING:
    from flask import Flask

AsyncView = Callable[..., Coroutine[Any, Any, Any]]

#: An idle thread costs some 100 KB; a new one less than a millisecond.
_IDLE_SECONDS = 60


def install(app: Flask) -> None:
    """Run the app's async views here if Flask cannot.

    :param app: the app; one that has its own ``async_to_sync`` keeps it.
    """
    from flask import Flask

    if type(app).async_to_sync is not Flask.async_to_sync or "async_to_sync" in vars(app):
        return
    if patched():
        app.async_to_sync = _through_thread  # type: ignore[method-assign]
    elif find_spec("asgiref") is None:
        app.async_to_sync = _in_this_thread  # type: ignore[method-assign]


def threads_at_most() -> int:
    """Return how many async views a gevent worker runs at once; more of them wait for their turn.

    :raises SettingError: if ``FLASK_OPS_ASYNC_THREADS`` is no number from 1 to 1000.
    """
    return integer("FLASK_OPS_ASYNC_THREADS", 64, minimum=1, maximum=1000)


def _through_thread(view: AsyncView) -> Callable[..., Any]:
    @wraps(view)
    def call(*args: Any, **kwargs: Any) -> Any:
        from .coroutine import Run

        run = Run(lambda: view(*args, **kwargs))
        try:
            _threads().spawn(run).get()
        except BaseException:  # the deadline, or the end of the worker
            run.cancel()
            raise
        return run.result()

    return call


def _in_this_thread(view: AsyncView) -> Callable[..., Any]:
    @wraps(view)
    def call(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        async def main() -> Any:
            return await view(*args, **kwargs)

        with asyncio.Runner() as runner:
            return runner.run(main())

    return call


def _threads() -> Any:
    """Return the threads of this hub; not the hub's own ten, where names are resolved."""
    from gevent import get_hub
    from gevent.threadpool import ThreadPool

    hub = get_hub()
    if not hasattr(hub, "flask_ops_threads"):
        hub.flask_ops_threads = ThreadPool(threads_at_most(), hub, _IDLE_SECONDS)
    return hub.flask_ops_threads
