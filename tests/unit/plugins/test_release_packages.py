"""release_build with an app from the package index: its wheel is shipped as it is, and nothing is guessed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from release_workshop import contents, refused, wheel


@pytest.fixture
def market(warm, monkeypatch):
    """A workshop whose index, a folder, has an app `store` that needs `dep`."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", (warm.path / "no-index").as_uri())
    monkeypatch.setenv("UV_FIND_LINKS", str(warm.index))
    store(warm)
    return warm


def store(shop, version: str = "1.0", headers: str = "Requires-Dist: dep\n", **files: str) -> str:
    files = {"wsgi.py": "app = object()\n", "static/a.css": "a{}", **files}
    return wheel(shop.index, "store", version=version, headers=headers, **files)


def from_index(source: str = "pypi:store==1.0", **changed) -> dict:
    return {"source": source, "wsgi": "store.wsgi:app", "lock": "", "static_dir": "store/static", **changed}


def locked_names(built: dict) -> list[str]:
    lines = contents(built["deps_archive"])["requirements.txt"].decode().splitlines()
    return [line.split()[0] for line in lines]


def test_package_of_the_index_is_shipped_byte_for_byte_and_named(market):
    built = market.build(**from_index(host="web1"))
    deps, release = contents(built["deps_archive"]), contents(built["release_archive"])
    name = "store-1.0-py3-none-any.whl"
    assert deps[f"wheels/{name}"] == (market.index / name).read_bytes()
    assert set(release) == {
        "release.json",
        "release.env",
        "requirements.txt",
        "sbom.cdx.json",
        "static/a.5f546eb4606b.css",
        "static/a.css",
        "static/manifest.json",
        "wheels/ops-1.0-py3-none-any.whl",
    }
    assert (built["kind"], built["ref"], built["dirty"]) == ("wheel", "store 1.0", False)
    assert json.loads(release["release.json"])["ref"] == "store 1.0"
    assert b'RELEASE_REVISION="store 1.0"' in release["release.env"]


def test_exact_version_stays_resolved_without_the_index(market, monkeypatch):
    first = market.build(**from_index())
    monkeypatch.setenv("UV_FIND_LINKS", "/nonexistent")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    wheel(market.index, "dep", version="2.0")
    second = market.build(**from_index())
    assert (second["id"], second["changed"]) == (first["id"], False)


def test_open_requirement_takes_the_newest_at_each_build_and_says_so(market):
    first = market.build(**from_index("pypi:store>=1"))
    assert market.build(**from_index("pypi:store>=1"))["changed"] is False
    store(market, "1.1")
    second = market.build(**from_index("pypi:store>=1"))
    assert (second["changed"], second["ref"]) == (True, "store 1.1")
    assert second["id"] != first["id"]


def test_package_that_appears_during_a_run_is_left_for_the_next(market):
    since = time.time()
    first = market.build(**from_index("pypi:store>=1", since=since))
    store(market, "1.1")
    assert market.build(**from_index("pypi:store>=1", since=since))["id"] == first["id"]
    assert market.build(**from_index("pypi:store>=1", since=time.time() + 1))["ref"] == "store 1.1"


def test_extras_of_the_package_and_extra_packages_are_resolved_with_it(market):
    store(market, "2.0", "Provides-Extra: mail\nRequires-Dist: post; extra == 'mail'\n")
    wheel(market.index, "post")
    wheel(market.index, "driver")
    built = market.build(**from_index("pypi:store[mail]==2.0", extra_packages=["driver>=1"]))
    assert locked_names(built) == ["driver==1.0", "post==1.0", "store==2.0"]


def test_extra_packages_count_for_a_folder_as_well(market):
    wheel(market.index, "driver")
    assert locked_names(market.build(lock="", extra_packages=["driver"])) == ["dep==1.0", "driver==1.0"]


def test_extra_package_that_is_misspelt_is_refused_for_a_folder_as_well(market):
    message = refused(market.build, lock="", extra_packages=["drivre"], state="check")
    assert f"app_source `{market.source}`" in message
    assert "no package `drivre`" in message


def test_override_stands_in_for_a_requirement_that_is_too_strict(market):
    store(market, "3.0", "Requires-Dist: dep<1\n")
    message = refused(market.build, **from_index("pypi:store==3.0"))
    assert "app_package_overrides" in message
    built = market.build(**from_index("pypi:store==3.0", package_overrides=["dep>=1"]))
    assert locked_names(built) == ["dep==1.0", "store==3.0"]
    # The host asks its own uv, which would find the requirement unmet.
    assert json.loads(contents(built["release_archive"])["release.json"])["overrides"] == ["dep"]


