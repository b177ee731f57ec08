"""How files of several processes become one page."""

import json
import os
import struct

import flask_ops
import prometheus_client
import pytest
from flask import Flask
from flask_ops import metric_files, multiproc, scrape
from metrics_pages import OPENMETRICS, samples, total
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from structlog.testing import capture_logs


def unlabelled(found):
    return {
        (name, *(pair for pair in pairs if pair[0] not in ("release", "service"))): value
        for (name, *pairs), value in found.items()
    }


@pytest.fixture
def slots(monkeypatch, tmp_path):
    """Return a function that prepares a directory and makes prometheus_client write to it as a slot."""
    monkeypatch.setattr(multiproc, "_state", {"directory": None, "slot": "arbiter", "store": None})
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "restored by the fixture")

    def use(name, slot, release="r1", service="web"):
        folder = tmp_path / name / "metrics"
        os.environ.update(RELEASE_ID=release, FLASK_OPS_SERVICE=service)
        multiproc.prepare(str(folder))
        multiproc.use_slot(slot)
        return folder

    monkeypatch.setenv("RELEASE_ID", "")
    monkeypatch.setenv("FLASK_OPS_SERVICE", "")
    return use


def write_some_of_each(slot):
    registry = CollectorRegistry()
    Counter("jobs", 'Jobs "done"\nso far', ["kind"], registry=registry).labels('a"b\\c\nd').inc(slot + 1)
    histogram = Histogram("took_seconds", "Took", ["kind"], registry=registry, buckets=(0.5, 10))
    for seconds in (0.1, 5, 50):
        histogram.labels("x").observe(seconds)
    Summary("size_bytes", "Size", registry=registry).observe(10 * slot)
    for mode in sorted(Gauge._MULTIPROC_MODES):
        gauge = Gauge(f"level_{mode}", mode, ["kind"], registry=registry, multiprocess_mode=mode)
        gauge.labels("x").set(slot)
        gauge.labels("never set")


def test_page_says_what_prometheus_client_would_say(slots):
    folder = slots("web", 1)
    write_some_of_each(1)
    multiproc.use_slot(2)
    write_some_of_each(2)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    expected = samples(prometheus_client.generate_latest(registry))
    scraper = scrape.Scraper(str(folder), list)
    for _ in "first", "from what was laid out at the first":
        plain, kind = scraper.render(None)
        assert kind.startswith("text/plain; version=0.0.4")
        found = samples(plain)
        assert unlabelled(found) == expected
        assert all({("release", "r1"), ("service", "web")} <= set(at) for at in found)
        page, kind = scraper.render(OPENMETRICS)
        assert kind.startswith("application/openmetrics-text")
        assert samples(page, parse_openmetrics) == found


def test_layouts_kept_for_the_next_scrape_stay_few(slots, monkeypatch):
    folder = slots("web", 0)
    write_some_of_each(1)
    monkeypatch.setattr(scrape, "_MAX_LAYOUTS", 3)
    scraper = scrape.Scraper(str(folder), list)
    page, _ = scraper.render(None)
    assert scraper.render(None)[0] == page
    assert len(scraper._layouts) <= 3


def test_directories_of_all_releases_and_services_make_one_page(slots, monkeypatch, tmp_path):
    folders = [slots("r1", 0, "r1"), slots("r2", 0, "r2"), slots("worker", "child-0", "r2", "worker")]
    for amount, (folder, release, service) in enumerate(
        zip(folders, ("r1", "r2", "r2"), ("web", "web", "worker"), strict=True), start=1
    ):
        slots(folder.parent.name, 0, release, service)
        registry = CollectorRegistry()
        Counter("jobs", "Jobs", registry=registry).inc(amount)
        Counter("own", "Own labels", ["release"], registry=registry).labels("mine").inc()
    slots("r1", 1, "r1")
    Gauge("mood", "A gauge here", registry=CollectorRegistry()).set(1)
    slots("r2", 1, "r2")
    Counter("mood", "A counter there", registry=CollectorRegistry()).inc()
    monkeypatch.setenv("FLASK_OPS_METRICS_DIRS", str(tmp_path / "*" / "metrics"))
    scraper = scrape.Scraper(str(folders[0]), list)
    with capture_logs() as told:
        pages = [scraper.render(None)[0] for _ in range(2)]
    for page in pages:
        found = samples(page)
        assert [
            total(page, "jobs_total", release=r, service=s) for r, s in [("r1", "web"), ("r2", "web")]
        ] == [1, 2]
        assert total(page, "jobs_total") == 6
        assert total(page, "own_total", release="mine") == 3
        assert [at for at in found if at[0].startswith("mood")] == [
            ("mood", ("pid", "1"), ("release", "r1"), ("service", "web"))
        ], "of two types the own release's stays"
        assert page.count(b"# TYPE jobs_total counter\n") == page.count(b"# HELP jobs_total ") == 1
    assert [line["what"] for line in told] == ["mood"], "told once"


def test_two_directories_of_one_release_and_service_are_summed(slots, monkeypatch, tmp_path):
    for name in ("a", "b"):
        slots(name, 0)
        Counter("jobs", "Jobs", registry=CollectorRegistry()).inc()
    monkeypatch.setenv("FLASK_OPS_METRICS_DIRS", str(tmp_path / "*" / "metrics"))
    page, _ = scrape.Scraper(None, list).render(None)
    assert samples(page) == {("jobs_total", ("release", "r1"), ("service", "web")): 2}


