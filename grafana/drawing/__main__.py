"""Write the dashboards, and remove those that are drawn no more."""

from __future__ import annotations

from drawing.dashboards import FOLDER, drawn


def main() -> None:
    """Write each file anew."""
    files = drawn()
    for path in FOLDER.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
