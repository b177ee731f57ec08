"""Read the command line, take the lock where something may change, keep the ledger, report."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import getpass
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from releasectl import (
    activation,
    aside,
    canary,
    config,
    exposition,
    hooks,
    inspection,
    ledger,
    lock,
    locking,
    maintenance,
    migration,
    pruning,
    running,
    schema,
    settling,
    staging,
    tracing,
    units,
    wanted,
)
from releasectl.errors import Failed, Interrupted, Locked, Refused, ReleasectlError
from releasectl.host import Host
from releasectl.layout import RELEASE_ID, Layout
from releasectl.output import Output, Result
from releasectl.signals import Signals

LONGEST_NAME = 64
# What goes on while somebody holds the lock: it is about the lock itself, or changes no active release.
UNLOCKED = ("lock", "unlock", "restart", "cool", "maintenance")

# After these systemd has something to forget, or a folder to remove.
LEAVES_ASIDE = ("deploy", "activate", "rollback", "canary", "prune")


def main(arguments: Sequence[str] | None = None, settings_dir: Path = config.SETTINGS_DIR) -> int:
    """Run one command; return the exit code.

    :param arguments: the command line without the program's name.
    :param settings_dir: where each app has its settings.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Where the command line itself is wrong, the answer must be in the form it asked for all the same.
    out, about, start = Output("--json" in words), {"app": None, "command": None}, time.monotonic()
    try:
        result = _command(words, settings_dir, out, about)
    except ReleasectlError as failed:
        error = failed
    except (Interrupted, KeyboardInterrupt) as signal:
        error = Failed(f"stopped by a signal {signal}".rstrip())
    else:
        out.finish(result, {**about, "duration_seconds": _since(start)})
        return 0
    out.fail(error, {**about, "duration_seconds": _since(start)})
    return error.exit_code


def _command(words: list[str], settings_dir: Path, out: Output, about: dict) -> Result:
    options = _parser().parse_args(words)
    about["command"] = options.command
    # So that what root writes is readable to the app whatever root's shell is set to.
    os.umask(0o022)
    settings = config.load(config.find(settings_dir, getattr(options, "app", None)))
    about["app"] = settings.app
    host = Host(settings, Layout(settings), out, Signals(), by=_person())
    about["phases"] = host.phases.seconds
    return _mutate(host, options, words) if options.mutates else options.run(host, options)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 3)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse's own exit code, 2, means here that a release failed.
        raise Refused(f"{message} (see `{self.prog} --help`)")


@functools.cache
def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    # Accepted before and after the command: without SUPPRESS the second parser would undo the first.
    shared.add_argument("--app", default=argparse.SUPPRESS, help="which app, where the host has several")
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    parser = _Parser(prog="releasectl", parents=[shared], description="Change which release of an app runs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable, text: str, *, mutates: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[shared], help=text, description=text)
        command.set_defaults(run=run, mutates=mutates, heeds_lock=name not in UNLOCKED)
        return command

    _add_looks(add)
    _add_changes(add)
    return parser


def _add_looks(add: Callable) -> None:
    add("status", lambda host, _: inspection.status(host), "what serves and how it is", mutates=False)
    add("list", lambda host, _: inspection.list_releases(host), "which releases are staged", mutates=False)
    log = add("log", lambda host, told: inspection.log(host, told.lines), "what was done", mutates=False)
    log.add_argument("-n", dest="lines", type=_count, default=20, help="how many lines (20)")
    trace = add("trace", _trace, "what a request caused", mutates=False)
    trace.add_argument("request_id", metavar="REQUEST_ID", help="from the answer's X-Request-ID")
    trace.add_argument("--since", help=f"how far to look back ({wanted.REQUEST_SINCE})")
    lines = add("logs", _logs, "the newest lines of nginx and the app", mutates=False)
    lines.add_argument("--since", help=f"how far to look back ({wanted.LINES_SINCE}), or a moment")
    lines.add_argument("--until", help="and up to when")
    lines.add_argument("--level", help="this bad at least: warning, say")
    lines.add_argument("--release", metavar="ID", help="written by this release, or answered by it")
    lines.add_argument("--status", help="nginx's alone, of answers with it: 502, or 5xx")
    lines.add_argument("--grep", metavar="TEXT", help="with this text, upper and lower case alike")
    lines.add_argument("--lines", help=f"how many, the newest ({wanted.LINES})")
    shown = add("page", _page, "render the status page", mutates=False)
    shown.add_argument("--to", type=Path, metavar="DIR", required=True, help="a folder that is there")
    run = add("run", lambda host, told: running.run(host, told.words), "run the app's command", mutates=False)
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="flask users list, say")


