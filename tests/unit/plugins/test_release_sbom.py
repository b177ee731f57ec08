"""A release says what it is made of, in a form that other tools read, and is built with nothing unknown."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.release_archive import sha256_file
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from release_workshop import contents, refused, sdist, wheel, write

LICENCES = {
    "License-Expression: MIT OR Apache-2.0\nLicense: ignored\n": [{"expression": "MIT OR Apache-2.0"}],
    "License: BSD-3-Clause\n": [{"license": {"name": "BSD-3-Clause"}}],
    "License: Copyright\n  its whole text\nClassifier: License :: OSI Approved :: MIT License\n": [
        {"license": {"name": "MIT License"}}
    ],
    "": None,
}


def bill_of(built) -> str:
    return contents(built["release_archive"])["sbom.cdx.json"].decode()


def component(text: str, name: str) -> dict:
    (found,) = (one for one in json.loads(text)["components"] if one["name"] == name)
    return found


def test_bill_names_every_wheel_and_fits_the_schema(shop):
    built = shop.build()
    text = bill_of(built)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = Bom.from_json(json.loads(text))
    assert bom.metadata.component.version == built["id"]
    assert sorted(one.name for one in bom.components) == ["dep", "inbox", "ops"]
    dep = component(text, "dep")
    assert dep["purl"] == "pkg:pypi/dep@1.0"
    digest = sha256_file(shop.index / "dep-1.0-py3-none-any.whl")
    assert dep["hashes"] == [{"alg": "SHA-256", "content": digest}]
    # Somebody else's package of that name would be taken for it.
    assert "purl" not in component(text, "inbox")


def test_schema_refuses_what_is_no_bill(shop):
    text = bill_of(shop.build()).replace("SHA-256", "SHA-255")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is not None


def test_same_content_gives_the_same_bytes(shop, tmp_path):
    first = shop.build()
    known = [{"id": first["id"], "digest": first["digest"]}]
    again = shop.build(cache_dir=str(tmp_path / "another"), known_releases=known)
    assert again["release_archive"] != first["release_archive"]
    assert bill_of(again) == bill_of(first)


@pytest.mark.parametrize("headers", LICENCES)
def test_licences_are_what_the_wheel_says(shop, headers):
    shop.lock.write_text(f"dep==1.0 {wheel(shop.index, 'dep', headers=headers)}\n")
    text = bill_of(shop.build())
    assert component(text, "dep").get("licenses") == LICENCES[headers]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_project_is_built_with_nothing_unhashed(shop, monkeypatch):
    odd = {
        "pyproject.toml": '[project]\nname = "odd"\nversion = "1.0"\n'
        '[build-system]\nrequires = ["unvouched"]\nbuild-backend = "unvouched"\n',
        "src/odd/__init__.py": "",
    }
    write(shop.path / "odd", odd)
    wheel(shop.index, "unvouched")
    monkeypatch.setenv("UV_FIND_LINKS", str(shop.index))
    told = refused(shop.build, local_packages=[str(shop.ops), str(shop.path / "odd")])
    # As one line: uv breaks its own where the folder's path is long.
    assert "no trusted hash was provided for: `unvouched`" in " ".join(told.split())
    assert "app_build_lock" in told


def test_sdist_is_built_with_nothing_but_the_build_lock(shop):
    hashed = sdist(shop.index, "dep2", "py3-none-any", requires=["unvouched"])
    wheel(shop.index, "unvouched")
    shop.lock.write_text(shop.lock.read_text() + f"dep2==1.0 {hashed}\n")
    told = refused(shop.build)
    assert "unvouched" in told
    assert "app_build_lock" in told


def test_build_lock_without_hashes_is_refused_before_anything_is_built(shop, tmp_path):
    lock = tmp_path / "build.txt"
    lock.write_text("setuptools==84.0\n")
    assert "setuptools has no hash" in refused(shop.build, state="check", build_lock=str(lock))
