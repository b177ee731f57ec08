"""Metrics under a real gunicorn: what clients counted is what a scrape says, whatever happens to workers."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask_ops.testing import GunicornServer, eventually
from metrics_pages import OPENMETRICS, samples, total

WORKERS, CLIENTS = 4, 4
COUNTERS = re.compile(rb"\w+_(total|bucket|count|sum)\{")


def make(folder, app="shop", *, name="r1", **env):
    """Make a server of one of the apps in metrics_apps, with a metrics directory that outlives it."""
    defaults = {
        "PYTHONPATH": str(Path(__file__).parent),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / name / "metrics"),
        "FLASK_OPS_METRICS_DIRS": str(folder / "*" / "metrics"),
        "FLASK_OPS_SERVICE": "shop-web",
        "RELEASE_ID": name,
        "GUNICORN_LOG_LEVEL": "warning",
    }
    return GunicornServer(f"metrics_apps:{app}", **{**defaults, **env})


@pytest.fixture
def start(tmp_path):
    return lambda app="shop", **env: make(tmp_path, app, **env)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Two releases of one app side by side: the old one answers one request at a time."""
    folder = tmp_path_factory.mktemp("releases")
    with (
        make(folder, name="r1", GUNICORN_WORKER_CLASS="sync") as old,
        make(folder, name="r2", RELEASE_REVISION="c0ffee") as new,
    ):
        yield old, new


def scrape(server):
    return server.get("/metrics")[1]


def shown(server, name, **labels):
    return total(scrape(server), name, **labels)


def counted(server, **labels):
    """Return how many requests the app has answered, as a scrape says."""
    return shown(server, "flask_http_request_total", **labels)


