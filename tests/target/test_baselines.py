"""dev-sec's baselines, control by control: docs/baselines.md is written from what is asked here."""

from __future__ import annotations

import pytest
from testbed.baselines import CONTROLS, Look


@pytest.fixture(scope="module")
def look(site):
    return Look(site.host)


@pytest.mark.parametrize(
    "control", [control for control in CONTROLS if control.check], ids=lambda control: control.id
)
def test_control_holds(look, control):
    assert control.check(look), f"{control.id} {control.title} {control.note}"
