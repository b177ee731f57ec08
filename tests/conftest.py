"""Hosts for tests/target and tests/scenario, evidence of what goes red, durations.

Which host a test gets is its parameter. With `-n 2 --dist loadgroup` the tests of one host run one after
the other in one process, those of different hosts side by side. Every test of tests/target, and those of
tests/scenario marked `every_release`, run on Debian 12 and 13, as far as they are about a host with the app
on it; the others on the releases named in RELEASES ("13"), or with `--long` on both. What is marked `long`
runs with `--long` alone: it would show for another broker, another app or another moment what a test beside
it shows.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

TESTS_DIR = Path(__file__).parent
ALL_RELEASES = (13, 12)
HOST_FIXTURES = ("site", "spare", "plain", "certified", "sharing", "shipping", "broker", "watched", "fleet")
HOST_IN_ID = re.compile(rf"\b({'|'.join(HOST_FIXTURES)})-debian\d+\b")
# After so many a further one tells nothing new, and each takes seconds.
EVIDENCE_AT_MOST = 20

SHOWN = pytest.StashKey[int]()
DURATIONS = pytest.StashKey[list]()
SEEN_ERRORS = pytest.StashKey[dict]()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long forms too, on every Debian release")
    parser.addoption("--keep-hosts", action="store_true", help="leave the tests' hosts up, to look at them")


def pytest_configure(config):
    config.addinivalue_line("markers", "every_release: runs on each Debian release, not only on the main one")
    config.addinivalue_line("markers", "long: runs with --long alone")
    config.stash[SHOWN] = _terminal(config)
    config.stash[DURATIONS] = []
    config.stash[SEEN_ERRORS] = {}


def _terminal(config) -> int:
    """Return a file descriptor that pytest does not capture: minutes without a word look like a hang."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return os.dup(2)
    with capture.global_and_fixture_disabled():
        return os.dup(2)


@pytest.fixture(scope="session")
def say(request):
    """Say a line on the terminal at once, from whatever process and thread."""
    terminal = request.config.stash[SHOWN]
    return lambda line: os.write(terminal, f"{line}\n".encode())


def main_releases(config) -> tuple[int, ...]:
    """Return the Debian releases on which everything runs."""
    named = os.environ.get("RELEASES", "").split()
    if named:
        return tuple(int(word) for word in named)
    return ALL_RELEASES if config.getoption("--long") else ALL_RELEASES[:1]


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def uses_hosts(item) -> bool:
    """Tell whether a test belongs to those that get hosts: others may call a fixture of their own `site`."""
    return bool({TESTS_DIR / "target", TESTS_DIR / "scenario"} & set(item.path.parents))