def _add_changes(add: Callable) -> None:
    stage = add(
        "stage", lambda host, told: staging.stage(host, told.archive, told.deps), "put a release here"
    )
    stage.add_argument("archive", type=Path, metavar="RELEASE_ARCHIVE")
    stage.add_argument("--deps", type=Path, metavar="DEPS_ARCHIVE")
    whole = add("deploy", _deploy, "stage, migrate and activate, in one go")
    whole.add_argument("release", metavar="RELEASE_ARCHIVE|ID")
    whole.add_argument("--deps", type=Path, metavar="DEPS_ARCHIVE")
    migrate = add("migrate", _migrate, "migrate its database")
    migrate.add_argument("release", metavar="ID", nargs="?")
    migrate.add_argument("--contract", action="store_true", help="take away what only older releases need")
    activate = add("activate", _activate, "send traffic to it")
    activate.add_argument("release", metavar="ID")
    for command in (whole, activate):
        command.add_argument("--prune", action="store_true", help="then remove old releases")
        command.add_argument("--bake", type=_seconds, metavar="SECONDS", help="watch it for so long")
    some = add("canary", _canary, "send a share of the clients to it")
    some.add_argument("release", metavar="ID", nargs="?")
    some.add_argument("--share", type=_count, metavar="PERCENT", help="5 to 95, in steps of 5")
    some.add_argument("--withdraw", action="store_true", help="send everybody to the active release again")
    back = add("rollback", _rollback, "go back to the one before")
    back.add_argument("release", metavar="ID", nargs="?")
    for command in (activate, back):
        command.add_argument(schema.DESPITE, action="store_true", help="whatever the database's schema is")
    add("restart", lambda host, _: activation.restart(host), "apply changed settings, losing no request")
    add("cool", _cool, "stop what was kept warm and whose time is over")
    closing = add("maintenance", _maintain, "close the site to visitors, or open it again")
    closing.add_argument("turn", choices=("on", "off"))
    closing.add_argument("--reason", metavar="TEXT", help=f"what visitors read ({maintenance.USUAL_REASON})")
    again = f"when to come again ({maintenance.USUAL_SECONDS})"
    closing.add_argument("--retry-after", type=_count, metavar="SECONDS", help=again)
    prune = add("prune", _prune, "remove old releases")
    prune.add_argument("--keep", type=_count, metavar="N", help="how many releases stay")
    _add_locks(add)
    hook = add("hook", _hook, "run the hooks of an end, as a deploy over several hosts does once")
    hook.add_argument("point", metavar="POINT", help=" or ".join(units.ENDS))
    for name in ("release", "previous", "cause"):
        hook.add_argument(f"--{name}", default="", metavar=name.upper(), help="what the hooks are told")


def _add_locks(add: Callable) -> None:
    hold = add("lock", _lock, "let nobody else change releases")
    hold.add_argument("--reason", default="", help="for those who are refused")
    hold.add_argument(
        "--lease",
        type=_seconds,
        metavar="SECONDS",
        help="let go of it when no command of its holder came for so long (never)",
    )
    hold.add_argument("--controller", default="", help="the process that holds it, for a program")
    hold.add_argument("--over", metavar="TOKEN", help="take it from a holder that is known to be gone")
    end = add("unlock", lambda host, told: locking.let_go(host, own=told.own), "let others change releases")
    end.add_argument("--own", action="store_true", help="only if RELEASECTL_LOCK holds it")


def _trace(host: Host, told: argparse.Namespace) -> Result:
    return tracing.trace(host, {"request_id": told.request_id, "since": told.since})


def _logs(host: Host, told: argparse.Namespace) -> Result:
    names = ("since", "until", "level", "release", "status", "grep", "lines")
    return tracing.logs(host, {name: getattr(told, name) for name in names})


def _cool(host: Host, _told: argparse.Namespace) -> Result:
    gone = settling.cool(host, over=True)
    words = f"stopped: {', '.join(gone)}" if gone else "nothing to stop"
    return Result("cooled" if gone else "nothing to cool", bool(gone), words, {"retired": gone})


def _lock(host: Host, told: argparse.Namespace) -> Result:
    return locking.take(host, told.reason, told.lease or None, told.controller, told.over)


