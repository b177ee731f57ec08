"""Fixtures of the plugins' tests."""

from __future__ import annotations

import pytest
from ansible_project import Project


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
