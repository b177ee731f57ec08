#!/usr/bin/python
"""Install the files of a mirror tree as one transaction."""

from __future__ import annotations

import base64
import contextlib
import errno
import glob
import grp
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: mirror
short_description: Install files of a mirror tree as one transaction
version_added: "1.0"
description:
  - Renders files of a tree on the controller and installs all of them on the host in one round trip.
  - The tree rhymes with where it lands. C(nginx/conf.d/logging.conf.j2) with O(dest=/etc/nginx) lands at
    C(/etc/nginx/conf.d/logging.conf). A file without C(.j2) lands byte for byte.
  - Every changed file is staged and the whole is validated first. Either all files change or none does.
  - What stood in a file's place with other content is copied to O(backup_dir) first.
options:
  tree:
    description: Folder below C(templates/) of the current role, usually a symlink to a tree of the project.
    type: str
    required: true
  dest:
    description: Absolute path of the folder on the host that the tree stands for.
    type: path
    required: true
  files:
    description: Names below the tree, without C(.j2).
    type: list
    elements: str
    default: []
  absent:
    description: Names that an older version of the project installed. They are moved to O(backup_dir).
    type: list
    elements: str
    default: []
  names:
    description:
      - What stands for a word at the head of a path's component, in O(files) and O(absent).
      - With C(app) mapped to C(inbox), C(app-web@.service) lands as C(inbox-web@.service). The word counts
        when C(.), C(-) or C(@) follows it, or when it is the whole component.
    type: dict
    default: {}
  owner:
    description: Owner of the files and of the folders that are created.
    type: str
    default: root
  group:
    description: Group of the files and of the folders that are created.
    type: str
    default: root
  mode:
    description: Mode of the files, a quoted octal number.
    type: str
    default: "0644"
  directory_mode:
    description: Mode of the folders that are created. Folders that exist keep theirs.
    type: str
    default: "0755"
  validate:
    description:
      - Command that must succeed before anything changes. C(%s) is a staged copy of O(dest) as it will be,
        what exists there and these files. It runs without a shell, and only when something would change.
      - In check mode a program that is not installed yet skips it.
    type: str
    default: ""
  validate_fail_on_stderr:
    description: Whether a line on stderr is a failure. C(systemd-analyze verify) returns 0 on a misspelt key.
    type: bool
    default: false
  validate_ignore:
    description:
      - Regular expressions. A line of the command's output that one of them matches does not count.
      - When every line it printed is ignored, the exit code is not counted either, since C(systemd-analyze
        verify) returns 1 for a unit whose program is not installed yet.
    type: list
    elements: str
    default: []
  exclusive:
    description:
      - Globs below each of O(exclusive_roots), as on the host, that only this project may write.
      - Whatever they match that is not one of O(files) is moved to O(backup_dir), never deleted.
    type: list
    elements: str
    default: []
  exclusive_roots:
    description: Folders in which O(exclusive) is looked for. Empty means O(dest).
    type: list
    elements: path
    default: []
  backup_dir:
    description: Folder for what was replaced or moved aside, below the time of the run and the full old path.
    type: path
    default: /var/backups/mirror
  payload:
    description: The rendered files. Set by the action plugin.
    type: str
attributes:
  check_mode:
    support: full
    description: Everything up to and including the validation runs, in the staged copy. Nothing changes.
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Install the nginx tree
  mirror:
    tree: nginx
    dest: /etc/nginx
    files: [nginx.conf, conf.d/logging.conf, sites-enabled/app.conf]
    names: {app: "{{ app_name }}"}
    validate: nginx -t -q -c %s/nginx.conf
  notify: Reload nginx

- name: Install the units
  mirror:
    tree: systemd
    dest: /etc/systemd
    files: [system/app-web@.service, system/app-web@.service.d/limits.conf]
    names: {app: "{{ app_name }}"}
    validate: systemd-analyze verify %s/system/{{ app_name }}-web@.service
    validate_fail_on_stderr: true
    validate_ignore: ['Command /srv/\S+ is not executable']
    exclusive: ["{{ app_name }}-web@*"]
    exclusive_roots: [/etc/systemd/system, /run/systemd/system]
"""

RETURN = r"""
changed_files:
  description: Paths that were written, repaired or removed.
  type: list
  elements: str
  returned: always
  sample: [/etc/nginx/nginx.conf]
