"""The benches run and say what they measured. How fast anything is, they are not asked here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from bench import APP_PYTHON, PROJECT_DIR, postgresql
from bench.spread import of_median, percentile

needs_servers = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("h2load") and postgresql.programs() and APP_PYTHON.exists()),
    reason="nginx, nghttp2-client, postgresql or the app venv is missing",
)
SMALLEST = ["--epochs=1", "--rounds=2", "--scale=0.02", "--workers=1", "--connections=2"]


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--json", *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR / "tests")},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@needs_servers
def test_observability_bench_measures_each_view_with_and_without_flask_ops():
    report = run("observability", *SMALLEST, "--variants=whole")
    rows = {(row["view"], row["variant"]): row for row in report["results"]}
    assert rows.keys() == {(view, name) for view in ("db", "json") for name in ("bare", "whole")}
    assert rows["db", "bare"]["cpu_ratio"]["median"] == 1
    assert all(row["gunicorn_us"] > 0 and row["nginx_us"] > 0 and row["p99_us"] > 0 for row in rows.values())
    assert rows["db", "whole"]["postgresql_us"] > 0
    assert report["versions"]["gunicorn"]
    assert report["machine"]["cores"]


@needs_servers
def test_edge_bench_measures_nginx_with_and_without_tls():
    rows = run("edge", "--epochs=1", "--rounds=2", "--requests=40", "--handshakes=10", "--workers=1")[
        "results"
    ]
    found = {row["variant"]: row for row in rows}
    by_itself = {"file", "cached"}
    assert found.keys() == {"plain", "plain_again", "edge", "edge_tls", "edge_tls_new"} | by_itself
    assert found["plain"]["cpu_ratio"]["median"] == 1
    assert all(row["nginx_us"] > 0 for row in rows)
    assert all(found[name]["gunicorn_us"] > 0 for name in found.keys() - by_itself)
    assert found["cached"]["rate_to_file"]["median"] > 0


def test_interval_holds_the_median_and_widens_with_the_noise():
    calm = of_median([[1.00, 1.01, 1.02], [1.01, 1.02, 1.03]])
    wild = of_median([[0.50, 1.01, 1.90], [0.80, 1.02, 1.60]])
    assert calm.low <= calm.median <= calm.high
    assert wild.high - wild.low > calm.high - calm.low


def test_rounds_of_one_start_count_less_than_as_many_starts():
    starts = [[level + noise / 1000 for noise in range(10)] for level in (1.0, 1.1, 1.2, 1.3)]
    together = of_median(starts)
    apart = of_median([[value] for start in starts for value in start])
    assert together.high - together.low > apart.high - apart.low


def test_percentile_is_a_value_that_was_measured():
    assert percentile(range(1, 101), 0.99) == 100
    assert percentile([7], 0.5) == 7
