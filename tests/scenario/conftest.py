"""What scenarios deploy: copies of the sample app, each with a change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from target_host.shell import PROJECT_DIR

APP_DIR = PROJECT_DIR / "app_skeleton/inbox"


@pytest.fixture(scope="session")
def copied_app(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that copies the sample app and changes one of its files.

    It takes the file's path in the app, a text in it, and what to put in that text's place.
    """

    def copy(path: str, old: str, new: str) -> Path:
        folder = tmp_path_factory.mktemp("app") / "inbox"
        shutil.copytree(
            APP_DIR, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "build")
        )
        file = folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new))
        return folder

    return copy
