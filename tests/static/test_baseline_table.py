"""docs/baselines.md says what the tests ask of a host, and why they do not ask the rest."""

from __future__ import annotations

from bundle import Bundle, law
from testbed import baselines


@law
def test_document_of_the_baselines_is_written_from_the_tests(bundle: Bundle):
    if not baselines.DOCUMENT.exists() or baselines.DOCUMENT.read_text() != baselines.table():
        yield (
            "docs/baselines.md:1: not what tests/testbed/baselines.py says: "
            "run `PYTHONPATH=tests python -m testbed.baselines --write`"
        )


@law
def test_every_control_is_asked_or_waived_with_a_reason(bundle: Bundle):
    seen = set()
    for control in baselines.CONTROLS:
        if control.check is None and len(control.note) < 10:
            yield f"tests/testbed/baselines.py:1: {control.id} is neither asked nor waived with a reason"
        if control.id in seen:
            yield f"tests/testbed/baselines.py:1: {control.id} is there twice"
        seen.add(control.id)
