"""One secret of a client's and one of the host's, put everywhere a careless app puts them, and looked for."""

import json
import secrets
from pathlib import Path

import pytest
from flask_ops.errors import TRACES_RATE
from flask_ops.testing import GunicornServer
from sentry_ingest import Ingest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """Everything that could be read of a server whose app crashed over the secrets, by where it was read."""
    # Of letters too, as a number would be in too many places; and neither word stands in the other.
    sent, exported = f"sent-{secrets.token_urlsafe(16)}", f"host-{secrets.token_urlsafe(16)}"
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "app_exported").write_text(exported)
    with Ingest() as ingest, Ingest() as elsewhere:
        (folder / "app_sentry_dsn").write_text(ingest.dsn)
        settings = {
            "CREDENTIALS_DIRECTORY": str(folder),
            "FLASK_OPS_SECRET_ENVIRONMENT": json.dumps({"TEST_EXPORTED": "exported"}),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path_factory.mktemp("metrics")),
            "GUNICORN_LOG_LEVEL": "debug",
            "GUNICORN_WORKERS": "2",
            "PYTHONPATH": str(HERE),
            TRACES_RATE: "1",
        }
        with GunicornServer("tracing_apps:app", **settings) as server:
            headers = {
                "Authorization": f"Bearer {sent}",
                "X-Api-Key": sent,
                "Cookie": f"session={sent}; theme=dark",
                "Content-Type": "application/json",
                "Referer": f"http://localhost/from?code={sent}",
            }
            body = json.dumps({"user": "jo", "password": sent}).encode()
            path = f"/leak?url={elsewhere.address}&token={sent}"
            response, page = server.request("POST", path, headers, body)
            ingest.wait_for("event", 3)
            ingest.wait_for("transaction")
            found = {
                "the error page": str(response.headers).encode() + page,
                "metrics": server.get("/metrics")[1],
                "the environment or command line of a process": b"".join(
                    Path(f"/proc/{pid}/{name}").read_bytes()
                    for pid in [server.process.pid, *server.worker_pids()]
                    for name in ("environ", "cmdline")
                ),
            }
            transactions, errors = ingest.items("transaction"), ingest.items("event")
        found["the log"] = server.text.encode()
        found["what Sentry got"] = b"".join(ingest.raw)
    return {
        "secrets": (sent.encode(), exported.encode()),
        "status": response.status,
        "found": found,
        "called": b"".join(elsewhere.raw),
        "reports": json.dumps(errors + transactions),
    }


PLACES = [
    *("the error page", "metrics", "the environment or command line of a process"),
    *("the log", "what Sentry got"),
]


@pytest.mark.parametrize("place", PLACES)
def test_planted_secret_is_not_in(crashed, place):
    for secret in crashed["secrets"]:
        at = crashed["found"][place].find(secret)
        assert at == -1, crashed["found"][place][max(0, at - 200) : at + 60]


def test_the_secrets_were_there_to_be_found(crashed):
    sent, exported = crashed["secrets"]
    assert crashed["status"] == 500
    assert sent in crashed["called"]
    log = crashed["found"]["the log"].decode()
    # Said, and scrubbed: the lines themselves were not lost.
    for words in ("asked for http", "and body", "no such table", "cannot read"):
        assert words in log
    for words in ("cannot read", "asked for", "no such table"):
        assert words in crashed["reports"]
    assert "[scrubbed]" in log
    assert exported not in sent
