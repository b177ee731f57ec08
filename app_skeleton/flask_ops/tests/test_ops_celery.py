import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import celery_queue  # noqa: F401
import pytest
from celery import Celery, states
from flask_ops import task_metrics, tasks
from flask_ops.request_id import begin_request, current_request_id, end_request
from flask_ops.scrape import Scraper
from flask_ops.settings import Mistakes
from sentry_ingest import Ingest
from upstream import QuietHandler, serving

HERE = Path(__file__).parent
ID = "req-7"
SECRET = secrets.token_urlsafe(16)
# Port 1 is reserved and refuses at once.
NOBODY = "redis://127.0.0.1:1/0"


class Unit:
    """A worker or beat, started as its unit would.

    :param folder: for its broker, its metrics and its output.
    :param arguments: after ``celery``.
    :param env: more environment variables.
    """

    def __init__(self, folder, *arguments, **env):
        self.folder = folder
        for name in ("queue", "control"):
            (self.folder / name).mkdir()
        self.metrics = self.folder / "metrics"
        self.output = self.folder / "output"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(self.folder / "notify"))
        self.told.settimeout(60)
        settings = {
            "PYTHONPATH": str(HERE),
            "APP_CELERY": "celery_apps:app",
            "TEST_BROKER_DIR": str(self.folder),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            "GUNICORN_LOG_LEVEL": "info",
            "RELEASE_ID": "r1",
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            **env,
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flask_ops.celery_command", *arguments],
                env=os.environ | settings,
                stdout=output,
                stderr=output,
                cwd=self.folder,
            )

    def send(self, task, *arguments, **keywords):
        """Send a task to its queue, as the web process does."""
        sender = tasks.init_celery(Celery("sender", broker="filesystem://"))
        folder = str(self.folder / "queue")
        options = {"data_folder_in": folder, "data_folder_out": folder}
        options["control_folder"] = str(self.folder / "control")
        with sender.connection_for_write(transport_options=options) as connection:
            return sender.send_task(task, arguments, keywords, connection=connection).id

    def logs(self):
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def wait_for(self, words, count=1, timeout=180):
        deadline = time.monotonic() + timeout
        while self.output.read_text().count(words) < count:
            assert time.monotonic() < deadline, self.output.read_text()
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def files(self):
        return sorted(file.name for file in self.metrics.glob("*.db"))


@pytest.fixture(scope="module")
def echo_url():
    """The address of a server that answers with the request id it was sent."""

    class Handler(QuietHandler):
        def do_GET(self):
            self.answer(str(self.headers["X-Request-ID"]).encode())

    with serving(Handler) as url:
        yield f"{url}/"


def service(kind):
    return {"FLASK_OPS_SERVICE": f"shop-{kind}"}


@pytest.fixture(scope="module")
def units(postgresql_server, echo_url, tmp_path_factory):
    """A prefork worker, a solo worker and a beat that have done their work and been stopped.

    And one whose task outlived its time limit, which is killed at the end: told to stop soon after such a
    kill, Celery may wait for ever, for systemd to end it.
    """
    with Ingest() as ingest:
        folder = tmp_path_factory.mktemp
        credentials = folder("credentials")
        (credentials / "app_sentry_dsn").write_text(ingest.dsn)
        causes = {"TEST_DATABASE_URL": postgresql_server.url, "TEST_ECHO_URL": echo_url}
        ours, own = ("--app", "flask_ops.worker"), ("--app", "celery_apps")
        worker = (*ours, "worker", "--concurrency", "2", "--pool")
        secret = {"CREDENTIALS_DIRECTORY": str(credentials)}
        found = {
            "prefork": Unit(folder("prefork"), *worker, "prefork", **service("worker"), **causes, **secret),
            "limited": Unit(folder("limited"), *worker, "prefork", **service("worker"), **causes, **secret),
            # An app that calls init_app needs no other command.
            "solo": Unit(folder("solo"), *own, "worker", "--pool", "solo", TEST_WITH_FLASK="1"),
            "beat": Unit(folder("beat"), *ours, "beat", **service("beat")),
        }
        try:
            for pool in ("prefork", "solo"):
                found[pool].wait_for("ready for work")
                begin_request(ID)
                found[pool].send("shop.sell", "tea", password=SECRET)
                found[pool].send("shop.fail", SECRET)
                end_request()
                found[pool].uncaused = found[pool].send("shop.note")
            found["limited"].wait_for("ready for work")
            found["limited"].send("shop.hang")
            for pool in ("prefork", "solo"):
                found[pool].wait_for('"event": "noted"', 3)
                found[pool].wait_for('"event": "Task shop.sell')
                found[pool].wait_for("LookupError")
            found["limited"].wait_for("Hard time limit")
            found["limited"].wait_for("exited with")
            found["beat"].wait_for("Scheduler: Sending due task", 2)
            ingest.wait_for("event", 3)
            for name in ("prefork", "solo", "beat"):
                found[name].exit = found[name].stop()
        finally:
            for unit in found.values():
                unit.process.kill()
                unit.process.wait()
        found["prefork"].events = ingest.items("event")
        found["prefork"].reported = b"".join(ingest.raw)
    return found