def _deploy(host: Host, told: argparse.Namespace) -> Result:
    """Run the commands a deploy is made of, each entered in the ledger as if it had been typed."""
    done, changed = {}, False
    if not RELEASE_ID.fullmatch(told.release):
        words = ["stage", told.release, *(["--deps", str(told.deps)] if told.deps else [])]
        # What the hooks are told, should it not get further.
        told.release = Path(told.release).stem.removeprefix("release-")
        with host.phases.measured("stage"):
            staged = _part(host, words)
        told.release, changed = staged.data["release"], staged.changed
    elif told.deps is not None:
        raise Refused("`deploy` takes --deps with a release's archive, not with a staged release")
    if host.layout.active() != told.release:
        with host.phases.measured("migrate"):
            migrated = _part(host, ["migrate", told.release])
        done = {name: migrated.data[name] for name in ("waits", "contract_pending") if name in migrated.data}
        changed |= migrated.changed
    bake = [] if told.bake is None else ["--bake", str(told.bake)]
    prune = ["--prune"] if told.prune else []
    try:
        activated = _part(host, ["activate", *bake, *prune, told.release])
    except ReleasectlError as error:
        # The migration went well all the same, and this is the last chance to tell of it.
        left = ", ".join(done.get("contract_pending") or [])
        notes = [*done.get("waits", []), *([f"left for `migrate --contract`: {left}"] if left else [])]
        if notes:
            error.evidence["remarks"] = error.evidence.get("remarks", []) + notes
        raise
    return dataclasses.replace(
        activated, changed=changed or activated.changed, data={**done, **activated.data}
    )


def _part(host: Host, words: list[str]) -> Result:
    return _entered(host, _parser().parse_args(words))


def _activate(host: Host, told: argparse.Namespace) -> Result:
    bake = host.settings.bake_seconds if told.bake is None else told.bake
    result = activation.activate(host, told.release, bake_seconds=bake, despite_schema=told.despite_schema)
    if told.prune:
        # The release serves: what goes wrong with old ones is worth a word, and no failure.
        try:
            with host.signals.shielded():
                result.data["removed"] = pruning.prune(host, host.settings.keep, now=False).data["removed"]
        except (ReleasectlError, OSError) as error:
            result.data["remarks"].append(f"old releases were not removed: {error}")
    return result


def _rollback(host: Host, told: argparse.Namespace) -> Result:
    return activation.rollback(host, told.release, despite_schema=told.despite_schema)


def _migrate(host: Host, told: argparse.Namespace) -> Result:
    if told.contract:
        return migration.apply_contract(host, told.release)
    if told.release is None:
        raise Refused("`migrate` needs a release, or --contract", next_command=host.command("list"))
    return migration.migrate(host, told.release)


def _canary(host: Host, told: argparse.Namespace) -> Result:
    if told.withdraw:
        if told.release is not None or told.share is not None:
            raise Refused("`canary --withdraw` takes neither a release nor a share")
        return canary.withdraw(host)
    if told.release is None or told.share is None:
        raise Refused("`canary` takes a release and --share, or --withdraw")
    return canary.give(host, told.release, told.share)


def _maintain(host: Host, told: argparse.Namespace) -> Result:
    if told.turn == "on":
        reason = maintenance.USUAL_REASON if told.reason is None else told.reason
        return maintenance.turn_on(host, reason, told.retry_after or maintenance.USUAL_SECONDS)
    if told.reason is not None or told.retry_after is not None:
        raise Refused("--reason and --retry-after go with `maintenance on`")
    return maintenance.turn_off(host)


def _page(host: Host, told: argparse.Namespace) -> Result:
    # Here: a rollback has no time to import what lays out pages.
    from releasectl import page

    return page.render(host, told.to)


def _prune(host: Host, told: argparse.Namespace) -> Result:
    return pruning.prune(host, told.keep or host.settings.keep)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _hook(host: Host, told: argparse.Namespace) -> Result:
    return hooks.command(host, told.point, told.release, told.previous, told.cause)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Not NaN, which is below nothing.
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _mutate(host: Host, options: argparse.Namespace, words: list[str]) -> Result:
    """Run a command that may change something: as root, alone, and entered in the ledger."""
    typed = "releasectl " + " ".join(words)
    if os.geteuid() != 0:
        raise Refused("this needs root", next_command=f"sudo {typed}")
    # A lock of its own: the site can be closed while a deploy is under way, and because of one.
    path = host.layout.maintenance_lock if options.command == "maintenance" else host.layout.lock
    with host.signals.installed(), lock.held(path, host.by, typed) as host.lock:
        before = host.layout.active()
        if options.heeds_lock:
            locking.require(host)
        try:
            result = _run(host, options) if options.command == "deploy" else _entered(host, options)
        except ReleasectlError as error:
            if not isinstance(error, Refused | Locked):
                _tell(host, options, before, error)
            raise
        finally:
            if options.command in LEAVES_ASIDE:
                aside.leave(host)
        if result.changed:
            _tell(host, options, before, result)
        return result


