import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbox.messages.signatures import SCHEMES, Refused, github, sign, stripe

NOW = 1_790_000_000
BODY = json.dumps({"id": "evt_1", "type": "charge.succeeded"}).encode()
KEYS = ("first", "second")


def github_headers(key=KEYS[0], body=BODY, **changes):
    headers = {
        "X-Hub-Signature-256": f"sha256={sign(key, body)}",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-GitHub-Event": "push",
    }
    return {name: value for name, value in (headers | changes).items() if value is not None}


def stripe_headers(key=KEYS[0], body=BODY, moment=NOW, extra=""):
    return {"Stripe-Signature": f"t={moment},{extra}v1={sign(key, f'{moment}.'.encode() + body)}"}


def check(scheme, headers, body=BODY, secrets=KEYS, now=NOW):
    return SCHEMES[scheme](headers, body, secrets, now=now, tolerance=300)


def test_githubs_own_example_is_right():
    # From its documentation, "Testing the webhook payload validation".
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign("It's a Secret to Everybody", b"Hello, World!") == digest


@pytest.mark.parametrize("key", KEYS)
def test_every_secret_of_a_source_is_good(key):
    found = check("github", github_headers(key))
    assert (found.delivery_id, found.event) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "push")
    assert found.digest, "the delivery id is not signed, so the body tells copies apart"
    found = check("stripe", stripe_headers(key))
    assert (found.delivery_id, found.event, found.digest) == ("evt_1", "charge.succeeded", None)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"X-Hub-Signature-256": None}, 403),
        ({"X-Hub-Signature-256": ""}, 403),
        ({"X-Hub-Signature-256": "sha256="}, 403),
        ({"X-Hub-Signature-256": f"sha1={sign(KEYS[0], BODY)}"}, 403),
        ({"X-Hub-Signature-256": f"sha256={sign(KEYS[0], BODY).upper()}"}, 403),
        ({"X-Hub-Signature-256": f"sha256={sign('other', BODY)}"}, 403),
        ({"X-Hub-Signature-256": "sha256=" + "é" * 64}, 403),
        ({"X-GitHub-Delivery": None}, 400),
        ({"X-GitHub-Delivery": "=cmd|'/c calc'!A1"}, 400),
        ({"X-GitHub-Event": "push\n"}, 400),
        ({"X-GitHub-Event": "p" * 256}, 400),
    ],
)
def test_github_delivery_that_is_not_right_is_refused(changes, status):
    with pytest.raises(Refused) as refused:
        check("github", github_headers(**changes))
    assert refused.value.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Stripe-Signature": ""},
        {"Stripe-Signature": f"t={NOW}"},
        {"Stripe-Signature": f"v1={sign(KEYS[0], BODY)}"},
        {"Stripe-Signature": f"t={NOW},v0={sign(KEYS[0], f'{NOW}.'.encode() + BODY)}"},
        {"Stripe-Signature": f"t={NOW},t={NOW},v1={sign(KEYS[0], f'{NOW}.'.encode() + BODY)}"},
        {"Stripe-Signature": f"t=٣,v1={sign(KEYS[0], BODY)}"},
        stripe_headers(key="other"),
        stripe_headers(body=BODY + b" "),
        stripe_headers(moment=NOW - 301),
        stripe_headers(moment=NOW + 301),
    ],
)
def test_stripe_delivery_that_is_not_right_is_refused(headers):
    with pytest.raises(Refused) as refused:
        check("stripe", headers)
    assert refused.value.status == 403


def test_stripe_signs_with_the_old_and_the_new_secret_while_one_is_changed():
    headers = stripe_headers(extra=f"v1={'0' * 64},")
    assert check("stripe", headers).delivery_id == "evt_1"
    assert check("stripe", stripe_headers(moment=NOW - 300)).delivery_id == "evt_1"


def test_source_without_a_secret_takes_nothing():
    with pytest.raises(Refused):
        check("github", github_headers(key=""), secrets=())


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"{", b"\xff", b'{"a":' * 50_000, b"\xef\xbb\xbf{}"])
def test_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(Refused) as refused:
        check("github", github_headers(body=body), body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "payload", [{}, {"id": 1, "type": "a"}, {"id": "evt 1", "type": "a"}, {"id": "", "type": "a"}]
)
def test_stripe_event_needs_an_id_and_a_type(payload):
    body = json.dumps(payload).encode()
    with pytest.raises(Refused) as refused:
        check("stripe", stripe_headers(body=body), body)
    assert refused.value.status == 400


@given(st.text(), st.binary())
def test_nothing_a_stranger_sends_is_signed_or_fails(header, body):
    for check_one, name in ((github, "X-Hub-Signature-256"), (stripe, "Stripe-Signature")):
        with pytest.raises(Refused):
            check_one({name: header}, body, KEYS, now=NOW, tolerance=300)