def metrics(unit, monkeypatch):
    """Return what a web worker's /metrics shows of a unit."""
    monkeypatch.setenv("FLASK_OPS_METRICS_DIRS", str(unit.metrics))
    text = Scraper(None, list).render(None)[0].decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def series_of(service, state, task):
    labels = f'release="r1",service="{service}",state="{state}",task="shop.{task}"'
    return f"flask_ops_tasks_total{{{labels}}}"


@pytest.mark.parametrize("name", ["prefork", "solo", "beat"])
def test_unit_writes_json_lines_alone_from_its_start_to_its_end(units, name):
    for line in units[name].logs():
        assert {"timestamp", "level", "event", "logger", "request_id", "release", "service"} <= line.keys()
    assert units[name].exit == 0


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_systemd_is_told_when_a_worker_consumes_and_when_it_takes_no_more(units, pool):
    assert [units[pool].told.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


def test_systemd_is_told_when_beat_ticks(units):
    assert units["beat"].told.recv(100) == b"READY=1"


def test_worker_without_a_broker_is_not_ready(tmp_path):
    worker = Unit(tmp_path, "--app", "flask_ops.worker", "worker", "--pool", "solo", TEST_BROKER_URL=NOBODY)
    try:
        worker.wait_for("Trying again in", 2)
        worker.told.setblocking(False)
        with pytest.raises(BlockingIOError):
            worker.told.recv(100)
    finally:
        worker.process.kill()
        worker.process.wait()


def test_flower_writes_json_lines_alone(tmp_path):
    flower = Unit(
        tmp_path, "--app", "flask_ops.worker", "flower", "--logging=none", f"--unix-socket={tmp_path}/flower"
    )
    try:
        flower.wait_for("Visit me via unix socket file")
        assert {line["service"] for line in flower.logs()} == {"app"}
        assert not flower.metrics.exists()
    finally:
        flower.process.kill()
        flower.process.wait()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_request_id_reaches_a_tasks_lines_and_those_of_the_tasks_it_sends(units, pool):
    lines = units[pool].logs()
    printed = [line for line in lines if line["event"] == "printed"]
    assert [(line["request_id"], line["task"]) for line in printed] == [(ID, "shop.sell")]
    noted = [line["request_id"] for line in lines if line["event"] == "noted"]
    assert sorted(noted) == sorted([ID, ID, units[pool].uncaused])
    (failed,) = [line for line in lines if "raised unexpected" in line["event"]]
    assert (failed["request_id"], failed["logger"]) == (ID, "celery.app.trace")
    assert "LookupError" in failed["exception"]


def test_request_id_reaches_a_tasks_sql_and_calls(units):
    lines = {line["event"]: line for line in units["prefork"].logs()}
    assert lines["statement"]["words"].endswith(f"/* request_id='{ID}' */")
    assert lines["call"]["headers_sent"] == ID


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_arguments_of_a_task_are_in_no_line(units, pool):
    assert SECRET not in units[pool].output.read_text()


def test_failed_task_is_reported_with_its_request_id_and_without_its_arguments(units):
    by_task = [one for one in units["prefork"].events if one["tags"].get("request_id") == ID]
    (event,) = by_task  # the others are the main process' words on the time limit
    assert event["exception"]["values"][-1]["type"] == "LookupError"
    assert (event["tags"]["service"], event["release"]) == ("shop-worker", "r1")
    assert SECRET.encode() not in units["prefork"].reported


@pytest.mark.parametrize(("pool", "service"), [("prefork", "shop-worker"), ("solo", "app")])
def test_tasks_are_counted_by_how_they_ended(units, monkeypatch, pool, service):
    found = metrics(units[pool], monkeypatch)
    counted = {series: value for series, value in found.items() if "flask_ops_tasks_total" in series}
    expected = {
        series_of(service, "success", "sell"): 1,
        series_of(service, "failure", "fail"): 1,
        series_of(service, "success", "note"): 3,
    }
    assert counted == expected
    count = f'flask_ops_task_duration_seconds_count{{release="r1",service="{service}",task="shop.note"}}'
    assert found[count] == 3


def test_task_killed_by_its_time_limit_is_counted_once_although_its_process_cannot_tell(units, monkeypatch):
    found = metrics(units["limited"], monkeypatch)
    counted = {series: value for series, value in found.items() if "flask_ops_tasks_total" in series}
    assert counted == {series_of("shop-worker", "failure", "hang"): 1}


@pytest.mark.parametrize(("pool", "service"), [("prefork", "shop-worker"), ("solo", "app")])
def test_metrics_of_the_apps_own_count_in_a_worker(units, monkeypatch, pool, service):
    assert metrics(units[pool], monkeypatch)[f'shop_sold_total{{release="r1",service="{service}"}}'] == 1


def test_files_are_those_of_the_slots_however_many_processes_came_and_went(units):
    for name in ("prefork", "limited"):
        slots = {file.stem.rpartition("_")[2] for file in units[name].metrics.glob("*.db")}
        assert slots == {"arbiter", "0", "1"}
    assert {file.stem.rpartition("_")[2] for file in units["solo"].metrics.glob("*.db")} <= {"arbiter", "0"}


def test_beats_clock_shows_when_it_last_ticked(units, monkeypatch):
    found = metrics(units["beat"], monkeypatch)
    name = 'flask_ops_beat_last_tick_timestamp_seconds{release="r1",service="shop-beat"}'
    assert found[name] == pytest.approx(units["beat"].output.stat().st_mtime, abs=5)
    assert "gauge_max_beat.db" in units["beat"].files()


def test_worker_with_wrong_settings_names_them_all_and_does_not_start(monkeypatch):
    wrong = ("FLASK_OPS_SQL_COMMENTS", "FLASK_OPS_SENTRY_TRACES_SAMPLE_RATE", "GUNICORN_LOG_LEVEL")
    for name in wrong:
        monkeypatch.setenv(name, "maybe")
    with pytest.raises(Mistakes) as refused:
        tasks._begin("worker")
    assert [name for name in wrong if name not in str(refused.value)] == []


def told_by(tmp_path, program, *words, **env):
    """Return what a command line of Celery's prints below its first line, and the modules it imported."""
    line = [sys.executable, "-X", "importtime", "-m", program, *words]
    app = {"PYTHONPATH": str(HERE), "APP_CELERY": "celery_apps:app", "TEST_BROKER_DIR": str(tmp_path)}
    done = subprocess.run(line, env=os.environ | app | env, capture_output=True, text=True, timeout=60)
    told = [json.loads(line)["event"] if line[:1] == "{" else line for line in done.stdout.splitlines()]
    usage, *rest = "\n".join(told).splitlines()
    assert usage.startswith("Usage: ")
    return rest, {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}


OURS = ("--app", "flask_ops.worker", "--broker=")
# Celery's own command line, and what of it neither of the two needs.
WHOLE, NEEDLESS = "celery.bin.celery", {"celery.bin.celery", "celery.bin.amqp", "prompt_toolkit"}


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_worker_and_beat_are_celerys_own_without_its_other_commands(tmp_path, command):
    words = (*OURS, command, "--help")
    celerys, _ = told_by(tmp_path, "celery", *words)
    ours, modules = told_by(tmp_path, "flask_ops.celery_command", *words)
    assert any("--loglevel" in line for line in ours)
    assert ours == celerys
    assert modules & NEEDLESS == set()


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ((*OURS, "inspect", "--help"), {}),
        (("--app", "celery_apps", "worker", "--help"), {}),
        ((*OURS, "worker", "--help"), {"TEST_USER_OPTION": "--flavour"}),
        ((*OURS, "worker", "--help"), {"RESULT_BACKEND": "cache+memory://"}),
    ],
)
def test_whatever_else_celery_is_asked_for_it_does_itself(tmp_path, words, env):
    celerys, _ = told_by(tmp_path, "celery", *words, **env)
    ours, modules = told_by(tmp_path, "flask_ops.celery_command", *words, **env)
    assert any(env.get("TEST_USER_OPTION", "") in line for line in ours)
    assert (ours, WHOLE in modules) == (celerys, True)


