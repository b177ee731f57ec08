import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("psycopg_waits.py")


def waits(url, **environment):
    command = [sys.executable, "-m", "gevent.monkey", PROGRAM, url.replace("+psycopg", "")]
    env = {**os.environ, **environment}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env, timeout=120)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("environment", "module"),
    [({}, "flask_ops.psycopg_wait"), ({"PSYCOPG_WAIT_FUNC": "wait_select"}, "psycopg.waiting")],
    ids=["ours", "the one that was asked for"],
)
def test_every_wait_for_postgresql_lets_others_run(postgresql, environment, module):
    told = waits(postgresql, **environment)
    side_by_side = told.pop("side by side")
    assert side_by_side["answered"] == 10
    assert side_by_side["turns"] > 10
    assert told.pop("closed") in (["OperationalError", True], ["InterfaceError", True])
    assert told == {
        "waits by": module,
        "much": {"echoed": True, "copied": True},
        "in a row": True,
        "ended": ["AdminShutdown", True],
        "cancelled": ["QueryCanceled", True],
        "limited": 1,
        "notified": ["rain"],
        "in the hub": ["BlockingSwitchOutError"],
        "in a thread": 2,
        "longer than a look": 3,
    }