moved_aside:
  description: Paths matched by O(exclusive) that were not this project's.
  type: list
  elements: str
  returned: always
backup_path:
  description: Folder that holds what was replaced or moved aside, empty when nothing was.
  type: str
  returned: always
  sample: /var/backups/mirror/20260723T083000Z
validation:
  description: Whether the staged tree was validated; C(passed), C(skipped) or C(not needed).
  type: str
  returned: always
"""

STALE_STAGE_SECONDS = 86400


@dataclass(frozen=True)
class Found:
    """What stands at a path: its kind, content or link target, and attributes."""

    kind: str
    content: bytes = b""
    owner: int = -1
    group: int = -1
    mode: int = -1

    @property
    def masked(self):
        """Whether this is a mask: a link to /dev/null, as `systemctl mask` makes it."""
        return self.kind == "link" and self.content == b"/dev/null"

    @property
    def attributes(self):
        """Owner, group and mode, comparable with what is wanted."""
        return self.owner, self.group, self.mode


@dataclass(frozen=True)
class Change:
    """One path that is not as wanted. `content` is None where the path is to be moved away."""

    path: Path
    found: Found
    content: bytes | None = None

    @property
    def worth_saving(self):
        """Whether the old state would be lost: same content in another mode is not, nor is a mask."""
        if self.found.kind == "absent" or self.found.masked:
            return False
        return self.content is None or self.found.kind != "file" or self.found.content != self.content


@dataclass
class Plan:
    """Everything one run would do."""

    writes: list[Change] = field(default_factory=list)
    removals: list[Change] = field(default_factory=list)
    strangers: list[Change] = field(default_factory=list)

    @property
    def away(self):
        """Changes that take something away."""
        return self.removals + self.strangers

    def __bool__(self):
        """Tell whether there is anything to do."""
        return bool(self.writes or self.away)


class Refusal(Exception):
    """Something a person must decide; nothing was changed."""


def look(path):
    """Return what stands at a path, following no link."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Found("absent")
    attributes = {"owner": status.st_uid, "group": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
    if stat.S_ISLNK(status.st_mode):
        return Found("link", os.fsencode(path.readlink()), **attributes)
    if stat.S_ISREG(status.st_mode):
        return Found("file", path.read_bytes(), **attributes)
    return Found("directory" if stat.S_ISDIR(status.st_mode) else "special", **attributes)


def make_plan(dest, wanted, attributes, absent, exclusive, roots):
    """Compare the host with what is wanted. `wanted` maps paths to contents."""
    plan = Plan()
    for path, content in wanted.items():
        refuse_odd_parents(dest, path)
        found = look(path)
        if (found.kind, found.content, *found.attributes) != ("file", content, *attributes):
            plan.writes.append(Change(path, found, content))
    plan.removals = [Change(path, look(path)) for path in absent if os.path.lexists(path)]
    matches = {Path(match) for root in roots for name in exclusive for match in expand(root, name)}
    gone = {change.path for change in plan.removals}
    for match in sorted(matches - gone):
        plan.strangers += [Change(path, look(path)) for path in foreign(match, wanted) if path not in gone]
    return plan


def refuse_odd_parents(dest, path):
    """Refuse to write through a link or a file where the tree has a folder."""
    for parent in path.parents:
        if not parent.is_relative_to(dest) or parent == dest:
            return
        if look(parent).kind not in ("absent", "directory"):
            raise Refusal(f"{parent} is not a folder, but {path} belongs in it: move it away by hand")


def expand(root, pattern):
    """Return what a glob matches below a folder."""
    return glob.glob(os.path.join(glob.escape(str(root)), pattern))  # noqa: PTH118, PTH207


def foreign(path, wanted):
    """Return the topmost paths at or below `path` that hold nothing of ours."""
    if path in wanted:
        return []
    if path.is_symlink() or not path.is_dir() or not any(ours.is_relative_to(path) for ours in wanted):
        return [path]
    return [stranger for child in sorted(path.iterdir()) for stranger in foreign(child, wanted)]


class Stage:
    """A folder beside `dest`, at the same depth, so that relative links in the copy keep their meaning."""

    def __init__(self, dest, attributes):
        """Make the folder, readable by nobody else: a copied tree may hold keys."""
        self.dest = dest
        self.attributes = attributes
        real = Path(os.path.realpath(dest))
        parent = next(path for path in real.parents if path.is_dir())
        self.prefix = f".{dest.name}.mirror-"
        self._sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=self.prefix, dir=parent))

    def _sweep(self, parent):
        """Remove what a killed run left behind."""
        for old in parent.glob(f"{glob.escape(self.prefix)}*"):
            if time.time() - old.stat().st_mtime > STALE_STAGE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)

    def __enter__(self):
        """Return the stage, to be removed at the end of the block."""
        return self

    def __exit__(self, *_exception):
        """Remove the folder, whatever happened."""
        shutil.rmtree(self.path, ignore_errors=True)

    def at(self, path):
        """Return where a path of `dest` is staged."""
        return self.path / path.relative_to(self.dest)

    def copy_existing(self, leave_out):
        """Copy `dest` as it is, without what the plan takes away or replaces."""

        def ignore(folder, names):
            paths = {name: Path(folder, name) for name in names}
            return [name for name, path in paths.items() if path in leave_out or look_kind(path) == "special"]

        if self.dest.is_dir():
            shutil.copytree(self.dest, self.path, symlinks=True, ignore=ignore, dirs_exist_ok=True)
            self.path.chmod(0o700)
            self._turn_links_inward()

    def _turn_links_inward(self):
        """Point absolute links into `dest` at the copy, or the live file would be tested instead."""
        for path in self.path.rglob("*"):
            if path.is_symlink() and path.readlink().is_relative_to(self.dest):
                target = self.at(path.readlink())
                path.unlink()
                path.symlink_to(target)

    def write(self, change):
        """Write one file as it will be, down to its owner and mode, and force it to the disk."""
        path = self.at(change.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.write(change.content)
            owner, group, mode = self.attributes
            os.fchown(stream.fileno(), owner, group)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())


