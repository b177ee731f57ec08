"""All dashboards, as files."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from drawing import data, deploys, hosts, service, tasks

# In Grafana's classic model: one that knows a newer turns it into that as it loads, and others know no newer.
FOLDER = Path(__file__).resolve().parents[1] / "dashboards"


def boards() -> dict[str, Dashboard]:
    """Return each dashboard by the name of its file."""
    return {
        "service.json": service.board(),
        "deploys.json": deploys.board(),
        "tasks.json": tasks.board(),
        "hosts.json": hosts.board(),
        "postgresql.json": data.postgresql(),
        "redis.json": data.redis(),
    }


def drawn() -> dict[str, str]:
    """Return each file's text.

    :raises KeyError: where a console no longer asks for what is drawn from it.
    """
    return {
        name: json.dumps(board.build(), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        for name, board in boards().items()
    }
