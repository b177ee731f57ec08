"""The trees as Ansible renders them, and containers of both Debian releases that read them."""

from __future__ import annotations

import pytest
from rendering import Rendered, render
from sandbox import Sandbox


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Rendered:
    """Render every tree for every host of inventory.yml in one run of Ansible."""
    return render(tmp_path_factory.mktemp("rendered"))


@pytest.fixture(params=["inbox-12", "inbox-13", "board-12", "board-13", "odd-12"])
def host(request, rendered):
    """One inventory's view of one host."""
    return rendered.hosts[request.param]


@pytest.fixture(scope="session", params=["usual-12", "usual-13", "odd-12"])
def sandbox(request, rendered):
    """A container holding what one or two inventories put on one host."""
    kind, _, debian = request.param.partition("-")
    names = ["inbox", "board"] if kind == "usual" else ["odd"]
    with Sandbox(int(debian), [rendered.hosts[f"{name}-{debian}"] for name in names]) as made:
        yield made
