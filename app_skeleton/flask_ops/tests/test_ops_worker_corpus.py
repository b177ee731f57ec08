"""gunicorn's own corpus of requests, valid and invalid, is read as its authors say."""

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bare_gunicorn import OURS, STOCK, Gunicorn, answers
from gunicorn.config import Config
from gunicorn.util import split_request_uri
from test_ops_http_request import compare, read_here

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".cache/gunicorn-corpus"


@dataclass(frozen=True)
class Case:
    """One file of the corpus.

    :param data: what the client sends.
    :param cfg: the settings under which it is valid or not.
    :param expected: requests as gunicorn is to read them, or the error that it is to raise.
    """

    name: str
    data: bytes
    cfg: Config
    expected: Any


def uri(raw):
    parts = split_request_uri(raw)
    return {
        "raw": raw,
        "path": parts.path or "",
        "query": parts.query or "",
        "fragment": parts.fragment or "",
    }


def case(path):
    told = {"uri": uri, "cfg": Config()}
    exec(compile(path.with_suffix(".py").read_text(), str(path), "exec"), told)
    data = path.read_bytes().replace(b"\n", b"")
    for written, meant in ((rb"\r\n", b"\r\n"), (rb"\0", b"\0"), (rb"\n", b"\n"), (rb"\t", b"\t")):
        data = data.replace(written, meant)
    return Case(f"{path.parent.name}/{path.stem}", data, told["cfg"], told["request"])


@pytest.fixture(scope="module")
def corpus():
    """The files, out of gunicorn's source archive, by kind."""
    python = next(path for path in (ROOT / ".venv/bin/python", Path(sys.executable)) if path.exists())
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--requirement", Path(__file__).with_name("corpus.txt"), "--dest", FOLDER]
    if not list(FOLDER.glob("*.tar.gz")):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    with tarfile.open(next(FOLDER.glob("*.tar.gz"))) as archive:
        archive.extractall(FOLDER, filter="data")
    kinds = {
        kind: [case(path) for path in sorted(FOLDER.glob(f"*/tests/requests/{kind}/*.http"))]
        for kind in ("valid", "invalid")
    }
    assert all(len(cases) > 30 for cases in kinds.values())
    return SimpleNamespace(**kinds)


def test_valid_requests_are_read_as_the_corpus_says(corpus):
    read = 0
    for case in corpus.valid:
        _, request = read_here(case.data, case.cfg, "stranger")
        if request is None:
            continue
        first = case.expected[0] if isinstance(case.expected, list) else case.expected
        got = {name: getattr(request, name) for name in ("method", "version", "headers")}
        got |= {"uri": uri(request.uri), "body": request.body.read()}
        wanted = {name: first[name] for name in got}
        wanted["uri"] = {name: first["uri"][name] for name in got["uri"]}
        assert got == wanted, case.name
        read += 1
    assert read > 5


def test_no_invalid_request_is_read_without_gunicorn(corpus):
    for case in corpus.invalid:
        assert read_here(case.data, case.cfg, "stranger")[1] is None, case.name


def test_every_request_is_read_as_gunicorn_reads_it(corpus):
    for case in [*corpus.valid, *corpus.invalid]:
        compare(case.data, case.cfg, "stranger")


def test_worker_answers_every_request_as_gunicorns_own_does(corpus):
    with Gunicorn(OURS, "wsgi_apps:app") as ours, Gunicorn(STOCK, "wsgi_apps:app") as stock:
        for case in [*corpus.valid, *corpus.invalid]:
            for pieces in ([case.data], [case.data[:7], case.data[7:]]):
                said = answers((ours, stock), pieces)
                assert said[0] == said[1], case.name
