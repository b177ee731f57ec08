"""Tell whether this instance drains: takes no new work and finishes what runs."""

from __future__ import annotations

import os


def draining() -> bool:
    """Return whether the file named by ``FLASK_OPS_DRAIN_FILE`` exists.

    The file alone is the state. A flag kept in memory would differ between workers, and be lost by a worker
    that restarts in the middle of a drain.
    """
    path = os.environ.get("FLASK_OPS_DRAIN_FILE")
    # Asked before every request: half the price of os.path.exists, a tenth of Path's.
    return bool(path) and os.access(path, os.F_OK)
