"""The commands, for the role, for certbot's units and for people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tlsctl import certbot, certificate, fetching, installing, sealing, settings, telling
from tlsctl.errors import Trouble
from tlsctl.settings import Settings


def main(words: list[str]) -> int:
    """Run one command; return the exit code: 0 done, 1 something is not as it should be."""
    given = _parser().parse_args(words)
    if given.command == "roots":
        certbot.write_roots(given.path)
        return 0
    code = 0
    for name in [given.name] if given.name else settings.names():
        try:
            COMMANDS[given.command](settings.load(name))
        except Trouble as trouble:
            code = 1
            print(f"{name}: {trouble}", file=sys.stderr)
            if trouble.next_command:
                print(f"  next: {trouble.next_command}", file=sys.stderr)
    return code


def _placeholder(its: Settings) -> None:
    print("made a placeholder" if installing.placeholder(its) else "there is a certificate")


def _identity(its: Settings) -> None:
    """Print by what other hosts know this one."""
    if sealing.make_identity(its):
        print("made an identity", file=sys.stderr)
    print(its.identity_certificate.read_text().strip())


def _issue(its: Settings) -> None:
    """Get a certificate where one is needed, and serve certbot's newest."""
    reason = ""

    def work() -> bool:
        nonlocal reason
        if certbot.set_lost_account_aside(its):
            print("the server no longer knows the account: registering anew")
        reason = certbot.reason_to_ask(its)
        if reason:
            certbot.ask(its)
        certbot.note_window(its)
        return _see_to(its)

    installed = _recorded(its, work)
    print(f"issued, because {reason}" if reason else "installed" if installed else "nothing to do")


def _deploy(its: Settings) -> None:
    """Do what certbot's hook is there for."""
    if its.mode != "acme":
        # What the inventory gave since is not to be replaced by what certbot still renews.
        print(f"tls_mode is {its.mode}: left as it is")
        return
    certbot.note_window(its)
    _recorded(its, lambda: installing.deploy(its, installing.read_pair(its.lineage)))


def _settle(its: Settings) -> None:
    """Do what follows each run of certbot."""
    if its.mode == "acme":
        _recorded(its, lambda: _see_to(its))


def _fetch(its: Settings) -> None:
    """Take up what the issuing host has."""
    if its.mode == "fetched":
        with fetching.alone(its):
            installed = _recorded(its, lambda: _take_up(its))
        print("installed" if installed else "nothing to do")


def _take_up(its: Settings) -> bool:
    """Fetch, and serve what came; return whether it had to be installed."""
    fetched = fetching.fetch(its)
    installed = not _is_served(its, fetched.certificate)
    if installed:
        installing.deploy(its, fetched.pair)
    fetching.remember(its, fetched)
    return installed


def _see_to(its: Settings) -> bool:
    """See that certbot's newest certificate is served, here and elsewhere, and not due.

    :return: whether it had to be installed.
    """
    newest = certbot.newest(its)
    if newest is None:
        raise Trouble("certbot has no certificate", f"tlsctl issue {its.name}")
    installed = not _is_served(its, newest)
    if installed:
        installing.deploy(its, installing.read_pair(its.lineage))
    sealing.publish(its)
    if certbot.is_due(its, newest):
        ends = certificate.shown(newest.not_after)
        raise Trouble(f"certbot did not renew what ends on {ends}", "journalctl -u certbot.service -n 40")
    return installed


def _is_served(its: Settings, newest: certificate.Certificate) -> bool:
    try:
        shown = certificate.served(its.port, its.server_names[0])
        return certificate.read(its.certificate).serial == shown.serial == newest.serial
    except Trouble:
        return False


def _recorded(its: Settings, work: Callable[[], object]) -> bool:
    trouble = None
    try:
        return bool(work())
    except Trouble as found:
        trouble = found
        raise
    finally:
        telling.record(its, trouble)
        telling.observe(its)


def _check(its: Settings) -> None:
    found = telling.problems(its)
    if found:
        raise Trouble("; ".join(found))


COMMANDS: dict[str, Callable[[Settings], None]] = {
    "placeholder": _placeholder,
    "identity": _identity,
    "issue": _issue,
    "deploy": _deploy,
    "settle": _settle,
    "fetch": _fetch,
    "observe": telling.observe,
    "check": _check,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tlsctl", description="See to the certificates nginx shows on this host."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, told in {
        "placeholder": "make a certificate of our own where there is none, for nginx to start with",
        "identity": "print by what other hosts know this one; make it where there is none",
        "issue": "get one of the ACME server where one is needed, and serve it",
        "deploy": "serve certbot's newest; certbot's deploy hook",
        "settle": "say what a run of certbot came to; serve its newest if it is not",
        "fetch": "take up what the host that issues has for this one",
        "observe": "write the metrics",
        "check": "say what is wrong, changing nothing",
    }.items():
        added = commands.add_parser(command, help=told)
        many = command in ("settle", "fetch", "observe", "check")
        added.add_argument(
            "name", nargs="?" if many else None, help="the certificate" + (", or all" if many else "")
        )
    roots = commands.add_parser("roots", help="write whom certbot trusts as an ACME server")
    roots.add_argument("path", type=Path)
    return parser
