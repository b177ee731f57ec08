import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbox.messages.models import TITLE_MAX_CHARACTERS
from inbox.messages.summaries import title

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("scheme", "event", "payload", "words"),
    [
        (
            "github",
            "pull_request",
            {
                "action": "opened",
                "repository": {"full_name": "octo/hello"},
                "pull_request": {"title": "Say\nhello"},
                "sender": {"login": "cat"},
            },
            "pull_request opened octo/hello Say hello by cat",
        ),
        ("github", "push", {"ref": "refs/heads/main", "pull_request": None}, "push refs/heads/main"),
        (
            "stripe",
            "charge.succeeded",
            {"data": {"object": {"id": "ch_1", "amount": 500, "currency": "eur", "description": "Tea"}}},
            "charge.succeeded ch_1 500 eur Tea",
        ),
        ("stripe", "charge.succeeded", {"data": []}, "charge.succeeded"),
        ("unknown", "x", {}, "x"),
    ],
)
def test_title_says_what_a_webhook_is_about(scheme, event, payload, words):
    assert title(scheme, event, payload) == words


@given(st.sampled_from(["github", "stripe"]), st.dictionaries(st.sampled_from(
    ["action", "repository", "pull_request", "issue", "sender", "ref", "data"]), JSON))  # fmt: skip
def test_title_of_any_payload_is_one_line_that_can_be_stored(scheme, payload):
    line = title(scheme, "event", payload)
    assert len(line) <= TITLE_MAX_CHARACTERS
    assert not set(line) & set("\0\n\r")
    line.encode("utf-8")
