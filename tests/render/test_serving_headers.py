"""Security headers: once on every answer of the public listeners, whatever its status, an app's own first."""

from __future__ import annotations

import re

import pytest
from test_serving import described

TRANSPORT, FRAMES, POLICY = "strict-transport-security", "x-frame-options", "content-security-policy"
USUAL = {
    TRANSPORT: "max-age=63072000",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    FRAMES: "SAMEORIGIN",
    POLICY: "frame-ancestors 'self'",
}
ODD = USUAL | {TRANSPORT: "max-age=31536000; includeSubDomains; preload"}
OWN = {
    TRANSPORT: "max-age=77",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    FRAMES: "DENY",
    POLICY: "default-src 'self'",
}
# Which asks nobody for anything.
STATUS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
WITHOUT_TLS = re.compile(r"308|plain |health |400 no tls|\d+ (line |host |path )?plain|502 plain")
OWN_PAGE = re.compile(r"own |plain (livez|readyz)|health (livez|readyz)")
# Each location of the public listeners, and a question that it answers.
LOCATIONS = {
    "/": "app 200",
    "@app": "static of the app",
    "/static/": "static",
    "= /readyz": "app readyz",
    "~ ^/(livez|startupz|version)$": "plain livez",
    "= /livez": "health livez",
    "@problem": "502 program",
    "@unsatisfiable": "static 416",
    "@maintenance_page": "maintenance page browser",
    "@maintenance_problem": "maintenance page program",
    # Put into another's answer, never one of its own.
    "^~ //maintenance/": "maintenance page program",
    "/flower/": "flower",
    "= /flower/tasks/datatable": "flower rows",
    "= /flower/-/authorize": "flower question",
    "@flower_sign_in": "flower sign in",
    "= /how/it.is": "status page",
    "= /how/it.is.json": "status page.json",
}


@pytest.fixture(scope="module")
def told(sandbox):
    """Return each host's site and its answers by question."""
    answers = sandbox.told("serving_headers", [described(host) for host in sandbox.hosts])
    return [(host, answers[host.app]) for host in sandbox.hosts]


def security(answer: dict) -> dict[str, list[str]]:
    """Return an answer's security headers, each with all its lines."""
    names = [name for name, _value in answer["headers"]]
    return {
        name: [value for each, value in answer["headers"] if each == name] for name in USUAL if name in names
    }


def expected(host, question: str) -> dict[str, str]:
    """Return the security headers of an answer, each said once."""
    usual = ODD if host.odd else USUAL
    found = dict(OWN if OWN_PAGE.match(question) else usual)
    if question.startswith("status page"):
        found[POLICY] = STATUS_POLICY
    if WITHOUT_TLS.match(question):
        del found[TRANSPORT]
    return found


def test_every_answer_has_each_security_header_once_an_apps_own_first(told):
    for host, answers in told:
        assert len(answers) > 80
        for question, answer in answers.items():
            found = security(answer)
            wanted = {name: [value] for name, value in expected(host, question).items()}
            if "maintenance" in question and "browser" in question:
                (policy,) = found.pop(POLICY)
                assert "frame-ancestors 'none'" in policy
                del wanted[POLICY]
            assert found == wanted, (host.name, question, answer)


def test_questions_met_what_they_are_named_for(told):
    for _host, answers in told:
        for question, answer in answers.items():
            named = re.search(r"\b[2-5]\d\d\b", question)
            if named:
                assert answer["status"] == int(named[0]), (question, answer)
            elif question.startswith("maintenance"):
                assert answer["status"] == 503, (question, answer)


def test_every_location_of_the_public_listeners_was_asked(told):
    for host, answers in told:
        snippets = [path for path in host.files if path.startswith("/etc/nginx/snippets/")]
        text = host.site + host.plain + "".join(map(host.read, snippets))
        text = text.replace("/\\-/ops\\.d", "").replace("/-/ops.d", "")
        found = set(re.findall(r"^\s*location (.*?) \{", text, re.MULTILINE))
        assert {"/", "@problem", "/static/", "@maintenance_page"} <= found
        assert found <= LOCATIONS.keys(), "a location nobody asks about: name a question in LOCATIONS"
        assert {LOCATIONS[location] for location in found} <= answers.keys()


def test_http3_is_offered_to_nobody_where_it_is_not_spoken(told):
    for _host, answers in told:
        for question, answer in answers.items():
            assert "alt-svc" not in dict(map(tuple, answer["headers"])), question


def test_release_is_told_to_nobody(told):
    for _host, answers in told:
        for question, answer in answers.items():
            assert "x-release" not in dict(map(tuple, answer["headers"])), question