def test_override_counts_for_a_lock_of_ones_own(market):
    hashed = store(market, "3.0", "Requires-Dist: dep<1\n")
    market.lock.write_text(f"store==3.0 {hashed}\n{market.lock.read_text()}")
    given = from_index("pypi:store", lock=str(market.lock))
    assert "store needs dep<1, the lock has 1.0" in refused(market.build, **given)
    assert market.build(**given, package_overrides=["dep"])["ref"] == "store 3.0"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "pypi:store==2.0"}, "app_source needs store==2.0, the lock has 1.0"),
        ({"source": "pypi:shop"}, "app_source needs shop, which the lock lacks"),
        ({"extra_packages": ["driver"]}, "app_extra_packages needs driver, which the lock lacks"),
        ({"extra_packages": ["dep>=2"]}, "app_extra_packages needs dep>=2, the lock has 1.0"),
    ],
)
def test_lock_of_ones_own_is_never_added_to(market, changed, words):
    market.lock.write_text(f"store==1.0 {store(market)}\n{market.lock.read_text()}")
    given = from_index(lock=str(market.lock))
    assert market.build(**given)["ref"] == "store 1.0"
    message = refused(market.build, **{**given, "state": "check", **changed})
    assert words in message
    assert "lock again" in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "pypi:stroe==1.0"}, "no package `stroe`"),
        ({"source": "pypi:store==9"}, "no such version"),
        ({"source": "pypi:newer"}, "no version for Python 3.11.2"),
        ({"source": "pypi:native"}, "native==1.0 has no wheel for Python 3.11.2 and its libc"),
        ({"extra_packages": ["drivre"]}, "no package `drivre`"),
    ],
)
def test_what_the_index_cannot_give_this_host_is_refused_before_anything_changes(market, changed, words):
    wheel(market.index, "newer", headers="Requires-Python: >=3.12\n")
    wheel(market.index, "native", "cp313-cp313-manylinux_2_17_x86_64")
    host = {"host": "web1", "python_version": "3.11.2", "glibc": "2.36", "state": "check"}
    message = refused(market.build, **{**from_index(), **host, **changed})
    source = changed.get("source", "pypi:store==1.0")
    assert message.startswith(f"app_source `{source}` for web1 (Python 3.11.2, glibc 2.36): ")
    assert words in message


def test_index_that_is_out_of_reach_is_named_as_such(market, monkeypatch):
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    message = refused(market.build, **from_index("pypi:nowhere-to-be-found"))
    assert "the package index cannot be reached. Try again" in message


def test_wsgi_entry_and_static_folder_are_looked_for_inside_the_wheel(market):
    given = from_index(state="check")
    message = refused(market.build, **{**given, "wsgi": "store.wsgi:ap"})
    assert "defines no `ap`; did you mean `store.wsgi:app`?" in message
    message = refused(market.build, **{**given, "static_dir": "store/statics"})
    assert "did you mean `store/static`?" in message
    assert market.build(**given)["ref"] == "store 1.0"


def test_misspelt_folder_never_becomes_a_package(market, monkeypatch):
    monkeypatch.chdir(market.path)
    message = refused(market.build, **from_index("store", state="check"))
    assert "there is no folder store" in message
    assert "`pypi:shop==1.4`" in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "pypi:"}, "app_source: `` is no requirement"),
        ({"source": "pypi:store; python_version > '3'"}, "name and version only"),
        ({"source": "pypi:store @ https://me:word@host/x.whl"}, "name and version only"),
        ({"extra_packages": ["-r other.txt"]}, "app_extra_packages: `-r other.txt` is no requirement"),
        ({"package_overrides": ["dep=>1"]}, "app_package_overrides: `dep=>1` is no requirement"),
    ],
)
def test_requirement_that_is_none_is_refused_with_its_variable(market, changed, words):
    message = refused(market.build, **{**from_index(state="check"), **changed})
    assert words in message
    assert "word@" not in message


def test_task_ships_the_very_wheel_of_the_real_index(project, shop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    params = shop.params(
        source="pypi:itsdangerous==2.2.0", lock="", static_dir="", wsgi="itsdangerous.timed:TimestampSigner"
    )
    run = project.play([{"name": "Build", "release_build": params, "delegate_to": "localhost"}])
    assert run.code == 0, run.output
    built = run.last
    assert built["revision"] == "itsdangerous 2.2.0"
    (lock,) = (Path(shop.cache) / "locks").glob("*.txt")
    (line,) = (
        line for line in contents(built["deps_archive"])["requirements.txt"].decode().splitlines() if line
    )
    assert line.split("sha256:")[1] in lock.read_text()