def test_what_vanishes_or_is_half_made_fails_no_scrape(slots, monkeypatch, tmp_path):
    folder = slots("web", 0)
    Counter("jobs", "Jobs", registry=CollectorRegistry()).inc()
    (folder / "counter_1.db").touch()
    (folder / "counter_2.db").write_bytes(bytes(1 << 16))
    (folder / "counter_3.db").write_bytes(struct.pack("ii", 9999, 0))
    (folder / "counter_4.db").write_bytes(b"abc")
    (folder / "counter_5.db").write_bytes(struct.pack("=iiii", 64, 0, 4096, 0) + bytes(100))
    (folder / "counter_6.db").write_bytes(struct.pack("=iii4sdd", 8 + 32, 0, 4, b"{]}x", 1, 1) + bytes(100))
    (folder / "mood_1.db").touch()
    (folder / "gauge_max_9.db").symlink_to(folder / "gone")
    (tmp_path / "new" / "metrics").mkdir(parents=True)
    monkeypatch.setenv("FLASK_OPS_METRICS_DIRS", str(tmp_path / "*" / "metrics"))
    scraper = scrape.Scraper(str(folder), list)
    with capture_logs() as told:
        for _ in range(2):
            assert samples(scraper.render(None)[0]) == {
                ("jobs_total", ("release", "r1"), ("service", "web")): 1
            }
    assert len(told) == 4, "each broken thing is told once"
    (folder / multiproc.LABELS_FILE).write_text("[]")
    assert samples(scraper.render(None)[0]) == {}


def test_start_continues_counters_and_forgets_gauges_and_broken_files(slots):
    folder = slots("web", 0)
    write_some_of_each(1)
    before = metric_files.read_file(folder / "counter_0.db")
    (folder / "counter_1.db").write_bytes(b"abc")
    (folder / "summary_1.db").write_bytes(
        struct.pack("=iii4sdd", 8 + 32, 0, 4, b"\xff\xff\xff\xff", 1, 1) + bytes(9)
    )
    (folder / "mine.txt").touch()
    with capture_logs() as told:
        slots("web", 0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "counter_0.db",
        "histogram_0.db",
        "labels.json",
        "mine.txt",
        "summary_0.db",
    ]
    assert [line["file"] for line in told] == ["counter_1.db", "summary_1.db"]
    assert metric_files.read_file(folder / "counter_0.db") == before
    assert json.loads((folder / "labels.json").read_text()) == {"release": "r1", "service": "web"}


def test_slots_are_the_lowest_free_and_only_the_dead_ones_gauges_go(slots):
    assert [multiproc.lowest_free_slot(taken) for taken in ([], [0, 1], [1], [0, 2])] == [0, 2, 0, 1]
    multiproc.forget_gauges(0)
    assert multiproc.current_slot() == "0"
    folder = slots("web", 1)
    for slot in (1, 11, "child_1"):
        multiproc.use_slot(slot)
        Gauge("level", "Level", registry=CollectorRegistry(), multiprocess_mode="livesum").set(1)
    assert multiproc.current_slot() == "child_1"
    multiproc.forget_gauges(1)
    assert {path.name for path in folder.glob("*.db")} == {"gauge_livesum_11.db", "gauge_livesum_child_1.db"}
    multiproc.prepare(None)
    assert multiproc.active_directory() == str(folder)


def test_command_line_beside_a_server_leaves_its_metrics_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    flask_ops.init_app(Flask("shop"))
    assert list(tmp_path.iterdir()) == []


def test_file_that_grows_loses_nothing_and_is_continued(slots):
    for times in (1, 2):
        folder = slots("web", 0)
        jobs = Counter("jobs", "Jobs", ["kind"], registry=CollectorRegistry())
        for number in range(1500):
            jobs.labels(f"kind-{number}").inc()
        jobs.labels("kind-0").inc()
        assert (folder / "counter_0.db").stat().st_size > 1 << 16
        page, _ = scrape.Scraper(str(folder), list).render(None)
        assert total(page, "jobs_total") == 1501 * times
        assert total(page, "jobs_total", kind="kind-0") == 2 * times == jobs.labels("kind-0")._value.get()


def test_two_metrics_of_one_name_add_to_one_series(slots):
    folder = slots("web", 0)
    for _ in "ours", "the app's own exporter's":
        Counter("jobs", "Jobs", registry=CollectorRegistry()).inc(2)
    page, _ = scrape.Scraper(str(folder), list).render(None)
    assert total(page, "jobs_total") == 4


def test_worker_that_meets_a_broken_file_begins_it_anew(slots):
    folder = slots("web", 0)
    (folder / "counter_3.db").write_bytes(b"abc")
    multiproc.use_slot(3)
    jobs = Counter("jobs", "Jobs", registry=CollectorRegistry())
    jobs.inc(3, exemplar={"id": "x"})
    multiproc.use_slot(4)
    jobs.inc(4)
    assert jobs._value.get_exemplar() is None
    page, _ = scrape.Scraper(str(folder), list).render(None)
    assert total(page, "jobs_total") == 7
    assert {path.name for path in folder.glob("*.db")} == {"counter_3.db", "counter_4.db"}


def test_release_that_vanishes_during_a_scrape_fails_nothing(slots, monkeypatch):
    folder = slots("web", 0)
    Counter("jobs", "Jobs", registry=CollectorRegistry()).inc()
    read = metric_files.read_file

    def remove_and_read(path):
        path.unlink()
        return read(path)

    monkeypatch.setattr(metric_files, "read_file", remove_and_read)
    assert samples(scrape.Scraper(str(folder), list).render(None)[0]) == {}
