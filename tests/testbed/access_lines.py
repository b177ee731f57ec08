"""Lines of nginx's access log without an nginx."""

from __future__ import annotations

import re

from target_host.shell import PROJECT_DIR

FORMAT = PROJECT_DIR / "nginx/conf.d/logging.conf"
# What stands there without quotes must be a number.
VALUES = {"time_iso8601": "2026-11-30T10:00:02+00:00", "request_id": "74bb8701461799a0e569060a71ad5a3c"}
VALUES |= {"status": "200", "bytes_sent": "1", "request_length": "1", "request_time": "0.5"}


def access_line(**given: str) -> str:
    """Return a line as nginx writes it: its own words from logging.conf, a value for each variable.

    `given` are values by the variables' names; those not named there are `x`.
    """
    words = re.findall(r"'(.*)'", FORMAT.read_text().partition("log_format access_json")[2])
    values = {**VALUES, **given}
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], "x"), "".join(words))
