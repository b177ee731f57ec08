"""Say which revision the database is at: ``python -m flask_ops.schema``.

For ``releasectl``, which must know before it goes back to a release, also while no release answers. The app
is not imported for it, so it is quick, and an app that is broken does not matter. It asks the database that
``DATABASE_URL`` names for Alembic's table; where there is none, or none of that name, nothing is known.
"""

from __future__ import annotations

import json
import sys

from . import database
from .boot import export_secrets
from .settings import SettingError, service

QUESTION = "SELECT version_num FROM alembic_version"
#: Less than whoever asks waits.
_LIMITS = "-c statement_timeout=2000 -c lock_timeout=2000"


class Unknown(Exception):
    """Nothing tells the database's revision; the words say why."""


def heads() -> list[str]:
    """Return the revisions that the database says it is at, sorted.

    :raises Unknown: if there is no such database, it does not answer, or has no table of revisions.
    :raises SettingError: if a secret that its address needs is missing.
    """
    export_secrets()
    url = database.address()
    if url is None:
        raise Unknown("DATABASE_URL names no PostgreSQL")
    try:
        import psycopg
    except ImportError:
        raise Unknown("psycopg is not installed") from None
    try:
        with database.connect(url, f"{service()}-schema", options=_LIMITS) as connection:
            return sorted(row[0] for row in connection.execute(QUESTION))
    except psycopg.Error as error:
        raise Unknown(f"{type(error).__name__}: {error}") from error


def main() -> int:
    """Print what is known as one JSON object; return 0 if it is known, 1 if not."""
    try:
        print(json.dumps({"heads": heads()}))
    except (Unknown, SettingError) as error:
        print(json.dumps({"heads": None, "why": " ".join(str(error).split())}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
