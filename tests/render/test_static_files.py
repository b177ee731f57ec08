"""Static files as the build makes them, served by the nginx of each Debian release."""

from __future__ import annotations

import base64
import gzip
import json
from types import SimpleNamespace

import ansible.module_utils
import pytest
from rendering import ROOT

ansible.module_utils.__path__.append(str(ROOT / "plugins/module_utils"))
from ansible.module_utils.release_static import MANIFEST, prepared  # noqa: E402

OLD, NEW = (f"a {{ color: {colour} }}\n".encode() * 100 for colour in ("red", "blue"))
DATED = b"told at noon\n" * 100
RELEASES = {
    "previous": prepared({"inbox.css": OLD, "gone.css": OLD}),
    "current": prepared({"inbox.css": NEW, "report.202601011200.txt": DATED}),
}
HASHED = {release: json.loads(files[MANIFEST]) for release, files in RELEASES.items()}
PACKED = {"Accept-Encoding": "gzip"}
QUESTIONS = {
    "plain": ("/static/inbox.css", {}),
    "hashed": (f"/static/{HASHED['current']['inbox.css']}", {}),
    "with a query": (f"/static/{HASHED['current']['inbox.css']}?v=1", {}),
    "plain, compressed": ("/static/inbox.css", PACKED),
    "hashed, compressed": (f"/static/{HASHED['current']['inbox.css']}", PACKED),
    "hashed, previous": (f"/static/{HASHED['previous']['inbox.css']}", {}),
    "hashed, previous, compressed": (f"/static/{HASHED['previous']['inbox.css']}", PACKED),
    "plain, previous": ("/static/gone.css", {}),
    "dated": ("/static/report.202601011200.txt", {}),
    "hashed, nowhere": ("/static/inbox.0123456789ab.css", {}),
    "page": ("/inbox.0123456789ab.css", {}),
}
YEAR, ASKED = "max-age=31536000, immutable", "no-cache"


@pytest.fixture(scope="module")
def answers(sandbox):
    """Return what each site answered to each question."""
    sites = [
        {
            "app": host.app,
            "name": "odd.localhost" if host.odd else f"{host.app}.example.org",
            "https_port": 8443 if host.odd else 443,
        }
        for host in sandbox.hosts
    ]
    coded = {
        release: {name: base64.b64encode(content).decode() for name, content in files.items()}
        for release, files in RELEASES.items()
    }
    told = sandbox.told("serving_static", {"sites": sites, "releases": coded, "questions": QUESTIONS})
    return [{name: parsed(answer) for name, answer in said.items()} for said in told.values()]


def parsed(answer: dict) -> SimpleNamespace:
    headers: dict[str, list[str]] = {}
    for name, value in answer["headers"]:
        headers.setdefault(name, []).append(value)
    body = base64.b64decode(answer["body"])
    return SimpleNamespace(status=answer["status"], headers=headers, body=body)


@pytest.mark.parametrize(
    ("question", "body", "kept"),
    [
        ("plain", NEW, ASKED),
        ("hashed", NEW, YEAR),
        ("with a query", NEW, YEAR),
        ("hashed, previous", OLD, YEAR),
        ("plain, previous", OLD, ASKED),
        ("dated", DATED, ASKED),
    ],
)
def test_file_is_kept_for_as_long_as_its_name_means_it(answers, question, body, kept):
    for said in answers:
        answer = said[question]
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["cache-control"] == [kept]
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("question", "release"), [("plain", "current"), ("hashed", "current"), ("hashed, previous", "previous")]
)
def test_body_that_the_build_compressed_is_the_one_sent(answers, question, release):
    for said in answers:
        answer = said[f"{question}, compressed"]
        name = QUESTIONS[question][0].removeprefix("/static/")
        assert answer.headers["content-encoding"] == ["gzip"]
        # Byte for byte: nginx's own would be made anew for each request, and at another level.
        assert answer.body == RELEASES[release][f"{name}.gz"]
        assert gzip.decompress(answer.body) == said[question].body
        for one in (answer, said[question]):
            assert one.headers["vary"] == ["Accept-Encoding"]
        assert answer.headers["cache-control"] == said[question].headers["cache-control"]


@pytest.mark.parametrize("question", ["hashed, nowhere", "page"])
def test_what_neither_release_has_is_the_apps_to_answer(answers, question):
    for said in answers:
        assert (said[question].status, said[question].body) == (200, b"the app")
        assert "cache-control" not in said[question].headers
