"""Every address of the whole app: who is let in."""

from inbox.auth import users
from people import PASSWORD

import roles

#: The frame's own are told in its tests; here it is enough that they are known.
PUBLIC = {
    "auth.sign_in", "auth.take_sign_in", "auth.sign_out", "tokens.sign_in", "docs.show",
    "api-docs.openapi_json", "admin.authorize", "static",
    # Signed by their senders.
    "hooks.receive",
}  # fmt: skip
#: What changes something.
OPERATORS = {
    "messages.replay", "messages.confirm_replay_dead", "messages.replay_dead", "files.new_import",
    "files.take_import", "messages_api.replay_message", "messages_api.replay_dead", "imports_api.take_import",
}  # fmt: skip


def guarded(app):
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint not in PUBLIC]


def test_nobody_sees_or_does_anything_that_is_not_public(app):
    assert len(guarded(app)) > 20
    roles.refuses_nobody(app, guarded(app))


def test_viewer_sees_everything_and_changes_nothing_and_operators_may(app, add_user):
    rules = guarded(app)
    assert roles.refused(app, rules, add_user("viewer")) == OPERATORS
    changing = {rule.endpoint for rule in rules if rule.methods & {"POST", "PUT", "PATCH", "DELETE"}}
    assert changing - roles.WITH_A_REFRESH_TOKEN <= OPERATORS
    assert roles.refused(app, rules, add_user("operator")) == set()


def test_async_page_and_async_resource_of_providers_answer(make_app):
    urls = {"Nowhere": "http://127.0.0.1:1/", "Odd": "http://[", "None": "about:blank"}
    app = make_app(PROVIDER_STATUS_URLS=urls)
    with app.app_context():
        users.add("viewer@example.org", PASSWORD, "viewer")
    client, given = app.test_client(), {"email": "viewer@example.org", "password": PASSWORD}
    assert client.post(roles.SIGN_IN, data=given).status_code == 303
    assert "Nowhere" in client.get("/messages/providers").text
    token = client.post("/api/v1/tokens", json=given).json["access_token"]
    answer = client.get("/api/v1/providers", headers={"Authorization": f"Bearer {token}"})
    states = [(provider["name"], provider["state"]) for provider in answer.json["providers"]]
    assert sorted(states) == [("None", "unknown"), ("Nowhere", "unknown"), ("Odd", "unknown")]
