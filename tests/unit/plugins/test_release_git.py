"""release_build with an app from a git repository: the ref that was asked for, and nothing that asks back."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address

import pytest
from ansible.module_utils.release_git import Repository, check_out_submodule, submodule_url
from ansible.module_utils.release_origin import GitOrigin, PackageOrigin, parse_origin
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from release_workshop import contents, git, refused, write


@pytest.fixture
def forge(warm):
    """A workshop whose project is in a repository, with a tag `v1.4` and a branch `next` ahead of it."""
    warm.first = warm.commit()
    git(warm.source, "branch", "-M", "main")
    git(warm.source, "tag", "-am", "x", "v1.4")
    git(warm.source, "checkout", "-qb", "next")
    write(warm.source, {"src/inbox/static/a.css": "b{}"})
    warm.second = warm.commit()
    git(warm.source, "checkout", "-q", "main")
    return warm


def source(shop, ref: str = "", fragment: str = "") -> str:
    url = f"git+{shop.source.as_uri()}"
    return url + (f"@{ref}" if ref else "") + (f"#{fragment}" if fragment else "")


def test_tag_branch_commit_and_default_branch_are_built_as_they_are_there(forge):
    write(forge.source, {"src/inbox/static/a.css": "not committed"})
    wanted = {
        "v1.4": (forge.first, "v1.4"),
        "next": (forge.second, "next"),
        "": (forge.first, "main"),
        "refs/heads/next": (forge.second, "next"),
        forge.second: (forge.second, ""),
        forge.first[:10]: (forge.first, ""),
    }
    for ref, (revision, name) in wanted.items():
        built = forge.build(source=source(forge, ref))
        assert (built["revision"], built["ref"], built["dirty"]) == (revision, name, False)
        css = b"b{}" if revision == forge.second else b"a{}"
        release = contents(built["release_archive"])
        assert release["static/a.css"] == css
    assert built["kind"] == "package"
    assert json.loads(release["release.json"])["revision"] == forge.first


def test_same_content_is_the_same_release_from_a_folder_and_from_its_repository(forge):
    assert forge.build(source=source(forge, "main"))["id"] == forge.build()["id"]


def test_branch_that_moved_or_was_rewritten_is_fetched_at_each_build(forge):
    forge.build(source=source(forge, "next"))
    git(forge.source, "checkout", "-q", "next")
    git(forge.source, "reset", "-q", "--hard", forge.first)
    write(forge.source, {"src/inbox/static/a.css": "c{}"})
    third = forge.commit()
    assert forge.build(source=source(forge, "next"))["revision"] == third


@pytest.mark.parametrize("ref", ["main", ""])
def test_branch_that_moves_during_a_run_is_the_same_for_every_host(forge, ref):
    since = time.time()
    first = forge.build(source=source(forge, ref), since=since)
    git(forge.source, "reset", "-q", "--hard", forge.second)
    other = {"python_version": "3.11", "glibc": "2.36"}
    assert forge.build(source=source(forge, ref), since=since, **other)["revision"] == first["revision"]
    later = forge.build(source=source(forge, ref), since=time.time() + 1)
    assert later["revision"] == forge.second


def test_commit_that_was_built_before_needs_no_repository_and_neither_does_its_submodule(forge):
    origin = source(forge, with_submodule(forge))
    first = forge.build(source=origin)
    forge.source.rename(forge.path / "gone")
    (forge.path / "parts").rename(forge.path / "gone too")
    second = forge.build(source=origin)
    assert (second["id"], second["changed"]) == (first["id"], False)
    assert "not appear to be a git repository" in refused(forge.build, source=source(forge, "main"))


def with_submodule(forge) -> str:
    """Give the project a submodule, named relative to it, and return the commit."""
    parts = write(forge.path / "parts", {"b.js": "of the submodule"})
    forge.commit(parts)
    git(forge.source, "submodule", "--quiet", "add", "../parts", "src/inbox/static/parts")
    git(forge.source, "config", "--file", ".gitmodules", "submodule.src/inbox/static/parts.url", "../parts")
    return forge.commit()


def test_submodule_is_taken_at_its_commit(forge):
    commit = with_submodule(forge)
    write(forge.path / "parts", {"b.js": "newer"})
    forge.commit(forge.path / "parts")
    release = contents(forge.build(source=source(forge, commit))["release_archive"])
    assert release["static/parts/b.js"] == b"of the submodule"


def test_folder_inside_a_repository_can_be_the_project(forge):
    git(forge.source, "checkout", "-q", "--orphan", "deep")
    (forge.source / "backend").mkdir()
    git(forge.source, "mv", "-k", "src", "pyproject.toml", "backend")
    forge.commit()
    built = forge.build(source=source(forge, "deep", "subdirectory=backend"))
    assert built["id"] == forge.build(source=source(forge, "main"))["id"]
    message = refused(forge.build, source=source(forge, "deep", "subdirectory=backendd"))
    assert "did you mean `backend`" in message


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("v1.5", "has no branch, tag or commit `v1.5`; did you mean `v1.4`?"),
        ("zzz", "; it has main, next, v1.4"),
        ("deadbeef", "has no branch, tag or commit `deadbeef`"),
        ("0" * 40, "does not have this commit"),
        ("both", "write refs/tags/both or refs/heads/both"),
        ("--upload-pack=touch", "cannot be a tag, a branch or a commit"),
        ("main:refs/x", "cannot be a tag, a branch or a commit"),
        ("main..next", "cannot be a tag, a branch or a commit"),
    ],
)
def test_ref_that_is_not_there_is_refused_with_the_source_and_near_ones(forge, ref, words):
    if ref == "both":
        git(forge.source, "branch", "both", "main")
        git(forge.source, "tag", "both", "next")
    message = refused(forge.build, state="check", source=source(forge, ref))
    assert f"`{source(forge, ref)}`" in message
    assert words in message


def test_other_refs_are_fetched_by_their_full_name(forge):
    git(forge.source, "update-ref", "refs/pull/7/head", forge.second)
    built = forge.build(source=source(forge, "refs/pull/7/head"))
    assert (built["revision"], built["ref"]) == (forge.second, "refs/pull/7/head")


def test_repository_without_a_commit_is_refused(warm):
    git(warm.ops, "init", "-q")
    assert "has no commit" in refused(warm.build, source=f"git+{warm.ops.as_uri()}", state="check")


def test_link_that_leads_out_of_a_repository_is_never_followed(forge):
    (forge.source / "src/inbox/static/etc").symlink_to("/etc")
    message = refused(forge.build, source=source(forge, forge.commit()), state="check")
    assert "lead out of it: src/inbox/static/etc" in message


def test_version_of_a_project_that_takes_it_from_git_is_the_tags(forge):
    git(forge.source, "checkout", "-q", "next")
    write(
        forge.source,
        {
            "pyproject.toml": '[project]\nname = "inbox"\ndynamic = ["version"]\n'
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": SCM_BACKEND,
        },
    )
    forge.commit()
    release = contents(forge.build(source=source(forge, "next"), static_dir="")["release_archive"])
    assert "wheels/inbox-1.4-py3-none-any.whl" in release


SCM_BACKEND = """
import os, zipfile
def build_wheel(folder, settings=None, metadata=None):
    version = os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"]
    name, info = f"inbox-{version}-py3-none-any.whl", f"inbox-{version}.dist-info"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as archive:
        archive.writestr("inbox/wsgi.py", "app = 1")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: inbox\\nVersion: {version}\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", "")
    return name
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://host/shop.git", "written `git+https://host/shop.git`"),
        ("git@host:shop.git", "write `git+ssh://git@host/shop.git`"),
        ("git+git@host:shop.git", "write `git+ssh://git@host/shop.git`"),
        ("git+http://host/shop.git", "use https or ssh"),
        ("git+https:///shop.git", "wanted is `git+https://host/path/shop.git`"),
        ("git+ssh://-oProxyCommand=x/shop.git", "wanted is `git+ssh://host/path/shop.git`"),
        ("git+https://host/shop.git@", "cannot be a tag"),
        ("git+https://host/shop.git#folder=x", "of `#folder` nothing is known"),
        ("git+https://host/shop.git#subdirectory=../x", "leads out of the repository"),
        ("git+https://me:word@host/shop.git@v1", "credential helper"),
        ("git+https://word@host/shop.git", "credential helper"),
        ("git+https://host/shop.git?token=word", "credential helper"),
        ("git+ssh://git:word@host/shop.git", "credential helper"),
    ],
)
def test_form_that_is_none_of_the_three_is_refused_with_the_right_one(warm, given, words):
    message = refused(warm.build, source=given, state="check")
    assert words in message
    assert "word@" not in message


