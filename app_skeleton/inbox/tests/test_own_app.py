"""An app of one's own begins as a copy without the domain: what is left works, and its tests pass.

What is taken away here is what the README says to delete.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INBOX = Path(__file__).parents[1]
DELETED = ("src/inbox/messages", "tests/messages", "tests/browser", "src/inbox/migrations/versions")
# What the domain is spoken of by in the frame: pattern, what it becomes, how often it stands there.
MENTIONED = {
    "src/inbox/__init__.py": [(r"\bmessages, ", "", 1), (r"    messages\.init_app\(app\).*\n", "", 1)],
    "src/inbox/config.py": [
        (r"from \.messages import .*\n", "", 1),
        (r" +\*\*domain\.load\(read\),\n", "", 1),
    ],
}

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Copy the app and take the domain out of it; return its folder."""
    top = tmp_path_factory.mktemp("own")
    folder = top / "inbox"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", Path(__file__).name)
    shutil.copytree(INBOX, folder, ignore=ignored)
    # With its cache where ours is: compiling every library anew would take longer than the tests.
    shared = (INBOX.parent / "conftest.py").read_text()
    place = "Path(__file__).parents[1]"
    assert place in shared
    (top / "conftest.py").write_text(shared.replace(place, f"Path({str(INBOX.parents[1])!r})"))
    shutil.copy(INBOX.parent / "redis_server.py", top)
    for name in DELETED:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    (folder / "src/inbox/migrations/versions").mkdir()
    for name, changes in MENTIONED.items():
        text = (folder / name).read_text()
        for pattern, new, times in changes:
            text, count = re.subn(pattern, new, text)
            assert count == times, f"{name} holds {pattern} {count} times"
        (folder / name).write_text(text)
    return folder


def run(folder, *words):
    """Run a Python module in the copy; return what it said."""
    # A coverage of this suite is not one of the copy.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment |= {"PYTHONPATH": f"{folder}/src", "DATABASE_URL": f"sqlite:///{folder}/own.sqlite"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-6000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_readme_names_what_was_taken_away(own):
    told = (own / "README.md").read_text().partition("## Start your own app from it")[2]
    assert [name for name in (*DELETED, *MENTIONED) if f"`{name}`" not in told] == []


def test_nothing_else_speaks_of_the_domain(own):
    speaks = re.compile(r"^\s*(from|import) .*\bmessages\b|\bmessages\.\w", re.MULTILINE)
    sources = [path for folder in ("src", "tests") for path in (own / folder).rglob("*.py")]
    assert len(sources) > 20
    assert [str(path.relative_to(own)) for path in sources if speaks.search(path.read_text())] == []


def test_first_migration_is_made_and_brings_the_database_to_the_models(own):
    run(own, "flask", "--app", "inbox", "db", "migrate", "-m", "users")
    (made,) = (own / "src/inbox/migrations/versions").glob("*.py")
    assert "user_account" in made.read_text()
    run(own, "flask", "--app", "inbox", "db", "upgrade")
    run(own, "flask", "--app", "inbox", "db", "check")


def test_tests_of_the_frame_pass_without_the_domain(own):
    words = ("pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile")
    passed = run(own, *words, "--confcutdir", str(own.parent), "tests")
    assert re.search(r"\b[1-9]\d+ passed", passed), passed
