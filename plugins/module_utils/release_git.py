"""Check out a commit of a git repository, out of a bare copy that is kept below the cache.

Submodules come the same way, from copies of their own, so that a commit that was built once needs no network.
git never asks for anything here: who must log in has an ssh key or a credential helper (gitcredentials(7)).
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import posixpath
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from ansible.module_utils.release_origin import SCP, GitOrigin, refuse_address, ssh_url
from ansible.module_utils.release_source import Identity, Refused, Tree, checked_out_tree
from ansible.module_utils.release_tools import happened, without_userinfo, write_text

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
ABBREVIATED = re.compile(r"[0-9a-f]{7,63}")
# The longest that one fetch may take; a stalled one ends sooner, by the limits below.
SECONDS = 900
# Nothing of a repository or of its user's templates is run, and a fetch that stalls for 30 s ends.
OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "gc.autoDetach=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "safe.directory=*",
)
# Set where Ansible is started by a git hook, and then they name that hook's repository.
GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
SSH = "-oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=15"
# What git adds after ssh or the server has said why.
NOTHING_SAID = re.compile(
    "Could not read from remote repository|Please make sure you have the correct|and the repository exists"
)
# What git says, and what helps.
ADVICE = (
    (
        r"could not read (Username|Password)|Authentication failed|Permission denied|prompts disabled",
        "Give the user who runs Ansible an ssh key or a git credential helper, and try `git ls-remote`",
    ),
    (r"Host key verification failed", "Add the server's key to known_hosts, having compared it"),
    (
        r"Could not resolve host|timed out|Connection refused|unreachable|too slow"
        r"|(Could not|Couldn't|Failed to) connect",
        "Try again when the network is back; a full commit hash that was built here before needs none",
    ),
    (r"not our ref|unadvertised object", "The repository does not have this commit, or does not hand it out"),
    (r"not found|does not exist|not appear to be a git repository", "Compare the URL with `git ls-remote`"),
)


@dataclass(frozen=True)
class Repository:
    """A bare copy of one repository."""

    url: str
    path: Path

    @property
    def name(self) -> str:
        """The URL as it may be printed."""
        return without_userinfo(self.url)

    def has(self, commit: str) -> bool:
        """Tell whether a commit is here, with all that it holds."""
        return self.git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}") is not None

    def git(self, *words: str, **environment: str) -> str | None:
        """Return what git prints, or None where it fails."""
        done = self.run(*words, **environment)
        return done.stdout if done.returncode == 0 else None

    def fetch(self, *refspecs: str) -> None:
        """Fetch refs, by default all branches and tags, and forget those that are gone there.

        Raises Refused with git's own words.
        """
        if not (self.path / "HEAD").is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            self.run("init", "--quiet", "--bare", "--template=")
        wanted = refspecs or ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        words = ["--quiet", "--no-tags", "--no-recurse-submodules", *([] if refspecs else ["--prune"])]
        self.needed("fetch", *words, "--", self.url, *wanted)

    def needed(self, *words: str, **environment: str) -> str:
        """Return what git prints.

        Raises Refused with git's last line and with what may help.
        """
        done = self.run(*words, **environment)
        if done.returncode == 0:
            return done.stdout
        said = without_userinfo(done.stderr.strip())
        spoken = [line for line in said.splitlines() if line and not NOTHING_SAID.search(line)]
        lines = [line for line in spoken if re.match("fatal|error", line)] or spoken
        helps = [advice for pattern, advice in ADVICE if re.search(pattern, said, re.IGNORECASE)]
        last = lines[-1].rstrip(".") if lines else "git says nothing"
        cause = f"git {verb(words)} of {self.name} failed: {last}"
        raise Refused(f"{cause}. {helps[0]}" if helps else cause)

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        """Run git on the copy, without a terminal to ask on."""
        options = [word for option in OPTIONS for word in ("-c", option)]
        command = ["git", *options, f"--git-dir={self.path}", *words]
        try:
            return subprocess.run(
                command,
                env={**git_environment(), **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise Refused("there is no git on this controller: install it") from None
        except subprocess.TimeoutExpired:
            raise Refused(f"git {verb(words)} of {self.name} took over {SECONDS} s and was stopped") from None


def verb(words: tuple[str, ...]) -> str:
    """Return the command among git's words."""
    return next(word for word in words if not word.startswith("-"))


