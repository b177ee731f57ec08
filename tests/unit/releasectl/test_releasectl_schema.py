"""What releases know of the schema: what `migrate` may leave out, and where a rollback may not go."""

import json

import pytest
from releasectl import probe, schema

UPGRADE = "flask db upgrade"
ASK = """#!/bin/sh
echo "$@" >> {base}/asked
test -e {base}/database.json || exit 1
echo "{{\\"heads\\": $(cat {base}/database.json)}}"
"""


def chain(*names):
    """Return a history in a line; `-name` contracts."""
    plain = [name.strip("-") for name in names]
    return {
        "heads": plain[-1:],
        "revisions": [
            {"revision": name, "down": plain[:index][-1:], "contract": names[index].startswith("-")}
            for index, name in enumerate(plain)
        ],
    }


class Schemas:
    """Releases with migrations, and a database that says where it is."""

    def __init__(self, site):
        self.site = site
        program = site.systemd.folder / "systemd-run"
        program.write_text(ASK.format(base=site.base))
        program.chmod(0o755)

    def put(self, number, migrations="none told", migrate=UPGRADE, **behaviour):
        release_id = self.site.put(number, behaviour or None, migrate=migrate)
        path = self.site.layout.release(release_id) / "release.json"
        told = json.loads(path.read_text())
        if migrations != "none told":
            path.write_text(json.dumps({**told, "migrations": migrations}))
        return release_id

    def at(self, *heads, instance=True):
        """Let the database be at these revisions; the active instance may be too busy to say so."""
        (self.site.base / "database.json").write_text(json.dumps(heads))
        if instance:
            (self.site.root / "heads.json").write_text(json.dumps(heads))

    @property
    def asked(self):
        path = self.site.base / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if "flask_ops.schema" in line]

    def started(self, kind="migrate"):
        calls = self.site.systemd.calls
        return [
            words[2] for words in calls if words[:2] == ["systemctl", "start"] and f"-{kind}@" in words[2]
        ]

    def migrated(self, release_id):
        assert self.site.ok("migrate", release_id)["result"] == "migrated"

    def serve(self, *releases):
        """Let releases be served one after the other, the last with its command done."""
        self.site.serve(*releases)
        self.migrated(releases[-1])


@pytest.fixture
def schemas(apphost):
    return Schemas(apphost)


def refused(run, *words):
    assert run.code == 5, run.out + run.err
    for each in words:
        assert each in run.error["cause"], run.error
    return run.error


# What `migrate` leaves out


def test_migration_that_has_succeeded_and_is_there_is_not_started_again(apphost, schemas):
    first, second = schemas.put(1, chain("a", "b")), schemas.put(2, chain("a", "b"))
    schemas.serve(first)
    schemas.migrated(first)
    assert len(schemas.started()) == 2, "what nobody tells is looked up by the command itself"
    schemas.at("b")
    asked = schemas.asked
    told = apphost.ok("migrate", second)
    assert (told["result"], told["changed"]) == ("nothing to migrate", False)
    assert len(schemas.started()) == 2
    assert schemas.asked == asked, "the active instance tells it, and nothing is started for it"


@pytest.mark.parametrize(
    "different",
    [{"migrate": "flask prepare"}, {"migrations": chain("a", "c")}, {"migrations": None}],
)
def test_migration_is_started_where_command_or_revisions_are_others(apphost, schemas, different):
    schemas.serve(schemas.put(1, chain("a", "b")))
    schemas.at("b")
    schemas.migrated(schemas.put(2, **{"migrations": chain("a", "b"), **different}))


@pytest.mark.parametrize("heads", [["a"], [], ["z"]])
def test_migration_is_started_where_the_database_lacks_something_or_is_strange(apphost, schemas, heads):
    schemas.serve(schemas.put(1, chain("a", "b")))
    schemas.at(*heads)
    schemas.migrated(schemas.put(2, chain("a", "b")))


def test_failed_migration_counts_for_nothing(apphost, schemas):
    first = schemas.put(1, chain("a", "b"), migrate_fails=True)
    assert apphost.run("migrate", first).code == 2
    apphost.systemd.do_start([f"inbox-web@{first}.service"])
    apphost.layout.switch_to(first)
    schemas.at("b")
    schemas.migrated(schemas.put(2, chain("a", "b")))


