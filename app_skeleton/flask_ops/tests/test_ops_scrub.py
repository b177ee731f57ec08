import os
import time

import pytest
from flask_ops import scrub

#: Where a secret (``%``) stands, and what must stay beside it.
PLACES = [
    ("GET /reset?code=% HTTP/1.1", "GET /reset?[scrubbed] HTTP/1.1"),
    ("<Request 'http://shop/reset?code=%' [GET]>", "<Request 'http://shop/reset?[scrubbed]' [GET]>"),
    ('{"url": "/a?b=it\'s&c=%", "n": 1}', '{"url": "/a?[scrubbed]", "n": 1}'),
    ("asked for ?code=%", "asked for ?[scrubbed]"),
    ("postgresql://shop:%@db:5432/shop", "postgresql://[scrubbed]@db:5432/shop"),
    ("amqp://shop:a/%@mq//, http://x", "amqp://[scrubbed]@mq//, http://x"),
    ("redis://:%@cache/0", "redis://[scrubbed]@cache/0"),
    ("Authorization: Bearer %\nHost: a", "Authorization: [scrubbed]\nHost: a"),
    ("Proxy-Authorization: Basic a b %", "Proxy-Authorization: [scrubbed]"),
    ("sent bearer % upstream", "sent bearer [scrubbed] upstream"),
    ("sent Basic 5% upstream", "sent Basic [scrubbed] upstream"),
    ("Cookie: a=%; b=%\r\nHost: a", "Cookie: [scrubbed]\r\nHost: a"),
    ("Set-Cookie: a=%; Path=/", "Set-Cookie: [scrubbed]"),
    ("('Cookie', 'a=%; b=c'), ('Host', 'a')", "('Cookie', [scrubbed]), ('Host', 'a')"),
    ('{"password": "%", "user": "ann"}', '{"password": [scrubbed], "user": "ann"}'),
    ('{"password":"a\\"%","user":"ann"}', '{"password":[scrubbed],"user":"ann"}'),
    (r'"{\"password\": \"a\\\"%\", \"user\": 1}"', r'"{\"password\": [scrubbed], \"user\": 1}"'),
    ("{'password': 'a\\'%', 'user': 'ann'}", "{'password': [scrubbed], 'user': 'ann'}"),
    ("b'{\"pin_token\": 1%}'", None),
    (
        '{"token":271828,"user":"ann", "secret": "%"}',
        '{"token":[scrubbed],"user":"ann", "secret": [scrubbed]}',
    ),
    (
        "MultiDict([('password', '%'), ('user', 'ann')])",
        "MultiDict([('password', [scrubbed]), ('user', 'ann')])",
    ),
    ("user=ann&password=%&next=a", "user=ann&password=[scrubbed]&next=a"),
    ("next=%2Fa%3Fpassword%3D%", None),
    ("stripe_api_key=% X-Api-Key: %", "stripe_api_key=[scrubbed] X-Api-Key: [scrubbed]"),
    ("PRIVATE-KEY = '%'", "PRIVATE-KEY = [scrubbed]"),
    ("clientSecret => '%'", "clientSecret => [scrubbed]"),
    ("environ['QUERY_STRING'] = 'a=%'", "environ['QUERY_STRING'] = [scrubbed]"),
    ("session: {'id': '%'}", "session: [scrubbed]"),
    ("SENTRY_DSN=%", "SENTRY_DSN=[scrubbed]"),
    ("password=\u0130% next", "password=[scrubbed] next"),
    ('password="% unfinished', "password=[scrubbed]"),
    (
        "[SQL: SELECT 1]\n[parameters: {'a': '%'}]\n(Background)",
        "[SQL: SELECT 1]\n[parameters: [scrubbed]\n(Background)",
    ),
    ("DETAIL:  Failing row contains (1, %).", "DETAIL:  Failing row contains [scrubbed]"),
    ("DETAIL:  Key (email)=(%) already exists.", "DETAIL:  Key (email)=[scrubbed]"),
]
HARMLESS = [
    "user logged in",
    "really? yes; and/or? why?",
    "http://localhost:8000/users/a@b.example",
    "needs Basic authentication",
    "password: None, token=null, csrf_enabled=True",
    "max_tokens=100, tokenizer: fast, the token is wrong, wordsn=1",
    '  File "a.py", line 3, in sign\n    token = make(password="x" + y)\n            ^^^^^',
]