def git_environment() -> dict[str, str]:
    """Return an environment in which git asks nobody, and works on no repository but the one it is told."""
    own = {key: value for key, value in os.environ.items() if key not in GIT_PLACES}
    own |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if "GIT_SSH" in own and "GIT_SSH_COMMAND" not in own:  # a program that may not know these options
        return own
    return {**own, "GIT_SSH_COMMAND": f"{own.get('GIT_SSH_COMMAND') or user_ssh() or 'ssh'} {SSH}"}


@functools.cache
def user_ssh() -> str:
    """Return the ssh command of the user's git configuration, which the environment would outrank."""
    words = ["git", "config", "--global", "--get", "core.sshCommand"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # the first command that needs git says so in words
        return ""


def repository(url: str, cache: Path) -> Repository:
    """Return the place of a repository's copy."""
    return Repository(url, cache / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.git")


def git_tree(origin: GitOrigin, cache: Path, place: Path, said: str, since: float = 0) -> Tree:
    """Return the files of a repository at a ref, checked out into an empty folder.

    `cache` is the folder of the bare copies, `said` what the user wrote, for messages. What was fetched at
    `since`, in seconds since the epoch, or later is not fetched again.
    Raises Refused for what git cannot fetch, and for a ref or a folder that is not there.
    """
    copy = repository(origin.url, cache)
    try:
        commit, ref = resolve(copy, origin.ref, since)
        check_out(copy, commit, place, cache)
    except Refused as refused:
        raise Refused(f"{said}: {refused}") from None
    root = place.resolve() / origin.subdirectory
    if not root.is_dir():
        folders = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_dir()]
        raise Refused(
            f"{said}: {origin.name} has no folder {origin.subdirectory} at {origin.ref or ref or commit}"
            f"{near(origin.subdirectory, folders)}"
        )
    tag = (copy.git("describe", "--tags", "--abbrev=0", commit) or "").strip()
    return checked_out_tree(root, Identity(commit, ref, False, tag), said)


def resolve(copy: Repository, ref: str, since: float = 0) -> tuple[str, str]:
    """Return the commit of a ref and the name of its branch or tag, empty where a commit was asked for.

    Only a full commit that is here already is taken without asking the repository: everything else moves,
    though not between the hosts of one run, which began at `since`.
    """
    if COMMIT.fullmatch(ref):
        if not copy.has(ref):
            copy.fetch()
        if not copy.has(ref):  # on no branch; servers may hand it out all the same
            copy.fetch(f"{ref}:refs/kept/{ref}")
        return ref, (copy.git("describe", "--tags", "--exact-match", ref) or "").strip()
    if ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/")):
        copy.fetch(f"+{ref}:refs/kept/{ref}")
        return commit_of(copy, f"refs/kept/{ref}"), ref
    head = copy.path / "default-branch"
    if not happened(head, since):
        copy.fetch()
        write_text(head, default_branch(copy))
    full = full_name(copy, ref or head.read_text() or no_commit(copy))
    return commit_of(copy, full), short_name(full) if full.startswith("refs/") else ""


def commit_of(copy: Repository, name: str) -> str:
    """Return the commit that a ref points to, through a tag's own object."""
    return copy.needed("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").split()[-1]


def default_branch(copy: Repository) -> str:
    """Return the full name of the branch that the repository's HEAD names, or its commit, or nothing."""
    told = copy.needed("ls-remote", "--symref", "--", copy.url, "HEAD")
    found = re.search(r"(?m)^ref: (refs/heads/\S+)\tHEAD$", told) or re.search(r"(?m)^(\w+)\tHEAD$", told)
    return found[1] if found else ""


def no_commit(copy: Repository) -> NoReturn:
    """Refuse a repository whose HEAD leads nowhere."""
    raise Refused(f"{copy.name} has no commit on its default branch; name a branch or tag behind `@`")


def full_name(copy: Repository, wanted: str) -> str:
    """Return the full name of a branch or tag, or an abbreviated commit as it is.

    Raises Refused when there is none, with near ones, and when a branch and a tag share the name.
    """
    names = (copy.git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags") or "").split()
    found = [name for name in (f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted) if name in names]
    if len({commit_of(copy, name) for name in found}) > 1:
        raise Refused(f"{copy.name} has a branch and a tag `{wanted}`: write {' or '.join(found)}")
    if found:
        return found[0]
    if (ABBREVIATED.fullmatch(wanted) or COMMIT.fullmatch(wanted)) and copy.has(wanted):
        return wanted
    known = near(wanted, [short_name(name) for name in names])
    raise Refused(f"{copy.name} has no branch, tag or commit `{wanted}`{known}")


def short_name(full: str) -> str:
    """Return a branch's or tag's name as people say it."""
    return re.sub("^refs/(heads|tags)/", "", full)


def near(word: str, words: list[str]) -> str:
    """Return words that one may have meant, as the end of a sentence."""
    found = difflib.get_close_matches(word, sorted(set(words)), 3, 0.5)
    if found:
        return f"; did you mean {' or '.join(f'`{one}`' for one in found)}?"
    return f"; it has {', '.join(sorted(set(words))[:10])}" if words else "; it has none"


def check_out(copy: Repository, commit: str, place: Path, cache: Path) -> None:
    """Write a commit's files into an empty folder, and those of its submodules below it.

    Without a `.git`, an index of its own being all that git keeps, and that outside.
    """
    place.mkdir(parents=True, exist_ok=True)
    index = place.parent / f".{place.name}.index"
    words = [f"--work-tree={place}", "read-tree", "-u", "--reset", commit]
    try:
        copy.needed(*words, GIT_INDEX_FILE=str(index))
    finally:
        index.unlink(missing_ok=True)
    for path, url in submodules(copy, place).items():
        pinned = pinned_commit(copy, commit, path)
        if pinned:
            check_out_submodule(copy, url, pinned, place / path, cache)


def submodules(copy: Repository, place: Path) -> dict[str, str]:
    """Return the submodules that a checkout declares, from path to URL."""
    if not (place / ".gitmodules").is_file():
        return {}
    printed = copy.git("config", "--file", str(place / ".gitmodules"), "--null", "--list") or ""
    said: dict[str, dict[str, str]] = {}
    for line in printed.split("\0"):
        key, _, value = line.partition("\n")
        match = re.fullmatch(r"submodule\.(?P<name>.+)\.(?P<what>path|url)", key)
        if match:
            said.setdefault(match["name"], {})[match["what"]] = value
    return {one["path"]: one["url"] for one in said.values() if one.keys() >= {"path", "url"}}


def pinned_commit(copy: Repository, commit: str, path: str) -> str:
    """Return the commit of a submodule, empty where the path is none."""
    printed = copy.git("--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", path) or ""
    match = re.match(r"160000 commit (\w+)\t", printed)
    return match[1] if match else ""


def check_out_submodule(parent: Repository, url: str, commit: str, place: Path, cache: Path) -> None:
    """Check out a submodule, from a repository that the one above may name."""
    address = submodule_url(parent.url, url)
    parts = urlsplit(address)
    where = f"its submodule {place.name} is at `{without_userinfo(address)}`"
    refuse_address(parts, where)
    if parts.scheme == "file" and not parent.url.startswith("file:"):
        raise Refused(f"{where}, a place on this controller that no repository elsewhere may choose")
    copy = repository(address, cache)
    resolve(copy, commit)
    check_out(copy, commit, place, cache)


def submodule_url(parent: str, url: str) -> str:
    """Return a submodule's URL; one that begins with a dot is relative to the repository around it."""
    if url.startswith(("./", "../")):
        parts = urlsplit(parent)
        return parts._replace(path=posixpath.normpath(posixpath.join(parts.path, url))).geturl()
    scp = SCP.fullmatch(url)
    if scp and "://" not in url:
        return ssh_url(scp, "ssh")
    return f"file://{url}" if url.startswith("/") else url