def test_migration_that_was_never_run_is_started_though_the_database_has_all(apphost, schemas):
    """It may do more than bring the schema up to date."""
    apphost.serve(schemas.put(1, chain("a", "-b")))
    schemas.at("b")
    schemas.migrated(schemas.put(2, chain("a", "-b")))


def test_migration_that_does_more_can_be_had_every_time(apphost, schemas):
    apphost.configure(migrate_skip=False)
    schemas.serve(schemas.put(1, chain("a", "b")))
    schemas.at("b")
    schemas.migrated(schemas.put(2, chain("a", "b")))


def test_database_that_is_ahead_needs_no_migration(apphost, schemas):
    """After a rollback the newer revisions stay, and the command of an older release would not know them."""
    schemas.put(2, chain("a", "b", "c"))
    schemas.serve(schemas.put(1, chain("a", "b")))
    schemas.at("c")
    assert apphost.ok("migrate", schemas.put(3, chain("a", "b")))["result"] == "nothing to migrate"


def test_waits_for_locks_are_told(apphost, schemas):
    line = {"event": "the migration waits for a lock", "attempt": 1, "attempts": 5, "blocked_by": "pid 7 (x)"}
    told = apphost.ok("migrate", schemas.put(1, chain("a"), migrate_output=json.dumps(line)))
    assert told["waits"] == ["attempt 1 of 5 waited for pid 7 (x)"]


def test_migration_that_gave_up_on_a_lock_says_who_has_it(apphost, schemas):
    lines = [
        {"event": f"the migration {verb} a lock", "attempt": number, "attempts": 5, "blocked_by": "pid 7 (x)"}
        for verb, number in (("waits for", 4), ("gave up on", 5))
    ]
    output = "\n".join(["Context impl PostgresqlImpl.", *map(json.dumps, lines)])
    release_id = schemas.put(1, chain("a"), migrate_fails=True, migrate_status=75, migrate_output=output)
    run = apphost.run("migrate", release_id)
    assert run.code == 2
    assert "gave up on a lock; attempt 5 of 5 waited for pid 7 (x)" in run.error["cause"]
    assert run.error["remarks"] == ["attempt 4 of 5 waited for pid 7 (x)"]


# What contracts


def test_migrate_leaves_what_contracts_and_says_so(apphost, schemas):
    schemas.serve(schemas.put(1, chain("a")))
    schemas.at("a")
    told = apphost.ok("migrate", schemas.put(2, chain("a", "b", "-c")))
    assert (told["result"], told["contract_pending"]) == ("migrated", ["c"])
    assert schemas.started("contract") == []


def test_expansion_behind_a_pending_contract_is_refused_with_the_command_that_helps(apphost, schemas):
    active = schemas.put(1, chain("a", "-b"))
    apphost.serve(active)
    schemas.at("a")
    error = refused(apphost.run("migrate", schemas.put(2, chain("a", "-b", "c"))), "c of", "stands on b")
    assert error["next"].endswith(f"migrate --contract {active}")
    assert schemas.started() == []
    schemas.at("b")
    schemas.migrated(schemas.put(3, chain("a", "-b", "c")))


def test_contract_waits_until_previous_does_not_need_the_old_schema(apphost, schemas):
    first, second, third = (
        schemas.put(1, chain("a")),
        schemas.put(2, chain("a", "-b")),
        schemas.put(3, chain("a", "-b")),
    )
    apphost.serve(first, second)
    schemas.at("a")
    refused(apphost.run("migrate", "--contract"), f"b of {second}", f"{first} is previous and does not carry")
    apphost.layout.ledger.write_text("")
    apphost.serve(first, second, third)
    apphost.systemd.do_stop([f"inbox-web@{second}.service"])
    told = apphost.ok("migrate", "--contract")
    assert (told["result"], told["contracted"]) == ("contracted", ["b"])
    assert schemas.started("contract") == [f"inbox-contract@{third}.service"]
    assert apphost.ledger()[-1]["contract"] is True


