"""The tree under test, and a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config):
    # Ansible's users write '\\.json$' in a filter's argument as they would in Python's raw strings.
    config.addinivalue_line(
        "filterwarnings", "ignore:invalid escape sequence:DeprecationWarning:jinja2.lexer"
    )
    # Grafana's SDK prefers the model that Grafana 13 brought, which older ones do not read.
    config.addinivalue_line("filterwarnings", "ignore:Prefer using dashboardv2:DeprecationWarning")


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle(ROOT)


@pytest.fixture(scope="session")
def copied_tree(bundle, tmp_path_factory) -> Path:
    """Copy what git would take, once; whoever spoils a file puts it back."""
    copy = tmp_path_factory.mktemp("copied") / "tree"
    for name in bundle.files:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(bundle.root / name, target, follow_symlinks=False)
    return copy