@pytest.fixture
def secret():
    return os.urandom(8).hex()


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(scrub, "_remembered", ())
    yield
    scrub.configure()


@pytest.mark.parametrize(("written", "expected"), PLACES)
def test_secret_in_a_known_place_is_gone(secret, written, expected):
    # %2F and its like are part of an address.
    given = written.replace("%2F", "\0").replace("%3", "\1").replace("%", secret)
    found = scrub.text(given.replace("\0", "%2F").replace("\1", "%3"))
    assert secret not in found
    assert expected is None or found == expected
    assert scrub.text(found) == found, "scrubbing twice must change nothing more"


@pytest.mark.parametrize("text", HARMLESS)
def test_text_without_secrets_stays_as_it_is(text):
    assert scrub.text(text) == text


def test_message_below_source_lines_is_scrubbed(secret):
    text = (
        f'Traceback:\n  File "a.py", line 3, in sign\n    password = read()\nValueError: password={secret}\n'
    )
    assert scrub.text(text) == text.replace(secret, "[scrubbed]")


def test_values_are_scrubbed_by_their_names_however_deep(secret):
    given = {
        "user": "ann",
        "Password": secret,
        "stripeApiKey": [secret],
        "x-api-key": 271828,
        "csrf": None,
        "use_session": True,
        "headers": [("Cookie", secret), ["Host", "shop"], ("a", "b", "c")],
        "nested": {"deep": [{"access_token": secret, "url": f"/a?b={secret}", 3: f"Bearer {secret}"}]},
        f"/path?{secret}=1": 1.5,
        "thing": object,
    }
    found = scrub.value(given)
    assert secret not in repr(found)
    assert found["user"] == "ann"
    assert (found["csrf"], found["use_session"], found["thing"]) == (None, True, object)
    assert found["headers"] == [("Cookie", "[scrubbed]"), ["Host", "shop"], ["a", "b", "c"]]
    assert found["nested"]["deep"][0]["url"] == "/a?[scrubbed]"
    assert scrub.value(secret, "dsn") == found["x-api-key"] == "[scrubbed]"


def test_structure_that_holds_itself_comes_to_an_end(secret):
    circle = {"password": secret}
    circle["self"] = circle
    assert secret not in repr(scrub.value(circle))


def test_more_names_can_be_given(secret):
    text = f"pin={secret} card-number: {secret}, cardNumber={secret} spin=1 shipping=2"
    assert scrub.text(text) == text
    scrub.configure(["PIN", " Card Number ", ""])
    assert scrub.text(text).count(secret) == 0
    assert "spin=1 shipping=2" in scrub.text(text)
    assert scrub.value({"my-pin": secret, "spin": 1}) == {"my-pin": "[scrubbed]", "spin": 1}


def test_known_secret_is_found_where_no_name_tells(secret):
    awkward = f'ü"\n/{secret}'
    scrub.remember(awkward)
    scrub.remember(f"postgresql://shop:pw-{secret}@db/shop")
    scrub.remember("http://[not an address")
    scrub.remember("short")
    for form in (awkward, repr(awkward), scrub.json.dumps(awkward), scrub.quote(awkward, safe="")):
        assert secret not in scrub.text(f"the server said {form} is wrong")
    assert scrub.text(f"login failed: pw-{secret}") == "login failed: [scrubbed]"
    assert scrub.text("a short word") == "a short word"


HOSTILE = [
    *(
        "a",
        "/",
        "?",
        "://",
        "@://",
        "password",
        "password=",
        'password="',
        'password="\\',
        "password=\\'",
        "İ=",
    ),
    *(
        "bearer ",
        "basic a",
        "basic aaaaaaaaaaaaaaaaaaaaa",
        "/?",
        "/a?'",
        "?a=b",
        "?w",
        "://u:x/@",
        "[parameters: ",
    ),
    *(
        "Key (",
        'File "',
        '  File "x", line 1\n',
        "    a\n",
        " |+-",
        " ",
        '{"password": "x"}, ',
        "dsn",
        "'\"\\",
    ),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_time_in_proportion_to_its_length(piece):
    texts = [
        piece * (200_000 // len(piece)),
        f'File "x", line 1\n@?password="{piece * (200_000 // len(piece))}',
    ]
    begin = time.process_time()
    for text in texts:
        scrub.text(text)
    # 5 to 100 ms in all. What grows with the square would take minutes.
    assert time.process_time() - begin < 3
