"""Fixtures of the plugins' tests."""

from __future__ import annotations

import pytest
from ansible_project import CACHED_BYTE_CODE, Project
from release_workshop import Workshop, copy_cache


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    for name, value in CACHED_BYTE_CODE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def first_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("first")
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(path / "index"))
        shop = Workshop(path)
        shop.build()
    return shop.cache


@pytest.fixture
def warm(shop, first_cache):
    """A workshop that has its wheels, but no release, from a run before: pip takes most of a second."""
    copy_cache(first_cache, shop.cache, "wheels", "choices", "built")
    return shop
