"""Ask an API everything its own OpenAPI document allows and forbids, and see whether it keeps its word.

From the command line, for an app that is deployed::

    python conformance.py https://inbox.example --token-file token --ca-file ca.pem

The token is one of an operator; it is read from a file, as a command line can be seen by others. Without one,
every operation that needs a token must refuse.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

DOCUMENT = "/api/v1/openapi.json"
UNEXPECTED_METHODS = ["delete", "get", "options", "patch", "post", "put", "query"]


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    :param cases: how many requests were judged.
    :param failures: what was wrong, one a kind.
    """

    cases: int
    failures: list[str]


def of_url(url, token=None, ca_file=None, **limits):
    """Ask an app; return the outcome.

    :param url: its address, without a path.
    :param token: the access token to use, None for a stranger.
    :param ca_file: the certificates to trust, where they are not the system's.
    :param limits: for :func:`configuration`.
    """
    config = configuration(token, ca_file=ca_file, **limits)
    trust = {"verify": str(ca_file)} if ca_file else {}
    return _judge(schemathesis.openapi.from_url(url.rstrip("/") + DOCUMENT, config=config, **trust))


def configuration(token, *, seconds=60, examples=50, seed=None, ca_file=None):
    """Return schemathesis's configuration: every check.

    :param token: the access token, None for a stranger.
    :param seconds: when to stop, done or not.
    :param examples: requests an operation in each phase.
    :param seed: makes the requests the same every time.
    :param ca_file: the certificates to trust.
    """
    values = {
        "max-time": seconds,
        "continue-on-failure": True,
        "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        # TRACE is not among them: nginx refuses it before any app is asked, and names no other method.
        "phases": {"coverage": {"unexpected-methods": UNEXPECTED_METHODS}},
        # One of the checks takes it away, and expects to be refused.
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
    }
    if seed is not None:
        values |= {"seed": seed}
        values["generation"]["deterministic"] = True
    if ca_file:
        values["tls-verify"] = str(ca_file)
    return SchemathesisConfig.from_dict(values)


def _judge(schema):
    cases, failures = 0, {}
    for event in from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            failures[event.label, type(event.value).__name__] = f"{event.label}: {event.value}"
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.checks)
            for case_id, checks in event.recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        found = check.failure_info.failure
                        asked = event.recorder.cases[case_id].value
                        words = f"{asked.method} {asked.formatted_path}: {found}"
                        words += f"\n  {check.failure_info.code_sample}"
                        failures.setdefault((event.label, check.name, found.title), words)
    return Outcome(cases, list(failures.values()))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where the app is: https://inbox.example")
    parser.add_argument("--token-file", type=Path, help="an operator's access token")
    parser.add_argument("--ca-file", type=Path, help="the certificates to trust, if not the system's")
    parser.add_argument("--seconds", type=int, default=60, help="when to stop (%(default)s)")
    parser.add_argument(
        "--examples", type=int, default=50, help="requests an operation in each phase (%(default)s)"
    )
    given = parser.parse_args(arguments)
    token = given.token_file.read_text().strip() if given.token_file else None
    outcome = of_url(given.url, token, given.ca_file, seconds=given.seconds, examples=given.examples)
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    print(f"{outcome.cases} requests, {len(outcome.failures)} kinds of failure")
    return 1 if outcome.failures or not outcome.cases else 0


if __name__ == "__main__":
    sys.exit(main())
