"""Know how many requests this worker is answering.

A set and no number: adding to one is atomic in a thread, and leaving twice does no harm. Apart from
``process_metrics``, because gunicorn's hooks need it before prometheus_client may be imported.
"""

from __future__ import annotations

_requests: set[int] = set()

#: Call with the ``id()`` of gunicorn's request when it begins and when it ends.
begins, ends = _requests.add, _requests.discard


def number() -> int:
    """Return how many requests have begun and not ended."""
    return len(_requests)