def test_contract_waits_for_a_release_that_still_runs(apphost, schemas):
    first, second, third = (
        schemas.put(1, chain("a")),
        schemas.put(2, chain("a", "-b")),
        schemas.put(3, chain("a", "-b")),
    )
    schemas.at("a")
    apphost.serve(second, third)
    apphost.systemd.do_start([f"inbox-web@{first}.service"])
    refused(apphost.run("migrate", "--contract"), f"{first} is still running and does not carry b")


def test_contract_that_is_applied_is_not_started_again(apphost, schemas):
    apphost.serve(schemas.put(1, chain("a", "-b")))
    schemas.at("b")
    told = apphost.ok("migrate", "--contract")
    assert (told["result"], told["changed"]) == ("nothing to contract", False)
    assert schemas.started("contract") == []


@pytest.mark.parametrize("told", [None, "none told"])
def test_release_before_that_says_nothing_of_its_schema_keeps_the_old_one(apphost, schemas, told):
    first, second = schemas.put(1, told), schemas.put(2, chain("a", "-b"))
    apphost.serve(first, second)
    schemas.at("a")
    refused(apphost.run("migrate", "--contract"), f"{first} is previous")


def test_release_without_revisions_has_nothing_to_contract(apphost, schemas):
    apphost.serve(schemas.put(1, None))
    refused(apphost.run("migrate", "--contract"), "it is not known which revisions it carries")


def test_migrate_without_a_release_is_refused(apphost, schemas):
    refused(apphost.run("migrate"), "needs a release")


# Where a rollback may not go


@pytest.fixture
def contracted(apphost, schemas):
    """Three releases; the database has lost what the first one needs, and the second has not."""
    releases = [
        schemas.put(1, chain("a")),
        schemas.put(2, chain("a", "-b")),
        schemas.put(3, chain("a", "-b")),
    ]
    apphost.serve(*releases)
    schemas.at("b")
    return releases


def test_release_that_needs_what_was_taken_away_is_refused_and_the_others_named(apphost, schemas, contracted):
    first, second, third = contracted
    for command in ("rollback", "activate"):
        error = refused(
            apphost.run(command, first),
            f"{first} cannot run on the database's schema: the database has b",
            f"safe to go back to: {second}",
        )
        assert error["candidates"] == [second]
        assert error["next"].endswith(f"rollback {second}")
    assert apphost.links()[:2] == (third, third)
    assert [line["command"] for line in apphost.ledger()] == ["activate"] * 3, "nothing was touched"
    assert apphost.ok("rollback")["release"] == second


def test_person_who_knows_goes_there_all_the_same_and_the_ledger_has_it(apphost, contracted):
    assert apphost.ok("rollback", contracted[0], "--despite-schema")["release"] == contracted[0]
    assert apphost.ledger()[-1]["despite_schema"] is True


def test_expansion_keeps_nobody_from_going_back(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "b"))]
    apphost.serve(*releases)
    schemas.at("b")
    assert apphost.ok("rollback")["release"] == releases[0]
    assert schemas.asked == [], "nobody had to be asked for it"


def test_pending_contract_keeps_nobody_from_going_back(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "-b"))]
    apphost.serve(*releases)
    schemas.at("a", instance=False)
    assert apphost.ok("rollback")["release"] == releases[0]
    assert len(schemas.asked) == 1
    assert "python -m flask_ops.schema" in schemas.asked[0]


def test_what_the_active_instance_said_a_second_ago_does_not_let_a_release_through(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "-b"))]
    apphost.serve(*releases)
    schemas.at("a")
    schemas.at("b", instance=False)
    refused(apphost.run("rollback"), "the database has b")


def test_contract_that_may_be_there_counts_as_there_while_nobody_tells(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "-b"))]
    apphost.serve(*releases)
    refused(apphost.run("rollback"), "nobody tells what the database is at, and it may have b")


def test_migration_that_still_runs_keeps_from_going_back(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "-b"))]
    apphost.serve(*releases)
    schemas.at("a")
    unit = apphost.systemd.unit(f"inbox-contract@{releases[1]}.service")
    unit.set("activating", "start")
    refused(apphost.run("rollback"), "a migration is still running")
    unit.set("failed", "failed", "exit-code")
    assert apphost.ok("rollback")["release"] == releases[0]


