"""Who may read what: secrets, logs, sockets; and what on the disks anybody may change, or run as another."""

from __future__ import annotations

import stat
from pathlib import Path

from ansible.module_utils.audit_measurement import Unknown, ask, listed, measurement

# File systems of the kernel's making, and those whose files are another's.
NOT_A_DISK = {
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devtmpfs",
    "devpts",
    "mqueue",
    "debugfs",
    "tracefs",
    "securityfs",
}
NOT_A_DISK |= {
    "pstore",
    "bpf",
    "autofs",
    "configfs",
    "fusectl",
    "hugetlbfs",
    "binfmt_misc",
    "nsfs",
    "ramfs",
    "squashfs",
}
NOT_A_DISK |= {"nfs", "nfs4", "cifs", "fuse.sshfs", "efivarfs", "rpc_pipefs"}


def measure_private(kinds: list[dict]) -> list[dict]:
    """Return which files of each kind are open to accounts that have no business with them.

    `kinds` each hold a `name`, a `title` and `paths`, patterns as a shell has them.
    """
    found = []
    for kind in kinds:
        paths = [
            path
            for pattern in kind["paths"]
            for path in sorted(map(str, Path("/").glob(pattern.lstrip("/"))))
        ]
        open_ones = [path for path in paths if open_to_others(path)]
        said = f"open: {listed(open_ones)}" if open_ones else f"{len(paths)} looked at"
        name, expected = f"files/{kind['name']}", "no other account reaches them"
        cure = f"chmod o= {' '.join(open_ones[:3])}"
        found.append(measurement(name, kind["title"], expected, said, passed=not open_ones, cure=cure))
    return found


def open_to_others(path: str) -> bool:
    """Tell whether one who is neither owner nor in the group can read a file, or connect to a socket."""
    mode = Path(path).stat().st_mode
    wanted = stat.S_IWOTH if stat.S_ISSOCK(mode) else stat.S_IROTH
    above = Path(path).resolve().parents
    return bool(mode & wanted) and all(folder.stat().st_mode & stat.S_IXOTH for folder in above)


def measure_disks(folders: list[str] | None = None) -> list[dict]:
    """Return what on the disks anybody may write, and what runs as another account and is not Debian's."""
    places = folders or disks()
    tests = ["-type", "l", "-prune", "-o", "(", "-type", "d", "!", "-perm", "-1000", "-o", "-type", "f", ")"]
    writable = search(places, [*tests, "-perm", "-0002", "-printf", "w %p\\n"])
    setuid = [
        path
        for path in search(places, ["-type", "f", "-perm", "/6000", "-printf", "s %p\\n"])
        if not packaged(path)
    ]
    return [
        measurement(
            "disk/world-writable",
            "Files and folders that anybody may change",
            "none",
            listed(writable),
            passed=not writable,
            cure=f"chmod o-w {' '.join(writable[:3])}",
        ),
        measurement(
            "disk/setuid",
            "Programs that run as another account, beyond Debian's",
            "none",
            listed(setuid),
            passed=not setuid,
            cure=f"ls -l {' '.join(setuid[:3])}",
        ),
    ]


def disks() -> list[str]:
    """Return where file systems are mounted whose files are this host's."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    here = {row[1] for row in rows if row[2] not in NOT_A_DISK and Path(row[1]).is_dir()}
    # Of a container, which may itself be the host: the others' files are their images'.
    inside = {row[1] for row in rows if row[2] == "overlay" and row[1] != "/"}
    return sorted(here - inside)


def search(places: list[str], tests: list[str]) -> list[str]:
    """Return what find finds, at the lowest priority."""
    said = ask("nice", "-n", "19", "find", *places, "-xdev", "-ignore_readdir_race", *tests)
    return sorted({line[2:] for line in said.splitlines()})


def packaged(path: str) -> bool:
    """Tell whether a file came with a package. Where /bin is a link to /usr/bin, dpkg may know either."""
    for known in (path, path.removeprefix("/usr")):
        try:
            ask("dpkg-query", "--search", known)
        except Unknown as problem:
            if "not installed" in str(problem):
                raise
        else:
            return True
    return False
