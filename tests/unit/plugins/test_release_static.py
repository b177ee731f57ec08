"""release_build's static files: a name for each content, compressed once, the app's own unchanged."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import zlib

import pytest
from ansible.module_utils.release_static import MANIFEST, hashed_name, prepared
from ansible_project import ROOT
from release_workshop import contents, write

TEXT = b"a { color: red }\n" * 100


def noise(length: int) -> bytes:
    """Return bytes that nothing compresses, the same each time."""
    return random.Random(7).randbytes(length)


def manifest(files: dict[str, bytes]) -> dict[str, str]:
    return json.loads(files[MANIFEST])


def copy_of(files: dict[str, bytes], name: str) -> bytes:
    return files[manifest(files)[name]]


def test_each_file_has_its_own_name_and_one_with_its_hash():
    given = {"inbox.css": b"a{}", "deep/x.min.js": b"x", "icon.png": noise(99), "LICENSE": b"words"}
    made = prepared(given)
    assert {name: made[name] for name in given} == given
    for name, content in given.items():
        digest = hashlib.sha256(content).hexdigest()[:12]
        assert digest in manifest(made)[name]
        assert copy_of(made, name) == content
    assert re.fullmatch(r"deep/x\.min\.[0-9a-f]{12}\.js", manifest(made)["deep/x.min.js"])
    assert re.fullmatch(r"LICENSE\.[0-9a-f]{12}", manifest(made)["LICENSE"])
    assert set(made) == {*given, *manifest(made).values(), MANIFEST}


def test_text_is_compressed_beside_both_names_where_it_pays():
    made = prepared({"long.css": TEXT, "short.css": b"a{}", "noise.js": noise(4000), "text.png": TEXT})
    packed = {name for name in made if name.endswith(".gz")}
    assert packed == {"long.css.gz", f"{manifest(made)['long.css']}.gz"}
    for name in packed:
        assert gzip.decompress(made[name]) == made[name.removesuffix(".gz")] == TEXT
        # RFC 1952: no time, no file name.
        assert made[name][3:8] == bytes(5)


def test_a_tenth_is_the_least_that_pays():
    saves_less, saves_more = noise(2000) + b"x" * 200, noise(2000) + b"x" * 320
    sizes = [len(zlib.compress(body, 9, wbits=31)) / len(body) for body in (saves_less, saves_more)]
    assert 0.9 < sizes[0] < 0.95
    assert 0.85 < sizes[1] < 0.9
    made = prepared({"less.txt": saves_less, "more.txt": saves_more})
    assert "less.txt.gz" not in made
    assert "more.txt.gz" in made


def test_same_files_in_any_order_give_the_same_bytes():
    given = {"a.css": b"@import 'b.css';" + TEXT, "b.css": b"@import 'a.css';", "c.js": TEXT}
    assert prepared(given) == prepared(dict(reversed(given.items())))


@pytest.mark.parametrize(
    ("written", "rewritten"),
    [
        ("url(../img/x.svg)", "url(../img/{x})"),
        ('url( "../img/x.svg" )', 'url( "../img/{x}" )'),
        ("URL('../img/x.svg#part')", "URL('../img/{x}#part')"),
        ("url(../img/x.svg?#iefix)", "url(../img/{x}?#iefix)"),
        ("url(/static/img/x.svg)", "url(/static/img/{x})"),
        ("url(./../css/../img/x.svg)", "url(./../css/../img/{x})"),
        ('url("../img/a b.svg")', 'url("../img/{ab}")'),
        ("url(../img/a%20b.svg)", "url(../img/{ab})"),
        ('@import "other.css" print;', '@import "{other}" print;'),
        ("@import url(other.css);", "@import url({other});"),
        ("url(../img/x.svg), url(../img/x.svg)", "url(../img/{x}), url(../img/{x})"),
    ],
)
def test_copy_of_a_style_sheet_asks_for_copies(written, rewritten):
    given = {"css/a.css": written.encode(), "css/other.css": b"b{}"}
    given |= {"img/x.svg": b"<svg/>", "img/a b.svg": b"<svg></svg>"}
    made = prepared(given)
    names = {
        "x": manifest(made)["img/x.svg"].removeprefix("img/"),
        "ab": manifest(made)["img/a b.svg"].removeprefix("img/").replace(" ", "%20"),
        "other": manifest(made)["css/other.css"].removeprefix("css/"),
    }
    assert copy_of(made, "css/a.css").decode() == rewritten.format(**names)
    assert made["css/a.css"] == written.encode()


@pytest.mark.parametrize(
    "written",
    [
        "url(../img/absent.svg)",
        "url(../../img/x.svg)",
        "url(data:image/svg+xml;base64,AAAA)",
        "url(https://example.org/static/img/x.svg)",
        "url(//example.org/static/img/x.svg)",
        "url(#gradient)",
        "url()",
        "url(../img/)",
        "url(\\2e ./img/x.svg)",
        "curl(../img/x.svg)",
        "/*# sourceMappingURL=a.css.map */",
        "src: local('../img/x.svg')",
    ],
)
def test_reference_to_no_file_of_the_tree_stays_as_it_is(written):
    given = {"css/a.css": written.encode(), "img/x.svg": b"<svg/>", "css/a.css.map": b"{}"}
    assert copy_of(prepared(given), "css/a.css") == written.encode()


def test_name_of_a_style_sheet_changes_with_what_it_asks_for_at_any_depth():
    def names(icon: bytes) -> dict[str, str]:
        given = {"a.css": b"@import 'm.css';", "m.css": b"@import 'z.css';", "z.css": b"url(i.svg)"}
        return manifest(prepared({**given, "i.svg": icon, "apart.css": b"b{}"}))

    before, after = names(b"<svg/>"), names(b"<svg></svg>")
    assert {name for name in before if before[name] != after[name]} == {"a.css", "m.css", "z.css", "i.svg"}


def test_cycle_of_style_sheets_ends_at_a_plain_name_that_is_there():
    made = prepared({"a.css": b"@import 'b.css';", "b.css": b"@import 'a.css';", "c.css": b"url(c.css)"})
    assert copy_of(made, "b.css") == b"@import 'a.css';"
    assert copy_of(made, "a.css") == f"@import '{manifest(made)['b.css']}';".encode()
    assert copy_of(made, "c.css") == b"url(c.css)"


def test_style_sheet_in_no_known_encoding_is_kept_byte_for_byte():
    made = prepared({"a.css": b"\xff\xfe url(x.svg) \xe4\r\n", "x.svg": b"<svg/>"})
    name = manifest(made)["x.svg"].encode()
    assert copy_of(made, "a.css") == b"\xff\xfe url(" + name + b") \xe4\r\n"


@pytest.mark.parametrize(
    "name",
    [
        "a.js.map", ".htaccess", ".vite/manifest.json", "main.8f3a2b1c.js", "chunk-0a1b2c3d4e5f.min.css",
        "base.8f3a2b1c9d0e.css",
    ],
)  # fmt: skip
def test_file_that_needs_no_other_name_gets_none(name):
    made = prepared({name: b"x"})
    assert made == {name: b"x", MANIFEST: b"{}\n"}


@pytest.mark.parametrize("name", ["report.202601011200.csv", "feedface.css", "x-deadbeef.js", "v1.2.3.js"])
def test_file_that_only_seems_to_have_a_hash_gets_one(name):
    assert manifest(prepared({name: b"x"}))[name] == hashed_name(name, b"x")


def test_nginx_knows_a_hashed_name_from_any_other():
    text = (ROOT / "nginx/conf.d/static.conf").read_text()
    (pattern,) = re.findall(r'^\s*"~(\S+)"', text, re.MULTILINE)
    hashed = [f"/current/static/{hashed_name(name, b'inbox')}" for name in ("a.css", "b/c.min.js", "LICENSE")]
    assert all(re.search(pattern, name) for name in hashed), hashed
    others = ["a.css", "a.deadbeeffeed.css", "a.8f3a2b1c.js", "x.8f3a2b1c9d0e/a.css"]
    for name in [*others, "report.202601011200.csv"]:
        assert not re.search(pattern, f"/current/static/{name}"), name


def test_compressed_file_of_the_apps_own_is_kept_and_not_made_again():
    own = gzip.compress(TEXT, 1, mtime=5)
    made = prepared({"a.css": TEXT, "a.css.gz": own, "alone.gz": own, "a.css.br": b"brotli"})
    assert (made["a.css.gz"], made["alone.gz"], made["a.css.br"]) == (own, own, b"brotli")
    assert set(manifest(made)) == {"a.css", "alone.gz"}
    assert f"{manifest(made)['a.css']}.gz" in made


# Of a fixed time: what a test is called must be the same in each process that runs some of them.
@pytest.mark.parametrize("stale", [gzip.compress(TEXT[:-1], mtime=5), b"no gzip", b""])
def test_compressed_file_that_is_of_something_else_is_left_to_the_app(stale):
    made = prepared({"a.css": TEXT, "a.css.gz": stale})
    # nginx would answer with it whoever asks for a.css.
    assert set(made) == {"a.css", manifest(made)["a.css"], f"{manifest(made)['a.css']}.gz", MANIFEST}


def test_manifest_of_the_apps_own_stays_and_leaves_all_names_alone(warm):
    files = {"manifest.json": '{"name": "Inbox"}', "a.css": TEXT.decode()}
    write(warm.source / "src/inbox/static", files)
    built = warm.build()
    release = contents(built["release_archive"])
    assert release["static/manifest.json"].decode() == files["manifest.json"]
    names = {name for name in release if name.startswith("static/")}
    assert names == {"static/manifest.json", "static/a.css", "static/a.css.gz", "static/deep/b.js"}
    assert b"RELEASE_STATIC_DIR" not in release["release.env"]
    assert "manifest.json of its own" in built["warnings"][0]


def test_units_are_told_where_the_files_will_lie(warm):
    built = warm.build()
    release = contents(built["release_archive"])
    assert f'RELEASE_STATIC_DIR="/srv/inbox/releases/{built["id"]}/static"' in release["release.env"].decode()
    assert "warnings" not in built
    assert manifest({MANIFEST: release["static/manifest.json"]})["a.css"] == "a.5f546eb4606b.css"
    bare = contents(warm.build(static_dir="")["release_archive"])
    assert b"RELEASE_STATIC_DIR" not in bare["release.env"]


def test_changed_file_is_another_release_and_the_same_files_are_the_same(warm):
    first = warm.build()
    assert warm.build()["id"] == first["id"]
    write(warm.source, {"src/inbox/static/a.css": "b{}"})
    assert warm.build()["digest"] != first["digest"]
