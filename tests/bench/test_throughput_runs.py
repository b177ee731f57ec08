"""The bench of throughput runs, and counts what it says. How fast anything is, it is not asked here."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from bench import PROJECT_DIR, nginx, open_loop
from bench.load import per_second
from bench.test_bench_runs import needs_servers
from bench.throughput import plot, report
from bench.throughput.contestants import CONTESTANTS
from bench.throughput.rounds import Measured, Memory, Waits, in_turn, sides
from bench.throughput.views import VIEWS


@needs_servers
def test_throughput_bench_measures_and_draws_each_contestant(tmp_path):
    stored, drawing = tmp_path / "found.json", tmp_path / "drawing.svg"
    command = [sys.executable, "-m", "bench.throughput", "--quick", "--rows", "one"]
    command += ["--contestants", "ops,fastapi", "--json", str(stored), "--plot", str(drawing)]
    env = {**os.environ, "PYTHONPATH": str(PROJECT_DIR / "tests")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    facts = json.loads(stored.read_text())
    assert {row["contestant"] for row in facts["measured"]} == {"ops", "fastapi"}
    for row in facts["measured"]:
        assert min(row[name] for name in ("per_second", "app_us", "nginx_us", "postgresql_us")) > 0
    for row in facts["waits"]:
        assert row["bad"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    processes = {each["contestant"]: each["processes"] for each in facts["memory"]}
    # An arbiter and two workers each; uvicorn has a process more, which counts what is shared.
    assert processes == {"ops": 3, "fastapi": 4}
    assert facts["versions"]["fastapi"]
    assert facts["versions"]["gunicorn"]
    assert "| one: CPU a request, ops to fastapi | ≤ 0.7 |" in done.stdout
    assert "| json: CPU a request, ops to fastapi | ≤ 1.1 | not measured |" in done.stdout
    assert "fastapi" in "".join(ElementTree.parse(drawing).getroot().itertext())


def measured(run, contestant, view="one", *, turn=0, cpu=100.0, per_second=1000.0, bad=0):
    return Measured(run, turn, contestant, view, 100, per_second, cpu, 0.0, 0.0, bad)


def found(*measured, waits=(), memory=()):
    return report.Found(measured, waits, memory)


def verdict(everything, view, of, to, what):
    wanted = [each for each in report.verdicts(everything) if each.claim.view == view]
    return next(each for each in wanted if (each.claim.of, each.claim.to, each.claim.what) == (of, to, what))


def test_ratio_is_the_median_of_the_turns_ratios():
    ours = [measured(0, "ops", turn=turn, cpu=cpu) for turn, cpu in enumerate((60, 70, 500))]
    others = [measured(0, "fastapi", turn=turn, cpu=cpu) for turn, cpu in enumerate((100, 100, 1000))]
    one = verdict(found(*ours, *others), "one", "ops", "fastapi", "cpu_us")
    assert one.ratio.median == 0.6
    assert one.holds


def test_turn_of_one_contestant_alone_has_no_ratio():
    ours = measured(0, "ops", cpu=10)
    both = found(ours, measured(1, "ops", cpu=90), measured(1, "fastapi", cpu=100))
    assert verdict(both, "one", "ops", "fastapi", "cpu_us").ratio.median == 0.9
    assert verdict(found(ours), "one", "ops", "fastapi", "cpu_us").holds is None


@pytest.mark.parametrize(("ours", "holds"), [(249, False), (250, True)])
def test_least_ratio_holds_from_its_limit_on(ours, holds):
    both = found(measured(0, "ops", "json", per_second=ours), measured(0, "docs", "json", per_second=100))
    assert verdict(both, "json", "ops", "docs", "per_second").holds is holds


def test_slow_peer_holds_only_with_every_answer():
    rows = [measured(run, name, "slow") for run in range(3) for name in ("ops", "fastapi")]
    assert verdict(found(*rows), "slow", "ops", "fastapi", "per_second").holds
    rows[2] = measured(1, "ops", "slow", bad=1)
    assert not verdict(found(*rows), "slow", "ops", "fastapi", "per_second").holds


def test_memory_and_waits_are_compared_by_their_own_figures():
    memory = [Memory("ops", 3, 60.0), Memory("fastapi", 4, 100.0)]
    assert verdict(found(memory=memory), "", "ops", "fastapi", "pss_mib").ratio.median == 0.6
    waits = [Waits(0, name, "one", 700, 700, 1, p99, 0) for name, p99 in (("ops", 3), ("fastapi", 12))]
    assert verdict(found(waits=waits), "one", "ops", "fastapi", "p99_ms").ratio.median == 0.25


def test_table_names_what_was_not_answered():
    table = report.tables(found(measured(0, "docs", "slow", bad=40), measured(0, "ops", "slow")))
    lines = {line.split("`")[1]: line for line in table.splitlines() if "`" in line}
    assert lines["docs"].endswith("| 40 of 100 |")
    assert lines["ops"].endswith("| 0 |")


def test_each_contestant_comes_first_and_last_in_some_turn():
    names = ["a", "b", "c"]
    orders = [in_turn(names, turn) for turn in range(6)]
    assert all(sorted(order) == names for order in orders)
    assert {order[0] for order in orders} == {order[-1] for order in orders} == set(names)


def test_every_claim_is_about_what_is_measured():
    assert all(claim.view in {"", *VIEWS} for claim in report.CLAIMS)
    assert {name for claim in report.CLAIMS for name in (claim.of, claim.to)} <= CONTESTANTS.keys()


def test_drawing_has_a_bar_for_each_contestant_of_a_view_as_long_as_its_rate():
    both = [measured(0, "ops", per_second=1000), measured(0, "docs", per_second=250)]
    root = ElementTree.fromstring(plot.drawn(found(*both, memory=[Memory("ops", 3, 60.0)])))
    bars = [float(bar.get("width")) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) == 3
    assert bars[0] == pytest.approx(4 * bars[1], abs=0.3)


def test_rate_counts_from_the_first_request_to_the_last_answer():
    assert per_second([(0, 100_000), (400_000, 100_000)]) == pytest.approx(4)


def test_clients_and_servers_share_no_core_where_there_are_two(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {2, 3, 5})
    servers, others = sides()
    assert not servers & others
    assert servers | others == {2, 3, 5}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {4})
    assert sides() == ({4}, {4})


def test_requests_come_by_chance_at_the_rate_asked_for_and_the_same_each_time():
    due = open_loop.arrivals(1000, 20)
    assert due == open_loop.arrivals(1000, 20) == sorted(due)
    assert len(due) == pytest.approx(20_000, rel=0.03)
    gaps = [after - before for before, after in pairwise(due)]
    # Of a Poisson process' gaps 1/e are longer than the mean one; of equal gaps, none or all.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    nginx.make_certificate(folder)
    return folder


@pytest.fixture
def server(certificate):
    """Serve over TLS, each request in two pieces after so many seconds; yield the port and what was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / nginx.CERTIFICATE, certificate / nginx.KEY)
    asked = []

    def answer(connection):
        # The client may leave before its answer.
        with connection, suppress(OSError):
            stream = connection.makefile("rwb")
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) != b"\r\n":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header[15:])
                method, path, _ = line.split()
                asked.append((method, path, len(stream.read(length))))
                time.sleep(0.1)
                status = b"503 Busy" if path == b"/busy" else b"200 OK"
                for piece in (b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nhe", b"llo"):
                    stream.write(piece)
                    stream.flush()

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[context.wrap_socket(connection, True)], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


def test_wait_counts_from_when_a_request_was_due(server):
    port, _ = server
    with open_loop.Client(port, 1) as client:
        sent = client.at_rate([open_loop.request("/")], [0.0, 0.001, 0.002])
    # One connection: the second waits for the first, and the third for both, each at least 0.1 s.
    assert (sent.sent, sent.bad, len(sent.waits)) == (3, 0, 3)
    assert [wait >= least for wait, least in zip(sent.waits, (100_000, 199_000, 298_000), strict=True)] == [
        True
    ] * 3


def test_bodies_larger_than_a_socket_takes_arrive_whole(server):
    port, asked = server
    body = bytes(3 * 2**20)
    with open_loop.Client(port, 2) as client:
        sent = client.at_rate([open_loop.request("/up", body, "application/octet-stream")], [0.0, 0.0])
    assert (sent.bad, len(sent.waits)) == (0, 2)
    assert asked == [(b"POST", b"/up", len(body))] * 2


def test_answers_other_than_200_are_counted(server):
    port, _ = server
    with open_loop.Client(port, 2) as client:
        sent = client.at_rate([open_loop.request("/busy"), open_loop.request("/")], [0.0, 0.0])
    assert (len(sent.waits), sent.bad) == (2, 1)


def test_all_connections_ask_at_once_and_again(server):
    port, asked = server
    with open_loop.Client(port, 4) as client:
        sent = client.at_once(open_loop.request("/"), 2, 30)
    assert (sent.sent, len(sent.waits), sent.bad) == (8, 8, 0)
    assert len(asked) == 8
    assert sent.seconds >= 0.2


def test_what_is_not_answered_in_time_is_left(server):
    port, _ = server
    with open_loop.Client(port, 2) as client:
        sent = client.at_once(open_loop.request("/"), 100, 0.35)
    assert sent.sent == 200
    assert len(sent.waits) < 200
