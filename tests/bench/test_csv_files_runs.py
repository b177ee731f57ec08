"""The bench of CSV files runs. How fast anything is, it is not asked here."""

from __future__ import annotations

from bench.test_bench_runs import needs_servers, run


@needs_servers
def test_csv_files_bench_imports_and_exports_what_it_made():
    report = run("csv_files", "--mib=1")
    assert report["mib"] >= 1
    assert report["messages"] > 1000
    assert report["pieces"] == 1
    assert report["import_mib_per_second"] > 0
    assert report["export_mib_per_second"] > 0
    assert report["rss_export_mib"] >= report["rss_import_mib"] >= report["rss_before_mib"] > 0
