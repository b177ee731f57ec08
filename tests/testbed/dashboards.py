"""The dashboards of grafana/: what they ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "grafana/dashboards"
NAMES = sorted(path.name for path in FOLDER.glob("*.json"))
OFFERED = re.compile(r"label_values\((.+), \w+\)")


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a dashboard's panels, those in folded rows too, and no rows."""
    for panel in board["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def written(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each place of a dashboard that asks Prometheus, and its PromQL with Grafana's variables in it."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            asked = OFFERED.fullmatch(variable["query"])
            yield f"variable {variable['name']}", asked[1] if asked else variable["query"]
    for mark in board["annotations"]["list"]:
        yield f"annotation {mark['name']}", mark["expr"]
    for panel in panels(board):
        for target in panel["targets"]:
            yield f"panel {panel['title']}, {target['refId']}", target["expr"]


def expressions(name: str, app: str) -> list[str]:
    """Return what a dashboard asks about all hosts of an app."""
    board = json.loads((FOLDER / name).read_text())
    variables = {
        each["name"]: each.get("allValue") or app for each in board["templating"]["list"] if "query" in each
    }
    chosen = {f"${name}": value for name, value in variables.items()}
    filled = {re.sub(r"\$\w+", lambda place: chosen[place[0]], expr) for _, expr in written(board)}
    return sorted(filled)
