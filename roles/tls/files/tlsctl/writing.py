"""Write files that somebody may read at any moment."""

from __future__ import annotations

from pathlib import Path


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, with the folder it stands in."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(mode)
    new.rename(path)