@pytest.mark.parametrize(
    ("line", "role"),
    [
        ("/srv/shop/venv/bin/celery --app shop worker", "worker"),
        ("/venv/celery/__main__.py -A worker beat", "beat"),
        ("/venv/flask_ops/celery_command.py --app flask_ops.worker --broker= beat", "beat"),
        ("/venv/bin/celery -A worker inspect ping", None),
        ("/venv/celery/__main__.py --app flask_ops.worker flower --logging=none", "flower"),
        ("/venv/bin/celery", None),
        ("/venv/bin/gunicorn worker", None),
    ],
)
def test_role_is_told_from_celerys_command_line_alone(line, role):
    assert tasks._role_of(line.split()) == role


def test_eager_task_runs_in_its_request_and_leaves_it_its_id():
    app = tasks.init_celery(Celery("shop", task_always_eager=True))
    app.conf.task_always_eager = True
    seen = []

    @app.task(name="shop.eager")
    def eager():
        seen.append(current_request_id())

    begin_request(ID)
    app.tasks["shop.eager"].delay()
    assert (seen, current_request_id()) == ([ID], ID)
    end_request()
    app.tasks["shop.eager"].delay()
    assert seen[1] is not None
    assert current_request_id() is None


def test_nothing_is_counted_where_neither_a_worker_nor_beat_runs():
    task_metrics.started("1")
    task_metrics.ended("1", "shop.sell", states.SUCCESS)
    task_metrics.lost("2", "shop.sell")
    assert task_metrics._metrics == []


