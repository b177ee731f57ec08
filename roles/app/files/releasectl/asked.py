"""Answer a playbook's question about the logs on a host that need not have releasectl.

The controller sends this package along with the question (plugins/action/log_lines.py).
"""

from __future__ import annotations

import json
import time

from releasectl import reading, wanted


def main(question: str) -> None:
    """Print what was found, as one JSON object.

    :param question: JSON: `app`, and in `asked` values of :data:`wanted.RIGHT`, which are right.
    """
    start, told = time.monotonic(), json.loads(question)
    access_log = reading.NGINX_LOGS / f"{told['app']}.access.log"
    found = reading.read(told["app"], access_log, wanted.wanted(told["asked"]))
    print(json.dumps({**found.told(), "seconds": round(time.monotonic() - start, 3)}))
