"""No request is taken for another: nginx of each Debian release before gunicorn, asked what is misread."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import smuggled
import smuggled_http2
from gunicorns import gunicorn
from sandbox import Sandbox
from test_serving import described

SECONDS_AT_MOST = 60


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """Run gunicorn, as flask_ops sets it up, before an app that counts; return the folder of its socket.

    One worker: all connections that nginx keeps open lead to it.
    """
    folder = tmp_path_factory.mktemp("counting")
    with gunicorn(folder, "counting:app", PYTHONPATH=Path(__file__).parent):
        yield folder


@pytest.fixture(scope="module", params=["inbox-12", "inbox-13"])
def served(request, rendered, counting):
    """Return nginx of a Debian release before the app that counts, and its site."""
    host = rendered.hosts[request.param]
    with Sandbox(host.debian, [host], {"/shared": counting}) as made:
        made.run("ln", "-sfn", "/shared/app.sock", f"/srv/{host.app}/upstream.sock")
        # All of it comes from one address, and a quick machine sends more than one address may.
        made.run("sed", "-i", "s/ rate=1000r/ rate=100000r/", f"/etc/nginx/sites-enabled/{host.app}.conf")
        yield made, described(host)


@pytest.fixture(scope="module", params=["HTTP/1", "HTTP/2"])
def told(request, served, counting):
    """Return each request with what was answered, what was counted, and how long all of it took."""
    sandbox, site = served
    http2 = request.param == "HTTP/2"
    requests = (smuggled_http2 if http2 else smuggled).requests(site["name"])
    (counting / "requests.json").write_text(json.dumps(requests))
    given = {"site": site, "requests": "/shared/requests.json", "http2": http2}
    said = sandbox.told("serving_smuggled", given)
    if http2:
        for one, seen in zip(requests, said["found"], strict=True):
            seen["streams"] = smuggled_http2.answers(seen["said"].encode("latin-1"))
            seen["answers"] = [[stream["status"], stream.get("id")] for stream in seen["streams"]]
            seen["head"], seen["broken"] = one["head"], one["size"] is None or seen["closed"]
    return requests, said["found"], Counter(said["counts"]), said["seconds"]


over_http2 = pytest.mark.parametrize("told", ["HTTP/2"], indirect=True, scope="module")


def test_corpus_is_as_large_as_it_is_meant_to_be():
    assert len(list(smuggled.corpus())) > 140
    assert len(set(smuggled.mutations())) > 300
    assert len(smuggled_http2.requests("inbox.example.org")) > 1400


def test_every_request_is_counted_once_and_answered_as_itself(told):
    requests, found, counts, _seconds = told
    for request, seen in zip(requests, found, strict=True):
        own = [request["id"], request["inner"], f"l{request['id']}"]
        counted = [name for name in own if counts[name]]
        assert all(counts[name] == 1 for name in counted), (request, counts)
        answered = [name for _status, name in seen["answers"] if name in own]
        # In the order they were sent, and none that was not answered; HEAD's are not told apart, and who
        # breaks HTTP/2's framing may be hung up on after the app was asked.
        if seen.get("broken"):
            assert set(answered) <= set(counted), (request, seen, counted)
        else:
            assert seen["head"] or answered == counted, (request, seen, counted)
        assert all(name in (None, "", *own) for _status, name in seen["answers"]), (request, seen)


@over_http2
def test_nothing_in_a_request_of_http2_becomes_another(told):
    requests, _found, counts, _seconds = told
    assert [request for request in requests if counts[request["inner"]]] == []


@over_http2
def test_app_gets_the_body_that_was_sent_for_the_site_it_was_sent_to(told, served):
    requests, found, _counts, _seconds = told
    _sandbox, site = served
    names = {site["name"], f"www.{site['name']}"}
    for request, seen in zip(requests, found, strict=True):
        for stream in seen["streams"]:
            if "id" not in stream:
                continue
            size = 3 if stream["stream"] == 3 else request["size"]
            assert size in (None, stream["length"]), (request, stream)
            assert stream["host"] in names, (request, stream)


@over_http2
def test_connection_that_stays_open_goes_on(told):
    requests, found, counts, _seconds = told
    for request, seen in zip(requests, found, strict=True):
        assert seen["broken"] or counts[f"l{request['id']}"] == 1, (request, seen)


def test_nobody_beside_gets_an_answer_that_is_anothers(told):
    requests, found, counts, _seconds = told
    for request, seen in zip(requests, found, strict=True):
        status, name = seen["visit"]
        assert (status, name.rstrip("'")) == (200, f"v{request['id']}"), (request, seen)
        assert counts[name] == 1


def test_app_was_asked_nothing_that_nobody_sent(told):
    requests, found, counts, _seconds = told
    known = {name for one in requests for name in (one["id"], one["inner"], f"l{one['id']}")}
    known |= {seen["visit"][1] for seen in found}
    unknown = set(counts) - known
    nameless = sum(name == "" for seen in found for _status, name in seen["answers"])
    assert unknown <= {""}
    assert counts[""] == nameless


def test_misleading_requests_neither_hang_nor_all_fail(told, say):
    requests, _found, counts, seconds = told
    served = sum(counts[request["id"]] for request in requests)
    hidden = sum(counts[request["inner"]] for request in requests)
    say(f"{len(requests)} misleading requests: {served} served, {hidden} behind them, in {seconds:.1f} s")
    assert seconds < SECONDS_AT_MOST
    # Some are right, if odd: were none served, the app would not have been reached at all.
    assert served > 30
