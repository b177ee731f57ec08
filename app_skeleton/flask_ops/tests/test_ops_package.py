import subprocess
import sys

import flask_ops
import pytest

# Before and after, because measuring coverage imports some of them itself.
IMPORT = """
import sys
before = set(sys.modules)
import flask_ops
heavy = {'flask', 'ssl', 'socket', 'threading', 'logging', 'gevent', 'structlog'}
print(*sorted(heavy & (set(sys.modules) - before)))
"""


def test_importing_the_package_imports_nothing_that_gevent_must_patch():
    done = subprocess.run([sys.executable, "-I", "-c", IMPORT], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


def test_public_names_are_there_and_others_are_not():
    assert {"Check", "init_app"} <= set(dir(flask_ops))
    assert flask_ops.Check.__module__ == "flask_ops.health"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flask_ops.nothing