def look_kind(path):
    """Return a path's kind without reading it."""
    mode = path.lstat().st_mode
    return "plain" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) else "special"


class Transaction:
    """Puts a plan in place, and takes every step back when one of them fails."""

    def __init__(self, plan, stage, backup, directory_attributes):
        """Remember the parts; nothing is touched before `run`."""
        self.plan, self.stage, self.backup = plan, stage, backup
        self.directory_attributes = directory_attributes
        self.undo = []
        self.kept = stage.path / ".undo"

    def run(self):
        """Save, move away and rename, in that order: saving can fail without any harm."""
        self.kept.mkdir()
        try:
            for change in self.plan.writes:
                if change.worth_saving and change.found.kind != "directory":
                    self.backup.copy(change.path)
            for change in self.plan.away:
                self._move_away(change.path)
            for change in self.plan.writes:
                self._put(change)
            touched = {change.path.parent for change in self.plan.writes + self.plan.away}
            sync_folders(touched)
        except BaseException:
            for step in reversed(self.undo):
                step()
            raise

    def _move_away(self, path):
        target = self.backup.place(path)
        shutil.move(path, target)
        self.undo.append(partial(shutil.move, target, path))

    def _put(self, change):
        self._make_folders(change.path.parent)
        if change.found.kind == "directory":
            self._move_away(change.path)
        if os.path.lexists(change.path):
            kept = self.kept / str(len(self.undo))
            keep(change.path, kept)
            self.undo.append(partial(replace, kept, change.path))
        else:
            self.undo.append(partial(change.path.unlink, missing_ok=True))
        replace(self.stage.at(change.path), change.path)

    def _make_folders(self, folder):
        owner, group, mode = self.directory_attributes
        for path in reversed([folder, *folder.parents]):
            if not path.exists():
                path.mkdir()
                self.undo.append(path.rmdir)
                os.chown(path, owner, group)
                path.chmod(mode)


