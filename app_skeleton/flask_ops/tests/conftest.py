import logging
import os
from pathlib import Path

import pytest
from flask_ops.testing import GunicornServer

_HERE = Path(__file__).parent
_OURS = ("GUNICORN_", "FLASK_OPS_", "RELEASE_", "PROMETHEUS_", "APP_", "CREDENTIALS_DIRECTORY", "LISTEN_")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def kept_logging():
    """Put back what logs.dict_config changed, or caplog's handler is lost to the next test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


@pytest.fixture
def serve(monkeypatch):
    """Make a server of one of the apps in sample_apps."""
    monkeypatch.setenv("PYTHONPATH", str(_HERE), prepend=os.pathsep)
    return lambda app, **env: GunicornServer(f"sample_apps:{app}", **env)
