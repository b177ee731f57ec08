"""What things cost, measured: each folder here is a program, ``PYTHONPATH=tests python -m bench.<name>``."""

from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parents[2]
SERVED_DIR = Path(__file__).with_name("served")
APP_PYTHON = PROJECT_DIR / ".cache/app-venv/bin/python"
FLASK_OPS = PROJECT_DIR / "app_skeleton/flask_ops/src"
