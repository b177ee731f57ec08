"""Secrets planted in requests, exceptions and an app's credentials are found nowhere on the host."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import planting
import pytest
from testbed.sites import until

FOLDER = "/run/sentry-of-tests"
UNIT = "sentry-of-tests"
# A body beyond nginx's buffer, which it says a word about in its error log.
LARGE = 100_000


@pytest.fixture(scope="module")
def sentry(hostile):
    """Run a Sentry on the host's loopback; return a function that reads the envelopes."""
    site = hostile.app.site
    program = (Path(__file__).parent / "hostile/ingest.py").read_bytes()
    site.sudo(f"mkdir -p {FOLDER} && cat > {FOLDER}/ingest.py", stdin=program)
    command = f"python3 {FOLDER}/ingest.py {planting.INGEST_PORT} {FOLDER}"
    site.sudo(f"systemd-run --quiet --collect --unit={UNIT} {command}")
    listening = f"ss -Hltn 'sport = :{planting.INGEST_PORT}'"
    assert until(10, lambda: site.sudo(listening)), site.sudo(f"journalctl --no-pager -u {UNIT}")
    show = f"for path in $(find {FOLDER} -name '*.envelope'); do cat $path; printf '\\0'; done"
    yield lambda: site.sudo(show).split("\0")[:-1]
    site.sudo(f"systemctl stop {UNIT}; rm -r {FOLDER}")


@pytest.fixture(scope="module")
def spilt(hostile, sentry):
    """Plant a secret wherever an app meets one, let it spill them, and search; return what was found."""
    web = hostile.app.web
    places = (
        "query",
        "authorization",
        "api key",
        "cookie",
        "body",
        "large upload's query",
        "payment's query",
    )
    planted = {**hostile.planted, **{place: planting.token() for place in places}}
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {planted['authorization']}",
        "X-Api-Key": planted["api key"],
        "Cookie": f"session={planted['cookie']}",
    }

    def spill(query: str, **more: object):
        body = json.dumps({"password": planted["body"], **more}).encode()
        return web.request("POST", f"/spill?token={query}", headers=headers, body=body)

    # An odd and an even length: the body in a local variable alone, and in the exception's words.
    answers = [spill(planted["query"]), spill(planted["large upload's query"], padding="x" * LARGE)]
    planted["body, one longer"] = planted["body"] + "x"
    answers.append(web.request("POST", f"/pay?token={planted[places[-1]]}", headers=headers, body=b"{}"))
    odd = json.dumps({"password": planted["body, one longer"]}).encode()
    answers.append(web.request("POST", "/spill", headers=headers, body=odd))
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    arrived = until(15, lambda: all(has_event(sentry(), request_id) for request_id in ids))
    return SimpleNamespace(
        planted=planted,
        answers=answers,
        ids=ids,
        arrived=arrived,
        envelopes="\n".join(sentry()),
        metrics=hostile.app.internal("metrics"),
        journal="\n".join(str(entry["MESSAGE"]) for entry in hostile.app.journal()),
        found=planting.search(hostile.app, planted, left_out=[FOLDER]),
    )


def has_event(envelopes: list[str], request_id: str) -> bool:
    """Say whether an error was reported under a request's id; a trace of it is another envelope."""
    return any(request_id in text and '"exception"' in text for text in envelopes)


def left_in(text: str, planted: dict[str, str]) -> list[str]:
    """Return what of the planted stands in a text."""
    return [place for place, secret in planted.items() if secret in text]


def test_app_has_its_secret_where_it_looks_for_it(hostile):
    expected = hashlib.sha256(hostile.planted["environment"].encode()).hexdigest()
    assert hostile.app.web.get("/payment-key").text == expected


def test_app_did_spill(spilt):
    """Without this, nothing found would mean nothing."""
    assert [answer.status for answer in spilt.answers] == [500] * 4
    for words in ("asked for", "was given", "will pay", "cannot read", "no such account", "the bank refuses"):
        assert words in spilt.journal, words
    assert all(request_id in spilt.journal for request_id in spilt.ids)


def test_no_file_process_unit_or_journal_entry_holds_a_secret(spilt):
    assert spilt.found == []


def test_no_error_page_holds_a_secret(spilt):
    assert left_in("".join(answer.text for answer in spilt.answers), spilt.planted) == []


def test_no_metric_holds_a_secret(spilt):
    assert "flask_http_request_duration_seconds" in spilt.metrics
    assert left_in(spilt.metrics, spilt.planted) == []


def test_sentry_is_sent_events_without_a_secret(hostile, spilt):
    assert spilt.arrived, f"{spilt.ids} are not all in:\n{spilt.envelopes[-5000:]}"
    assert "the bank refuses" in spilt.envelopes
    assert hostile.app.active in spilt.envelopes
    # Its own key is how Sentry knows who speaks.
    planted = {place: secret for place, secret in spilt.planted.items() if place != "DSN"}
    assert left_in(spilt.envelopes, planted) == []


@pytest.mark.parametrize("play", ["site", "deploy", "failure"])
def test_ansible_says_no_secret_however_much_it_says(hostile, play):
    said = hostile.plays[play]
    assert said.returncode == (2 if play == "failure" else 0), said.tail()
    written = "TASK [app : Write the credentials]"
    assert (written in said.output) is (play != "deploy")
    if play == "failure":
        # That task it was, and no other.
        assert said.output.rpartition("TASK [")[2].startswith("app : Write the credentials]")
    assert left_in(said.output, hostile.planted) == []


def test_query_of_a_request_whose_worker_dies_is_logged_nowhere(hostile, spilt):
    planted = {"query": planting.token()}
    answer = hostile.app.web.request("POST", f"/die?token={planted['query']}", body=b"")
    assert answer.status == 502
    assert planting.search(hostile.app, planted, left_out=[FOLDER]) == []