class Backup:
    """A folder named by the time of the run, made when the first thing goes into it."""

    def __init__(self, root):
        """Choose a name no other run has."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = (f"{stamp}{suffix}" for suffix in ["", *(f"-{number}" for number in range(1, 1000))])
        self.path = next(root / name for name in names if not (root / name).exists())

    def place(self, path):
        """Return where a path is kept, its parents made."""
        target = self.path / path.relative_to("/")
        if not self.path.exists():
            self.path.mkdir(parents=True, mode=0o700)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def copy(self, path):
        """Keep a copy of a file or link, with its owner and mode."""
        target = self.place(path)
        shutil.copy2(path, target, follow_symlinks=False)
        status = path.lstat()
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)


def keep(path, kept):
    """Keep what stands at a path for an undo: a second name for it, or a copy on another file system."""
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, kept, follow_symlinks=False)


def replace(source, target):
    """Rename over the target, by way of its own folder where that is another file system."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        neighbour = target.with_name(f".{target.name}.mirror")
        shutil.copy2(source, neighbour, follow_symlinks=False)
        status = source.lstat()
        os.chown(neighbour, status.st_uid, status.st_gid, follow_symlinks=False)
        neighbour.rename(target)


def sync_folders(folders):
    """Force renames to the disk."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def validate(module, stage):
    """Run the validation on the staged tree and return what came of it.

    Raises Refusal with the command's output, staged paths spelt as the real ones.
    """
    command = module.params["validate"]
    if "%s" not in command:
        raise Refusal(f"validate must hold %s, the staged tree: {command}")
    argv = [word.replace("%s", str(stage.path)) for word in shlex.split(command)]
    program = module.get_bin_path(argv[0])
    if program is None:
        if module.check_mode:
            module.warn(f"{argv[0]} is not installed yet: the staged tree was not validated")
            return "skipped"
        raise Refusal(f"{argv[0]}, which validates {stage.dest}, is not installed")
    code, out, err = module.run_command([program, *argv[1:]], environ_update={"LC_ALL": "C"})
    if verdict(module.params, code, out, err):
        return "passed"
    shown = shlex.join(argv).replace(str(stage.path), str(stage.dest))
    output = (err + out).strip().replace(str(stage.path), str(stage.dest)) or "(no output)"
    raise Refusal(
        f"Validation failed with exit code {code}; nothing in {stage.dest} was changed.\n"
        f"Run on a staged copy: {shown}\n{output}"
    )


def verdict(params, code, out, err):
    """Tell whether a validation passed, given its exit code and output."""

    def counts(line):
        return line.strip() and not any(re.search(pattern, line) for pattern in params["validate_ignore"])

    if params["validate_fail_on_stderr"] and any(counts(line) for line in err.splitlines()):
        return False
    everything_ignored = (err + out).strip() and not any(counts(line) for line in (err + out).splitlines())
    return code == 0 or bool(everything_ignored)


def describe(found):
    """Return what a diff shows for something that is not a plain file."""
    if found.kind == "link":
        return f"(link to {os.fsdecode(found.content)})\n"
    return "" if found.kind == "absent" else f"({found.kind})\n"


def content_diff(change, note):
    """Return the diff of one path's content, or None where only attributes differ."""
    found, after = change.found, change.content
    if found.kind == "file" and found.content == after:
        return None
    shown = {"before_header": str(change.path), "after_header": f"{change.path}{note}"}
    before = found.content if found.kind == "file" else describe(found).encode()
    if b"\0" in before:
        return {**shown, "dst_binary": 1}
    if after is not None and b"\0" in after:
        return {**shown, "src_binary": 1}
    return {**shown, "before": text(before), "after": text(after or b"")}


def text(content):
    """Return bytes as text for a person."""
    return content.decode("utf-8", "replace")


def attribute_diff(change, attributes):
    """Return the diff of a file's owner, group and mode, or None where they agree."""
    if change.found.kind != "file" or change.found.attributes == attributes:
        return None
    before, after = attribute_lines(*change.found.attributes), attribute_lines(*attributes)
    header = f"{change.path} (attributes)"
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def attribute_lines(owner, group, mode):
    """Return attributes as lines."""
    return f"owner: {owner}\ngroup: {group}\nmode: {mode:04o}\n"


def diffs(plan, attributes):
    """Return the diff of a whole plan, with real paths."""
    found = [content_diff(change, "") for change in plan.writes]
    found += [attribute_diff(change, attributes) for change in plan.writes]
    found += [content_diff(change, " (removed)") for change in plan.removals]
    found += [content_diff(change, " (moved aside)") for change in plan.strangers]
    return [diff for diff in found if diff]


def octal(option, value):
    """Return a mode given as a quoted octal number."""
    if not re.fullmatch(r"0?[0-7]{3,4}", value):
        raise Refusal(f'{option} must be a quoted octal number such as "0644", not {value!r}')
    return int(value, 8)


