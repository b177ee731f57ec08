"""Look for garbage seldom while an app is loaded, and never again among what was loaded."""

from __future__ import annotations

import gc

#: New objects between two looks. Loading an app makes some hundred thousand that stay, and the usual looks at
#: them take a tenth of the time. Not never: an app may read its data in, and leave circles behind.
LOADING_THRESHOLD = 50_000
_usual = gc.get_threshold()


def look_seldom() -> None:
    """Begin to load."""
    gc.set_threshold(LOADING_THRESHOLD, *_usual[1:])


def leave_alone() -> None:
    """Take what there is for what stays, until the process ends; look at the rest as usual.

    Looking for garbage writes to every object, so each forked process would soon have its own copy of all
    that loading shares: 76 MiB a worker of the sample app instead of 31 (tests/bench/memory; gc.freeze in
    Python's manual). And a process that ends does not look once more at what it takes away as a whole.
    """
    gc.freeze()
    # An app may have thresholds of its own.
    if gc.get_threshold()[0] == LOADING_THRESHOLD:
        gc.set_threshold(*_usual)