def pytest_generate_tests(metafunc):
    if not uses_hosts(metafunc.definition):
        return
    everywhere = (
        TESTS_DIR / "target" in metafunc.definition.path.parents
        or metafunc.definition.get_closest_marker("every_release") is not None
    )
    for kind in HOST_FIXTURES:
        if kind in metafunc.fixturenames:
            releases = ALL_RELEASES if everywhere and kind == "site" else main_releases(metafunc.config)
            ids = [f"{kind}-debian{debian}" for debian in releases]
            metafunc.parametrize(kind, releases, ids=ids, indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give all tests of one host to one process.

    By their ids: `xdist_group` marks, made for this, have no effect under pytest 9.2 with xdist 3.8
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByHost(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            found = HOST_IN_ID.search(nodeid)
            return found[0] if found else super()._split_scope(nodeid)

    return ByHost(config, log)


@contextmanager
def _host(kind, request):
    """Declare a host that this process alone uses; remove it at the end."""
    from testbed import plays, sites

    declaration = sites.Declaration(kind, request.param)
    with sites.owned(declaration):
        # What earlier sessions saved of its plays.
        for log in plays.LOG_DIR.glob(f"{declaration.name}-*.log"):
            log.unlink()
        try:
            sites.remove(declaration)
            yield declaration
        finally:
            if not request.config.getoption("--keep-hosts"):
                sites.remove(declaration)


@contextmanager
def _pair(member, kind, request):
    """Declare two hosts of one inventory that this process alone uses; remove them at the end."""
    from testbed import sites

    members = [member(kind, request.param, number) for number in (0, 1)]
    both = SimpleNamespace(name=members[0].inventory_name, path=members[0].path)
    with sites.owned(both):
        try:
            sites.remove(both)
            yield members
        finally:
            if not request.config.getoption("--keep-hosts"):
                sites.remove(both)


@pytest.fixture(scope="session")
def site(request, say):
    """Return a provisioned host, the sample app served."""
    from testbed import converged

    with _host("site", request) as declaration:
        yield converged.start(declaration, say)


@pytest.fixture(scope="session")
def spare(request, say):
    """Return another provisioned host, for what would disturb the first."""
    from testbed import converged

    with _host("spare", request) as declaration:
        yield converged.start(declaration, say)


@pytest.fixture(scope="session")
def plain(request, say):
    """Return a host with nothing on it but Debian."""
    from testbed import sites

    with _host("plain", request) as declaration:
        yield sites.start(declaration, say)


@pytest.fixture(scope="session")
def certified(request, say):
    """Return a host with nothing on it but Debian and an ACME server."""
    from testbed import certifying

    with _host("certified", request) as declaration:
        yield certifying.start(declaration, say)


@pytest.fixture(scope="session")
def sharing(request, say):
    """Return two hosts of one app, and an ACME server on the first that asks the second."""
    from testbed import certifying

    with _pair(certifying.Sharer, "certified", request) as members:
        yield certifying.start_two(members, say)


@pytest.fixture(scope="session")
def shipping(request, say):
    """Return two plain hosts, of which one is to watch the other."""
    from testbed import shipping

    with _pair(shipping.Pair, "shipping", request) as members:
        yield shipping.start(members, say)


@pytest.fixture(scope="session")
def broker(request, say):
    """Return a host that two apps' inventories brought RabbitMQ to, and nothing else."""
    from testbed import brokers

    with _host("broker", request) as declaration:
        yield brokers.start(declaration, say)


@pytest.fixture(scope="session")
def watched(request, say):
    """Return a provisioned host in its own group `monitoring`."""
    from testbed import watching

    with _host("watched", request) as declaration:
        yield watching.start(declaration, say)


@pytest.fixture(scope="session")
def fleet(request, say):
    """Return three app hosts with their database and Redis on a fourth, the sample app served by each."""
    from testbed import fleets

    with fleets.owned(request.param, keep=request.config.getoption("--keep-hosts")) as declared:
        yield fleets.start(declared, say)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if uses_hosts(item) and set(HOST_FIXTURES) & set(getattr(item, "fixturenames", ())):
        if report.failed:
            try:
                words = _save_evidence(item, call)
            except Exception as error:
                # A test that failed must be reported as such, whatever its host is up to.
                words = f"could not be saved: {error!r}"
            report.sections.append(("evidence", words))
        elif report.when == "call":
            from testbed import evidence

            # What an earlier, red run of this test left.
            shutil.rmtree(evidence.folder_of(item.name), ignore_errors=True)
    return report


def _save_evidence(item, call) -> str:
    """Save what the hosts of this process tell; return where. One cause is saved once."""
    from testbed import evidence, sites

    seen = item.config.stash[SEEN_ERRORS]
    # A fixture's failure is every test's that uses it: pytest raises the same object again.
    error = call.excinfo.value
    if id(error) in seen:
        return f"as for an earlier test: {seen[id(error)][1]}"
    if len(seen) >= EVIDENCE_AT_MOST:
        return f"not saved: {EVIDENCE_AT_MOST} tests' evidence is there already"
    folder = evidence.folder_of(item.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for running in list(sites.RUNNING.values()):
        evidence.collect(folder, running)
    (folder / "failure.txt").write_text(str(call.excinfo.getrepr(style="short")))
    # The error itself is kept, or its id might be given to another.
    seen[id(error)] = (error, folder)
    return str(folder)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    from testbed import durations

    session.config.stash[DURATIONS] += durations.RECORDED
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["durations"] = durations.RECORDED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.stash[DURATIONS] += getattr(node, "workeroutput", {}).get("durations", [])


def pytest_terminal_summary(terminalreporter, config):
    from testbed import durations, evidence

    found = sorted((words, seconds) for words, seconds in config.stash[DURATIONS])
    if not found:
        return
    durations.save(evidence.EVIDENCE_DIR / "durations.json", found)
    terminalreporter.section("durations")
    width = max(len(words) for words, _ in found)
    for words, seconds in found:
        terminalreporter.write_line(f"{words:{width}}  {seconds:7.1f} s")
