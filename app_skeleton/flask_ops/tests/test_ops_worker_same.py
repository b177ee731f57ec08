"""Whatever a client sends, the worker class answers as gunicorn's own gevent one does."""

import os
from concurrent.futures import ThreadPoolExecutor
from random import Random

import generated_requests
import pytest
import wsgi_apps
from bare_gunicorn import OURS, STOCK, Gunicorn, answers

# Of connections, each with some requests.
COUNT = int(os.environ.get("FLASK_OPS_TESTS_REQUESTS", "10000"))
CLIENTS = 4
ASK = b"%b %b HTTP/1.1\r\nHost: example.org\r\nX-Number: %d\r\n\r\n"


@pytest.fixture(scope="module")
def both():
    """gunicorn with either class."""
    with Gunicorn(OURS, "wsgi_apps:app") as ours, Gunicorn(STOCK, "wsgi_apps:app") as stock:
        yield ours, stock


def test_generated_requests_are_answered_to_the_byte(both):
    def differs(seed):
        random = Random(seed)
        data = generated_requests.stream(random)
        pieces = generated_requests.pieces(random, data)
        ours, stock = answers(both, pieces)
        return None if ours == stock else f"seed {seed}: {b'|'.join(pieces)[:600]} {ours[:600]} {stock[:600]}"

    with ThreadPoolExecutor(CLIENTS) as clients:
        found = [each for each in clients.map(differs, range(COUNT)) if each]
    assert not found, "\n".join([f"{len(found)} of {COUNT} differ", *found[:3]])


@pytest.mark.parametrize("path", ["/", *wsgi_apps.PATHS])
def test_every_kind_of_answer_is_the_same(both, path):
    ask = [ASK % (method, path.encode(), 1) for method in (b"GET", b"HEAD", b"POST")]
    for data in [*ask, ask[0] * 3, ask[0].replace(b"1.1", b"1.0")]:
        ours, stock = answers(both, [data])
        assert ours == stock
