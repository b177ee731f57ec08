"""The part of releasectl that reads logs, as the controller has it: to ask with, and to send to hosts."""

from __future__ import annotations

import functools
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parents[2] / "roles/app/files"


def reader(name: str) -> ModuleType:
    """Return a module of releasectl's."""
    if str(HERE) not in sys.path:
        # First: plugins/modules has a releasectl too, and may be looked through as well.
        sys.path.insert(0, str(HERE))
    return __import__(f"releasectl.{name}", fromlist=[name])


@functools.cache
def packed() -> bytes:
    """Return releasectl as a zip archive, from which Python imports it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(HERE.glob("releasectl/*.py")):
            file.write(path, f"releasectl/{path.name}")
    return archive.getvalue()
