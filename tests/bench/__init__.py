"""What things cost, measured: each folder here is a program, ``PYTHONPATH=tests python -m bench.<name>``."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]
SERVED_DIR = Path(__file__).with_name("served")
APP_PYTHON = PROJECT_DIR / ".cache/app-venv/bin/python"
FLASK_OPS = PROJECT_DIR / "app_skeleton/flask_ops/src"


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a folder that is gone afterwards, and that PostgreSQL's and nginx's own users may look into."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