def _entered(host: Host, options: argparse.Namespace) -> Result:
    """Run a command and enter in the ledger what came of it; what was refused did nothing."""
    before, start = host.layout.active(), time.monotonic()
    try:
        result = _run(host, options)
    except ReleasectlError as error:
        if not isinstance(error, Refused | Locked):
            _enter(host, options, before, start, error)
        raise
    # A failure is told of until a command goes well, be it one that found nothing left to do.
    ends_one = options.command in ledger.SERVED_COMMANDS and not result.changed
    if result.changed or (ends_one and ledger.failed_last(host.layout.ledger)):
        _enter(host, options, before, start, result)
    elif options.command == "maintenance":
        # A link that somebody removed by hand must not be told of for ever.
        with contextlib.suppress(OSError):
            exposition.write(host)
    # What has taken its time must not have used up the lease: each part of a deploy may take as long as one.
    locking.renew(host)
    return result


def _run(host: Host, options: argparse.Namespace) -> Result:
    """Run it, and let whatever goes wrong be one of our errors, with the exit code that belongs to it."""
    try:
        return options.run(host, options)
    except Interrupted as error:
        raise Failed(str(error), next_command=host.command("status")) from error
    except ReleasectlError:
        raise
    except Exception as error:
        raise Failed(f"{type(error).__name__}: {error}", next_command=host.command("status")) from error


def _tell(host: Host, options: argparse.Namespace, before: str | None, end: Result | ReleasectlError) -> None:
    """Run the hooks of how it ended. A deploy over several hosts holds the lock, and does so itself, once."""
    if options.command not in (*ledger.SERVED_COMMANDS, "deploy") or locking.own_token():
        return
    failed = isinstance(end, ReleasectlError)
    point = "failed" if failed else "rolled_back" if options.command == "rollback" else "deployed"
    release = (None if failed else end.data.get("release")) or options.release or ""
    with host.signals.shielded():
        remarks = hooks.at_end(host, point, release, before or "", end.cause if failed else "")
    if failed:
        end.evidence["remarks"] = end.evidence.get("remarks", []) + remarks
    else:
        end.data["remarks"] = end.data.get("remarks", []) + remarks
        end.words = "\n".join([end.words, *(f"  note: {remark}" for remark in remarks)])


def _enter(
    host: Host, options: argparse.Namespace, before: str | None, start: float, end: Result | ReleasectlError
) -> None:
    failed = isinstance(end, ReleasectlError)
    data = {} if failed else end.data
    entry = {
        "command": options.command,
        "release": data.get("release") or getattr(options, "release", None),
        "previous": before,
        "by": host.by,
        "result": end.result if failed else "done",
        "exit": end.exit_code if failed else 0,
        "duration_seconds": _since(start),
        "phases": host.phases.seconds,
        "cause": end.cause if failed else None,
    }
    # A later `migrate` must know what this one has done, and a reader of the book what was overridden.
    if data.get("schema"):
        entry["schema"] = data["schema"]
    entry |= {name: True for name in ("contract", "despite_schema") if getattr(options, name, False)}
    if "share_percent" in data:
        entry["share_percent"] = data["share_percent"]
    if options.command == "maintenance":
        entry |= {"turn": options.turn, "maintenance": data.get("maintenance")}
    try:
        with host.signals.shielded():
            ledger.append(host.layout.ledger, entry)
            exposition.write(host)
    except OSError as error:
        # What was done is done: a full disk must not turn it into a failure.
        host.out.progress(f"the ledger could not be written: {error}")


def _person() -> str:
    """Return who does it: under sudo and Ansible that is not root."""
    name = os.environ.get("RELEASECTL_BY") or os.environ.get("SUDO_USER") or _login()
    return re.sub(r"[^\w.@+-]", "_", name)[:LONGEST_NAME]


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
