"""What a release says of its schema: read from the files of its migrations, which nobody runs for that."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.release_migrations import Unclear, carried
from ansible.module_utils.release_source import Refused
from release_workshop import contents, refused, write

FOLDER = "src/inbox/migrations"


def files(**revisions):
    """Return a folder of migrations; each revision is the text of its file."""
    found = {f"m/versions/{name}.py": text for name, text in revisions.items()}
    return {"m/env.py": "", **found}


def revision(name, down=None, more=""):
    return f"revision = {name!r}\ndown_revision = {down!r}\n{more}\ndef upgrade():\n    import nowhere\n"


def names(found):
    return [one["revision"] for one in found["revisions"]]


def test_release_without_migrations_has_none():
    assert carried({"inbox/__init__.py": "", "inbox/env.py": "", "inbox/versions/x.py": "revision = 'x'"})
    assert carried({"inbox/__init__.py": "", "inbox/env.py": ""}) is None
    assert carried({"inbox/versions/x.py": "revision = 'x'"}) is None, "nothing runs them"
    assert carried({"m/env.py": "", "m/versions/__init__.py": ""}) is None


def test_revisions_stand_in_the_order_they_are_applied_in():
    found = carried(files(a=revision("r3", "r2"), b=revision("r1"), c=revision("r2", "r1")))
    assert names(found) == ["r1", "r2", "r3"]
    assert found["heads"] == ["r3"]
    assert found["revisions"][2] == {"revision": "r3", "down": ["r2"], "contract": False}


def test_branches_merges_and_dependencies_are_followed():
    found = carried(
        files(
            a=revision("base"),
            b=revision("left", "base"),
            c=revision("right", "base", "depends_on = 'left'"),
            d=revision("other"),
        )
    )
    assert found["heads"] == ["other", "right"], "what something stands on is no head"
    assert found["revisions"][-1]["down"] == ["base", "left"]
    merged = carried(
        files(
            a=revision("x"),
            b=revision("y", "x"),
            c=revision("z", "x"),
            d=revision("m", ("y", "z")),
        )
    )
    assert (merged["heads"], names(merged)[0], names(merged)[-1]) == (["m"], "x", "m")


def test_annotated_names_of_newer_templates_are_read():
    text = "revision: str = 'r2'\ndown_revision: str | None = 'r1'\ncontract: bool = True\n"
    found = carried(files(a=revision("r1"), b=text))
    assert found["revisions"][1] == {"revision": "r2", "down": ["r1"], "contract": True}


@pytest.mark.parametrize("value", ["1", "'yes'", "None", "bool(1)"])
def test_contract_that_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(Refused, match=r"m/versions/a\.py: `contract` is neither True nor False"):
        carried(files(a=revision("r1", None, f"contract = {value}")))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (files(a="revision = make()\n"), "does not name its revision"),
        (files(a=revision("r2", "r1")), "stands on r1, which is none of the files"),
        (files(a=revision("r1", "r2"), b=revision("r2", "r1")), "stand on each other"),
        (files(a=revision("r1"), b=revision("r1")), "two files have one revision"),
        (files(a="def"), "cannot be read"),
        (
            {**files(a=revision("r1")), "n/env.py": "", "n/versions/b.py": revision("r1")},
            "several folders of migrations (m/, n/)",
        ),
    ],
)
def test_what_only_alembic_could_tell_is_unclear(given, words):
    with pytest.raises(Unclear) as caught:
        carried(given)
    assert words in str(caught.value)


def described(built):
    return json.loads(contents(built["release_archive"])["release.json"])["migrations"]


def test_release_says_which_revisions_its_wheel_carries(warm):
    assert described(warm.build()) is None
    write(
        warm.source,
        {
            f"{FOLDER}/env.py": "raise SystemExit('nobody runs this')\n",
            f"{FOLDER}/versions/1_first.py": revision("r1"),
            f"{FOLDER}/versions/2_second.py": revision("r2", "r1", "contract = True"),
        },
    )
    told = described(warm.build())
    assert told["heads"] == ["r2"]
    assert [one["contract"] for one in told["revisions"]] == [False, True]


def test_release_whose_revisions_are_unclear_is_built_with_a_warning(warm):
    write(warm.source, {f"{FOLDER}/env.py": "", f"{FOLDER}/versions/1.py": revision("r2", "r1")})
    built = warm.build()
    assert described(built) is None
    assert "the release's schema is not known" in built["warnings"][0]
    assert "r2 stands on r1" in built["warnings"][0]


def test_release_with_a_contract_that_cannot_be_read_is_not_built(warm):
    write(
        warm.source,
        {f"{FOLDER}/env.py": "", f"{FOLDER}/versions/1.py": revision("r1", None, "contract = 'yes'")},
    )
    assert "`contract` is neither True nor False" in refused(warm.build)