def account(module, option, lookup):
    """Return a user's or group's number, or -1 in check mode when it does not exist yet."""
    name = module.params[option]
    if name.isdecimal():
        return int(name)
    try:
        return lookup(name)
    except KeyError:
        if module.check_mode:
            return os.geteuid() if option == "owner" else os.getegid()
        raise Refusal(f"{option} {name} does not exist on this host") from None


def owner_number(name):
    """Return a user's number."""
    return pwd.getpwnam(name).pw_uid


def group_number(name):
    """Return a group's number."""
    return grp.getgrnam(name).gr_gid


def read_wanted(module, dest):
    """Return the files to install, from path to content."""
    if not module.params["payload"]:
        raise Refusal("mirror is called through its action plugin: set action_plugins in ansible.cfg")
    entries = json.loads(zlib.decompress(base64.b64decode(module.params["payload"])))
    return {dest / entry["path"]: base64.b64decode(entry["content"]) for entry in entries}


def plan_from(module, dest, attributes):
    """Return the plan for a module's parameters."""
    wanted = read_wanted(module, dest)
    absent = [dest / name for name in module.params["absent"]]
    both = sorted(str(path) for path in absent if path in wanted)
    if both:
        raise Refusal(f"both in files and absent: {', '.join(both)}")
    roots = module.params["exclusive_roots"] or [str(dest)]
    for pattern in module.params["exclusive"]:
        if not pattern.strip("*/?."):
            raise Refusal(f"exclusive {pattern!r} would claim everything below {', '.join(roots)}")
    return make_plan(dest, wanted, attributes, absent, module.params["exclusive"], roots)


def carry_out(module, plan, stage, backup, directory_attributes):
    """Stage, validate and, outside check mode, put in place. Return what came of the validation."""
    outcome = "not needed"
    if module.params["validate"]:
        stage.copy_existing({change.path for change in plan.writes + plan.away})
    for change in plan.writes:
        stage.write(change)
    if module.params["validate"]:
        outcome = validate(module, stage)
    if not module.check_mode:
        Transaction(plan, stage, backup, directory_attributes).run()
    return outcome


def converge(module):
    """Bring the host to what is wanted and return the module's result."""
    dest = Path(os.path.normpath(module.params["dest"]))
    if not dest.is_absolute() or dest == Path("/"):
        raise Refusal(f"dest must be the absolute path of a folder, not {module.params['dest']}")
    owner, group = account(module, "owner", owner_number), account(module, "group", group_number)
    attributes = owner, group, octal("mode", module.params["mode"])
    directory_attributes = owner, group, octal("directory_mode", module.params["directory_mode"])
    plan = plan_from(module, dest, attributes)
    backup, outcome = Backup(Path(module.params["backup_dir"])), "not needed"
    if plan:
        with Stage(dest, attributes) as stage:
            outcome = carry_out(module, plan, stage, backup, directory_attributes)
    result = {
        "changed": bool(plan),
        "changed_files": [str(change.path) for change in plan.writes + plan.removals],
        "moved_aside": [str(change.path) for change in plan.strangers],
        "backup_path": str(backup.path) if backup.path.exists() else "",
        "validation": outcome,
    }
    return {**result, "diff": diffs(plan, attributes)} if module._diff else result


def argument_spec():
    """Return the module's arguments; the action plugin replaces tree, files and names by the payload."""
    names = {"type": "list", "elements": "str", "default": []}
    return {
        "tree": {"type": "str", "required": True},
        "dest": {"type": "path", "required": True},
        "files": names,
        "absent": names,
        "names": {"type": "dict", "default": {}},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": "0644"},
        "directory_mode": {"type": "str", "default": "0755"},
        "validate": {"type": "str", "default": ""},
        "validate_fail_on_stderr": {"type": "bool", "default": False},
        "validate_ignore": names,
        "exclusive": names,
        "exclusive_roots": {"type": "list", "elements": "path", "default": []},
        "backup_dir": {"type": "path", "default": "/var/backups/mirror"},
        # Not a secret: no_log keeps sixty kilobytes of base64 out of the host's journal.
        "payload": {"type": "str", "no_log": True},
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = converge(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    except OSError as error:
        module.fail_json(msg=f"{error}; the host is as it was before this task")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
