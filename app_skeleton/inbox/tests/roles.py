"""Walk all of an app's addresses as somebody, and see who is let in."""

import re

from people import PASSWORD

SIGN_IN = "/auth/sign-in"
#: These take another kind of token.
WITH_A_REFRESH_TOKEN = {"tokens.refresh", "tokens.revoke"}


def address_of(rule):
    return re.sub(r"<(?:\w+:)?\w*id>", "1", re.sub(r"<(?:\w+:)?day>", "2026-09-01", rule.rule))


def methods_of(rule):
    return sorted(rule.methods - {"HEAD", "OPTIONS"})


def refuses_nobody(app, rules):
    """Claim that whoever has not signed in is asked to, or, as a program, refused."""
    for rule in rules:
        for method in methods_of(rule):
            answer = app.test_client().open(address_of(rule), method=method)
            if rule.rule.startswith("/api/"):
                assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), rule
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                assert (answer.status_code, answer.location.split("?")[0]) == (302, SIGN_IN), rule


def refused(app, rules, email):
    """Return the endpoints that refuse somebody; the others must have an answer.

    :param email: of a user with the tests' password.
    """
    client, found = app.test_client(), set()
    given = {"email": email, "password": PASSWORD}
    token = client.post("/api/v1/tokens", json=given).json["access_token"]
    assert client.post(SIGN_IN, data=given).status_code == 303
    for rule in rules:
        if rule.endpoint in WITH_A_REFRESH_TOKEN:
            continue
        headers = {"Authorization": f"Bearer {token}"} if rule.rule.startswith("/api/") else {}
        for method in methods_of(rule):
            answer = client.open(address_of(rule), method=method, headers=headers)
            if answer.status_code == 403:
                assert "This needs the role" in answer.text, rule
                found.add(rule.endpoint)
            else:
                assert answer.status_code < 500, rule
                assert answer.status_code != 401, rule
                assert SIGN_IN not in (answer.location or ""), rule
    return found
