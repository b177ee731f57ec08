"""While an app is loaded garbage is looked for seldom, and what was loaded is left alone afterwards."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import gc, json
from flask_ops import garbage
usual = gc.get_threshold()
garbage.look_seldom()
loading = gc.get_threshold()
{loading}
before = gc.get_freeze_count()
garbage.leave_alone()
told = dict(usual=usual, loading=loading, after=gc.get_threshold(), frozen=gc.get_freeze_count() - before)
print(json.dumps(told | dict(looks=gc.isenabled())))
"""


def told(loading=""):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(loading=loading)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_what_was_loaded_is_left_alone_and_the_rest_looked_at_as_usual():
    found = told()
    assert found["loading"][0] > 10 * found["usual"][0]
    assert found["after"] == found["usual"]
    assert found["frozen"] > 1000
    assert found["looks"]


@pytest.mark.parametrize(("own", "after"), [("gc.set_threshold(9000, 5, 5)", 9000), ("gc.disable()", None)])
def test_what_an_app_set_while_it_was_loaded_stays(own, after):
    found = told(own)
    assert found["after"][0] == (after or found["usual"][0])
    assert found["looks"] is (after is not None)
