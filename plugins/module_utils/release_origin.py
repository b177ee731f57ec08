"""Tell which of three things a source is: a folder, a git repository, or a package of the index.

The form alone decides, never what happens to exist: a misspelt folder must not become somebody's package.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from ansible.module_utils.release_source import Refused
from ansible.module_utils.release_tools import without_userinfo

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # release_lock.require_packaging says so in words
    Requirement = None

FORMS = "a folder, `git+https://host/shop.git@v1.4` or `pypi:shop==1.4`"
# What git takes for an option, or refuses in the name of a ref (git-check-ref-format(1)).
NO_REF = re.compile(r"^-|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|\.lock$")
SCP = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^:/\\].*)")
TRANSPORTS = ("https", "ssh", "file")


@dataclass(frozen=True)
class GitOrigin:
    """A git repository, and what to take of it.

    `ref` empty means the branch that the repository itself calls its HEAD.
    """

    url: str
    ref: str = ""
    subdirectory: str = ""

    @property
    def name(self) -> str:
        """The URL as it may be printed."""
        return without_userinfo(self.url)


@dataclass(frozen=True)
class PackageOrigin:
    """A requirement that the package index fulfils."""

    requirement: str

    @property
    def package(self) -> str:
        """The package's name, as locks write it."""
        return canonicalize_name(Requirement(self.requirement).name)

    @property
    def is_exact(self) -> bool:
        """Whether only one version fulfils it."""
        specs = list(Requirement(self.requirement).specifier)
        return len(specs) == 1 and specs[0].operator in ("==", "===") and "*" not in specs[0].version


def parse_origin(source: str) -> Path | GitOrigin | PackageOrigin:
    """Return what a source names.

    Raises Refused for a form that is none of the three, and for a URL that holds credentials.
    """
    if source.startswith("pypi:"):
        return package_origin(source)
    if source.startswith("git+"):
        return git_origin(source)
    if "://" in source:
        advice = f"git+{source}" if source.startswith(TRANSPORTS) else "git+https://…"
        raise Refused(
            f"app_source is `{without_userinfo(source)}`: a git repository is written"
            f" `{without_userinfo(advice)}`, with `@` and a tag, branch or commit behind it"
        )
    scp = SCP.fullmatch(source)
    if scp and scp["user"]:
        raise Refused(f"app_source is `{source}`: write `{ssh_url(scp, 'git+ssh')}`")
    return Path(os.path.expandvars(source)).expanduser()


def ssh_url(scp: re.Match, scheme: str) -> str:
    """Return ssh's short form of an address as a URL."""
    return f"{scheme}://{scp['user'] or ''}{scp['host']}/{scp['path']}"


def package_origin(source: str) -> PackageOrigin:
    """Read `pypi:name[extra]>=1`."""
    requirement = parse_requirement(source.removeprefix("pypi:"), "app_source")
    if requirement.url or requirement.marker:
        raise Refused(
            f"app_source is `{without_userinfo(source)}`: wanted is a package's name and version only,"
            " such as `pypi:shop==1.4`"
        )
    return PackageOrigin(str(requirement))


def parse_requirement(text: str, variable: str):
    """Return a requirement as `packaging` reads it (PEP 508).

    Raises Refused, naming the variable it stands in.
    """
    try:
        return Requirement(text.strip())
    except InvalidRequirement as error:
        cause = str(error).splitlines()[0]
        raise Refused(
            f"{variable}: `{without_userinfo(text)}` is no requirement such as `shop[extra]>=1.4` ({cause})"
        ) from None


def git_origin(source: str) -> GitOrigin:
    """Read `git+https://host/shop.git@v1.4#subdirectory=backend`, pip's form of a repository."""
    said = without_userinfo(source)
    scp = SCP.fullmatch(source.removeprefix("git+"))
    if scp and "://" not in source:
        raise Refused(f"app_source is `{source}`: write `{ssh_url(scp, 'git+ssh')}`")
    parts = urlsplit(source.removeprefix("git+"))
    refuse_address(parts, f"app_source is `{said}`")
    path, at, ref = parts.path.rpartition("@")
    ref = unquote(ref) if at else ""
    if at and (not ref or NO_REF.search(ref)):
        raise Refused(f"app_source is `{said}`: `{ref}` cannot be a tag, a branch or a commit")
    url = parts._replace(path=path if at else parts.path, fragment="").geturl()
    return GitOrigin(url, ref, subdirectory(parts.fragment, said))


def refuse_address(parts: SplitResult, where: str) -> None:
    """Refuse a repository's URL that nobody could trust, or that holds what must not be shown."""
    if parts.scheme not in TRANSPORTS:
        raise Refused(
            f"{where}: `{parts.scheme}` lets anybody on the way change the code: use https or ssh,"
            " or file for a repository on this controller"
        )
    if parts.password or (parts.username and parts.scheme != "ssh") or parts.query:
        raise Refused(
            f"{where}, with a user, a password or a token in it, which logs and process lists would show."
            " Write the URL without, and give git an ssh key (git+ssh://git@host/…) or a credential helper"
            " (`git config --global credential.helper …`)"
        )
    host_wanted = parts.scheme != "file"
    if bool(parts.hostname) != host_wanted or parts.netloc.startswith("-") or not parts.path.strip("/"):
        raise Refused(
            f"{where}: wanted is `git+{parts.scheme}://{'host' if host_wanted else ''}/path/shop.git`"
        )


def subdirectory(fragment: str, said: str) -> str:
    """Return the folder that a URL's fragment names; pip's `egg=` says nothing that we need."""
    values = dict(word.partition("=")[::2] for word in fragment.split("&") if word)
    unknown = sorted(set(values) - {"subdirectory", "egg"})
    if unknown:
        raise Refused(f"app_source is `{said}`: of `#{unknown[0]}` nothing is known; `#subdirectory=` is")
    folder = unquote(values.get("subdirectory", "")).strip("/")
    if ".." in PurePosixPath(folder).parts:
        raise Refused(f"app_source is `{said}`: the subdirectory leads out of the repository")
    return folder