class Client:
    """A client of one kept-alive connection that costs a tenth of http.client."""

    def __init__(self, server):
        self._path, self._socket = str(server.path), None

    def ask(self, target="/items/1", method="GET", host="shop.example"):
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(60)
            self._socket.connect(self._path)
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(body) < length:
            body += self._receive()
        if b"connection: close" in head.lower():
            self.close()

    def _receive(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError
        return data

    def close(self):
        if self._socket:
            self._socket.close()
        self._socket = None


def send(server, requests, *, clients=CLIENTS):
    """Send requests from several clients at once; return how many were answered and how many were not."""

    def work(_):
        client, failed = Client(server), 0
        for _ in range(requests // clients):
            try:
                client.ask()
            except OSError:
                client.close()
                failed += 1
        client.close()
        return failed

    with ThreadPoolExecutor(clients) as pool:
        failed = sum(pool.map(work, range(clients)))
    return requests - failed, failed


def kill_a_worker(server):
    victim = server.worker_pids()[-1]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: (now := server.worker_pids()) and victim not in now)


class Watching:
    """Scrape all the time and note each counter that went back, and how many files there were."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.back, self.files, self.pages = [], set(), 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        last = {}
        while not self._end.wait(0.2):
            lines = [line.rsplit(b" ", 1) for line in scrape(self.server).splitlines()]
            now = {at: float(value) for at, value in lines if COUNTERS.match(at)}
            self.back += [at for at, value in last.items() if now.get(at, -1) < value]
            last = now
            self.files.add(len(list(self.folder.glob("*.db"))))
            self.pages += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def test_sum_over_recycled_and_killed_workers_is_the_clients_count(start, tmp_path):
    folder = tmp_path / "r1" / "metrics"
    with start(GUNICORN_MAX_REQUESTS="50", GUNICORN_WORKERS=str(WORKERS)) as server:
        assert send(server, 80) == (80, 0)
        first = set(server.worker_pids())
        with Watching(server, folder) as watching:
            for _ in range(2):
                assert send(server, 4960) == (4960, 0)
                kill_a_worker(server)
        assert first.isdisjoint(server.worker_pids()), "no worker was recycled"
        assert counted(server) == 10_000
        assert (watching.back, watching.pages > 3) == ([], True)
        eventually(lambda: shown(server, "flask_ops_workers") == WORKERS)
        slots = {path.stem.split("_")[-1] for path in folder.glob("*.db")}
        assert slots == {*map(str, range(WORKERS)), "arbiter"}
        kinds = {path.stem.rpartition("_")[0] for path in folder.glob("*.db")}
        assert max(watching.files) <= len(kinds) * (WORKERS + 1)
        assert min(timed(lambda: scrape(server)) for _ in range(10)) < 0.05


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def test_worker_killed_under_load_loses_no_answered_request(start):
    with start(GUNICORN_WORKER_CLASS="gthread", GUNICORN_PRELOAD="0", GUNICORN_WORKERS="2") as server:
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(send, server, 3000)
            eventually(lambda: counted(server) > 100)
            kill_a_worker(server)
            ok, failed = load.result()
        assert 0 <= failed <= CLIENTS
        assert ok <= counted(server) <= ok + failed


def test_counters_continue_over_a_restart_of_the_instance(start):
    for times in (1, 2):
        with start() as server:
            assert send(server, 20, clients=2) == (20, 0)
            assert counted(server) == 20 * times
            eventually(lambda server=server: shown(server, "flask_ops_workers") == 1)


def test_check_of_the_configuration_leaves_a_running_servers_metrics_alone(releases):
    _, server = releases
    folder = Path(server.env["PROMETHEUS_MULTIPROC_DIR"])
    before, files = counted(server), sorted(folder.iterdir())
    command = "-m", "gunicorn", "--config", "python:flask_ops.gunicorn_conf", "--check-config"
    subprocess.run([sys.executable, *command], env=server.env, check=True)
    assert (counted(server), sorted(folder.iterdir())) == (before, files)


def test_two_releases_at_once_are_one_page_and_two_labels(releases):
    old, new = releases
    before = [counted(new, release=name) for name in ("r1", "r2")]
    assert (send(old, 8), send(new, 12)) == ((8, 0), (12, 0))
    for server in releases:
        page = scrape(server)
        found = [total(page, "flask_http_request_total", release=name) for name in ("r1", "r2")]
        assert found == [before[0] + 8, before[1] + 12]
        assert total(page, "flask_http_request_total", service="shop-web") == sum(found)
        assert total(page, "app_info", release="r2", revision="c0ffee") == 1
        assert page.count(b"# TYPE flask_http_request_total ") == 1
    answer, body = new.get("/metrics", {"Accept": OPENMETRICS})
    assert answer.getheader("Content-Type").startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_connections_that_wait_are_seen_by_another_release(releases):
    old, new = releases
    clients = [ThreadPoolExecutor(1) for _ in range(4)]
    waits = [pool.submit(Client(old).ask, "/slow?seconds=0.7") for pool in clients]
    eventually(lambda: shown(new, "flask_ops_listen_backlog", release="r1") >= 2)
    eventually(lambda: shown(new, "flask_ops_in_flight_requests", release="r1") == 1)
    assert shown(new, "flask_ops_listen_backlog_max", release="r1") == 128
    assert [wait.result() for wait in waits] == [None] * 4
    eventually(lambda: shown(new, "flask_ops_listen_backlog", release="r1") == 0)


def test_random_paths_methods_and_hosts_add_no_series(releases):
    _, server = releases
    client = Client(server)
    for target, method in (("/items/1", "GET"), ("/no", "GET"), ("/no", "FROB"), ("/items/1", "FROB")):
        client.ask(target, method)
    before, answered = {at for at in samples(scrape(server)) if "flask_http" in at[0]}, counted(server)
    for number in range(300):
        client.ask(f"/no/{number}", host=f"host-{number}.example")
        client.ask("/no", f"VERB{number}")
        client.ask(f"/items/{number}", host=f"{number}.example")
    page = scrape(server)
    assert {at for at in samples(page) if "flask_http" in at[0]} == before
    assert b"VERB" not in page
    assert counted(server) == answered + 3 * 300
    client.close()


def test_blocked_event_loop_is_seen_in_its_lag(releases):
    _, server = releases

    def late():
        page = scrape(server)
        lag = "flask_ops_event_loop_lag_seconds"
        return total(page, f"{lag}_count") - total(page, f"{lag}_bucket", le="0.25")

    before = late()
    server.get("/block?seconds=0.6")
    eventually(lambda: late() > before)


def test_operators_pages_are_not_in_the_latency(releases):
    _, server = releases
    before = counted(server)
    for page in ("/livez", "/readyz", "/startupz", "/version", "/metrics"):
        server.get(page)
    assert counted(server) == before


def test_sync_worker_may_answer_one_request_at_once(releases):
    _, server = releases
    workers = eventually(lambda: shown(server, "flask_ops_workers", release="r1"))
    assert shown(server, "flask_ops_in_flight_limit", release="r1") == workers


@pytest.mark.parametrize("worker_class", ["flask_ops", "gevent", "gthread"])
def test_gauges_show_the_worker_and_die_with_it(start, worker_class, tmp_path):
    env = {"GUNICORN_WORKER_CLASS": worker_class, "GUNICORN_THREADS": "3", "GUNICORN_WORKERS": "2"}
    env["GUNICORN_WORKER_CONNECTIONS"] = "500"
    with start("with_database()", TEST_DATABASE=str(tmp_path / "db"), **env) as server:
        connection = server.connect(timeout=120)
        connection.request("GET", "/hold?seconds=90")
        pools = "flask_ops_pool_connections"
        eventually(lambda: shown(server, pools, state="checked_out") == 1)
        page = eventually(lambda: (page := scrape(server)) and total(page, "flask_ops_workers") == 2 and page)
        # A sample that a scrape fell into counts that one too.
        eventually(lambda: shown(server, "flask_ops_in_flight_requests") == 1)
        assert total(page, pools, pool="default", state="limit") == 2 * (3 + 2)
        each = 3 if worker_class == "gthread" else 500
        assert total(page, "flask_ops_in_flight_limit") == 2 * each
        starts = "flask_ops_worker_start_time_seconds"
        begun = [value for at, value in samples(page).items() if at[0] == starts]
        assert len(begun) == 2
        assert all(time.time() - 120 < value < time.time() + 1 for value in begun)
        assert (total(page, "flask_ops_event_loop_lag_seconds_count") > 0) == (worker_class != "gthread")
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: shown(server, "flask_ops_in_flight_requests") == 0)
        assert shown(server, pools, state="checked_out") == 0
        # A worker that has only just begun would not hear that it is to end.
        eventually(lambda: shown(server, "flask_ops_workers") == 2)
        connection.close()


def test_wsgi_app_without_flask_is_measured(start):
    with start("late") as server:
        assert server.get("/anything")[1] == b"late"
        page = scrape(server)
        assert total(page, "flask_http_request_total", method="GET", status="202") == 1
        assert total(page, "app_info", release="r1") == 1