def test_revoked_task_counts_and_one_that_is_told_of_twice_at_once_counts_once():
    # In a process of its own: metrics are made for good.
    code = """
import time
from celery import Celery, signals
from flask_ops import task_metrics, tasks
from prometheus_client import REGISTRY
task_metrics.make("worker")
task_metrics.make("worker")
task = Celery("shop").task(name="shop.sell")(task_metrics.make)
signals.task_revoked.send(sender=task, request=None)
task_metrics.TOLD_AGAIN_SECONDS = 0.2
for pause in (0, 0, 0.3):
    time.sleep(pause)
    signals.task_failure.send(sender=task, task_id="1")
for state in ("revoked", "failure"):
    print(REGISTRY.get_sample_value("flask_ops_tasks_total", {"task": "shop.sell", "state": state}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "2.0"]


@pytest.fixture
def held(tmp_path):
    """Start a beat whose hold file is there; return it once it waits."""
    hold = tmp_path / "hold"
    hold.touch()
    beat = Unit(tmp_path, "--app", "flask_ops.worker", "beat", FLASK_OPS_HOLD_FILE=str(hold))
    beat.hold = hold
    try:
        beat.wait_for("beat waits for its turn")
        yield beat
    finally:
        beat.process.kill()
        beat.process.wait()


def test_beat_that_is_held_asks_systemd_for_time_and_does_not_begin(held):
    assert held.told.recv(100) == b"EXTEND_TIMEOUT_USEC=30000000"
    assert "beat: Starting" not in held.output.read_text()
    held.hold.unlink()
    assert held.told.recv(100) == b"READY=1"
    held.wait_for("beat: Starting")
    held.wait_for("Scheduler: Sending due task")


def test_beat_that_is_held_leaves_at_once_when_it_is_told_to(held):
    assert held.stop() == -signal.SIGTERM
    assert "Sending due task" not in held.output.read_text()
