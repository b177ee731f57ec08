"""Patching for gevent: what gevent does itself, with the installed packages looked through once."""

import json
import subprocess
import sys

import pytest

PLUGIN = "[gevent.plugins.monkey.did_patch_all]\nheard = heard:plugin\n"
REPORT = """
import json, os, sys
from importlib import metadata
reads = []
read = metadata.PathDistribution.read_text
def counted(self, name):
    reads.append(name)
    return read(self, name)
metadata.PathDistribution.read_text = counted
ask = metadata.entry_points
%s
import heard
from gevent import monkey
saved = {name: sorted(items) for name, items in monkey.saved.items()}
found = {
    "saved": saved,
    "heard": heard.events,
    "reads": reads.count("entry_points.txt"),
    "restored": metadata.entry_points is ask,
}
print(json.dumps(found))
"""
OURS = "from flask_ops import patching; patching.patch_all()"
GEVENTS = "from gevent import monkey; monkey.patch_all()"


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """Return what each of the two did, where a package wants to hear of it."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "heard.py").write_text("events = []\ndef plugin(event): events.append(type(event).__name__)\n")
    installed = folder / "heard-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: heard\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(PLUGIN)

    def run(how):
        done = subprocess.run(
            [sys.executable, "-c", REPORT % how], cwd=folder, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return {"ours": run(OURS), "gevent": run(GEVENTS)}


def test_same_is_patched_and_the_same_is_told(patched):
    ours, gevents = patched["ours"], patched["gevent"]
    assert ours["saved"] == gevents["saved"]
    assert ours["heard"] == gevents["heard"] == ["GeventDidPatchAllEvent"]


def test_packages_are_looked_through_once(patched):
    assert patched["ours"]["reads"] * 10 < patched["gevent"]["reads"]
    assert patched["ours"]["restored"]
