"""Keep a beat that has imported everything from the schedule, until the one before it has left it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog
from gunicorn.systemd import sd_notify

#: How often to look: what is due waits for so long at most.
LOOK_SECONDS = 0.05
#: How often systemd is told that this start takes longer, and by how much.
EXTEND_SECONDS, EXTENSION_SECONDS = 5, 30

log = structlog.get_logger(__name__)


def wait() -> None:
    """Return once the file named by ``FLASK_OPS_HOLD_FILE`` is gone; at once where there is none.

    systemd goes on waiting for READY meanwhile (``EXTEND_TIMEOUT_USEC``, sd_notify(3)), however long a gate
    before the switch takes. SIGTERM ends it: nothing has begun.
    """
    path = os.environ.get("FLASK_OPS_HOLD_FILE")
    if not path or not Path(path).exists():
        return
    log.info("beat waits for its turn")
    told = 0.0
    while Path(path).exists():
        if time.monotonic() - told > EXTEND_SECONDS:
            sd_notify(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}", log)
            told = time.monotonic()
        time.sleep(LOOK_SECONDS)