def test_revision_that_nobody_here_knows_is_refused(apphost, schemas):
    releases = [schemas.put(1, chain("a")), schemas.put(2, chain("a", "b"))]
    apphost.serve(*releases)
    schemas.at("z")
    error = refused(apphost.run("rollback"), "the database is at z, which no release on this host carries")
    assert error["candidates"] == []


def test_release_with_the_same_revisions_goes_back_without_anybody_being_asked(apphost, schemas):
    releases = [schemas.put(1, chain("a", "-b")), schemas.put(2, chain("a", "-b"))]
    apphost.serve(*releases)
    schemas.at("z")
    assert apphost.ok("rollback")["release"] == releases[0]
    assert schemas.asked == []


@pytest.mark.parametrize("told", [None, "none told"])
def test_releases_that_say_nothing_of_a_schema_go_back_as_ever(apphost, schemas, told):
    releases = [schemas.put(1, told), schemas.put(2, told)]
    apphost.serve(*releases)
    schemas.at("z")
    assert apphost.ok("rollback")["release"] == releases[0]


def test_release_of_before_goes_back_until_something_is_taken_away(apphost, schemas):
    old, new = schemas.put(1), schemas.put(2, chain("a", "-b"))
    apphost.serve(old, new)
    schemas.at("b")
    refused(apphost.run("rollback"), "the database has b")
    schemas.at("a")
    assert apphost.ok("rollback")["release"] == old


def test_status_and_list_tell_who_could_come_back_and_what_is_pending(apphost, schemas, contracted):
    first, second, third = contracted
    for command in ("status", "list"):
        told = {entry["id"]: entry["returns"] for entry in apphost.ok(command)["releases"]}
        assert told == {first: False, second: True, third: True}
        said = apphost.run(command, json_form=False).out
        assert f"{first}  staged" in said
        assert "cannot come back: the database has b" in said
    assert apphost.ok("status")["schema"] == {
        "heads": ["b"],
        "known": True,
        "pending": [],
        "contract_pending": [],
        "contract_refused": "",
    }
    schemas.at("a")
    assert "contract  b is pending; apply: sudo releasectl" in apphost.run("status", json_form=False).out
    apphost.layout.link_release(apphost.layout.previous, first)
    said = apphost.run("status", json_form=False).out
    assert f"b is pending; not yet: {first} is previous and does not carry b" in said


def test_status_asks_nobody_but_the_active_instance(apphost, schemas, contracted):
    (apphost.root / "heads.json").unlink()
    told = apphost.ok("status")
    assert [entry["returns"] for entry in told["releases"]] == [None, True, True]
    assert (told["schema"]["heads"], told["schema"]["known"]) == (None, False)
    assert schemas.asked == []


def test_app_without_migrations_has_no_schema_in_status(apphost, schemas):
    apphost.serve(schemas.put(1, None))
    assert apphost.ok("status")["schema"] is None
    assert "schema" not in apphost.run("status", json_form=False).out


# What is read


@pytest.mark.parametrize("told", [[], "x", {}, {"heads": []}, {"heads": ["a"], "revisions": [{}]}, 7])
def test_what_is_not_well_formed_is_not_known(told):
    assert schema.parse(told) is None


@pytest.mark.parametrize(
    ("checks", "heads"),
    [
        (None, None),
        ("x", None),
        ([{"id": "x"}, 7, {"found": {"heads": "a"}}], None),
        ([{"found": {"heads": ["b", "a"]}}], ["a", "b"]),
        ([{"found": {"heads": ["a"]}}, {"found": {"heads": ["a"]}}], None),
    ],
)
def test_heads_are_read_from_readiness(checks, heads):
    assert schema.told_by(probe.Answer(200, {"checks": checks}, "")) == heads


def test_applied_is_all_that_heads_stand_on_over_branches_and_merges():
    def revision(name, *down):
        return {"revision": name, "down": list(down), "contract": False}

    told = {"heads": ["m", "o"], "revisions": [revision("a"), revision("b", "a"), revision("c", "a")]}
    told["revisions"] += [revision("m", "b", "c"), revision("o")]
    history = schema.History({"x": schema.parse(told)})
    assert history.applied(["m"]) == {"a", "b", "c", "m"}
    assert history.applied(["b", "o"]) == {"a", "b", "o"}
    assert history.applied([]) == set()
    assert history.applied(["z"]) is None
    assert history.applied(None) is None