def test_form_alone_tells_what_a_source_is(monkeypatch):
    ssh = "ssh://git@host:2222/a/shop.git"
    assert parse_origin(f"git+{ssh}@feature/%2312#subdirectory=a/b") == GitOrigin(ssh, "feature/#12", "a/b")
    assert parse_origin("git+https://host/shop.git") == GitOrigin("https://host/shop.git")
    assert parse_origin("pypi:Shop_A[x]>=1") == PackageOrigin("Shop_A[x]>=1")
    assert parse_origin("pypi:Shop_A").package == "shop-a"
    monkeypatch.setenv("HOME", "/home/me")
    assert str(parse_origin("~/shop")) == "/home/me/shop"
    assert [parse_origin(f"pypi:a{spec}").is_exact for spec in ("==1", "===1", "==1.*", ">=1", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_password_in_a_url_reaches_no_output_of_the_task(project, warm):
    params = warm.params(source="git+https://me:planted@host.invalid/shop.git", state="check")
    run = project.play([{"name": "Build", "release_build": params, "delegate_to": "localhost"}], "-vvvv")
    assert "credential helper" in run.last["msg"]
    assert "planted" not in run.output


def test_submodules_address_is_judged_as_the_projects_is(tmp_path):
    parent = Repository("https://host/a/shop.git", tmp_path)
    for url, words in (
        ("/srv/secret.git", "no repository elsewhere may choose"),
        ("https://me:word@host/x.git", "credential helper"),
        ("git://host/x.git", "use https or ssh"),
        ("ext::sh -c x", "use https or ssh"),
    ):
        message = refused(check_out_submodule, parent, url, "0" * 40, tmp_path / "x", tmp_path)
        assert words in message
        assert "word@" not in message
    assert submodule_url(parent.url, "../parts.git") == "https://host/a/parts.git"
    assert submodule_url(parent.url, "git@host:b/parts.git") == "ssh://git@host/b/parts.git"


class Unauthorised(BaseHTTPRequestHandler):
    """Asks everybody for a password."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def unauthorised(tmp_path):
    """The address of an https server that asks everybody for a password."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(pem, *plain))
    (tmp_path / "certificate").write_bytes(certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server = HTTPServer(("127.0.0.1", 0), Unauthorised)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/shop.git"
    server.shutdown()
    server.server_close()


def test_repository_that_wants_a_password_is_refused_and_nobody_is_asked(
    warm, unauthorised, monkeypatch, tmp_path
):
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "certificate"))
    message = refused(warm.build, source=f"git+{unauthorised}@main", state="check")
    assert unauthorised in message
    assert "credential helper" in message


def test_ssh_is_told_to_ask_nobody_and_its_reason_is_passed_on(warm, monkeypatch, tmp_path):
    ssh = write(
        tmp_path,
        {"ssh": f'#!/bin/sh\necho "$@" >> {tmp_path}/words\necho "Permission denied" >&2\nexit 255\n'},
    )
    (ssh / "ssh").chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh / "ssh"))
    message = refused(warm.build, source="git+ssh://git@host.invalid/shop.git@main", state="check")
    assert "failed: Permission denied. Give the user who runs Ansible an ssh key" in message
    assert "-oBatchMode=yes" in (tmp_path / "words").read_text()


def test_repository_out_of_reach_is_refused_with_gits_own_words(warm):
    message = refused(warm.build, source="git+https://127.0.0.1:9/shop.git@main", state="check")
    assert "git fetch of https://127.0.0.1:9/shop.git failed: fatal: unable to access" in message
    assert "Try again when the network is back" in message
