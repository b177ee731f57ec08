"""How to start a container that boots systemd, on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from target_host.shell import as_root, run

CAP_SYS_RESOURCE = 24
"""Its bit in /proc/<pid>/status, from linux/capability.h."""

HYBRID_CONTROLLERS_PATH = Path("/sys/fs/cgroup/unified/cgroup.controllers")
"""Where a machine with both kinds of cgroup lists the controllers that it left to the second."""

# What systemd and the sandboxes of its units need of the kernel, without `--privileged`: that would also hand
# over the controller's disks, clock and kernel modules. Debian 13's systemd-modules-load then knows it has no
# business here, where under `--privileged` it fails. Tried with crun 1.8 and runc 1.1, systemd 252 and 257.
BOOT_SYSTEMD = (
    "--systemd=always",
    "--cap-add=ALL",
    "--cap-drop=SYS_MODULE,SYS_TIME,SYS_BOOT,SYS_RAWIO,SYSLOG,MAC_ADMIN,MAC_OVERRIDE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=label=disable",
    # Without it /proc/sys is read-only, and a sysctl of the network cannot be set.
    "--security-opt=unmask=ALL",
    # podman's own limits are made for one program, not for a host with a database.
    "--pids-limit=-1",
    "--shm-size=256m",
)


def needs_runc() -> bool:
    """Tell whether crun, podman's own choice on Debian, refuses this machine.

    It does so where cgroups are in hybrid mode and one controller, hugetlb say, is the second kind's
    (crun 1.8: "cgroups in hybrid mode not supported"). runc takes what the first kind has.
    """
    return HYBRID_CONTROLLERS_PATH.exists() and bool(HYBRID_CONTROLLERS_PATH.read_text().split())


def podman_options() -> list[str]:
    """Return the options that choose podman's runtime: TARGET_HOST_RUNTIME's, or the one that works here."""
    name = os.environ.get("TARGET_HOST_RUNTIME") or ("runc" if needs_runc() else "")
    return ["--runtime", name] if name else []


@dataclass(frozen=True)
class Facts:
    """What decides whether podman's usual resource limits can be set."""

    sys_resource: bool
    """Whether root here may raise a hard limit."""
    nofile: int
    nproc: int
    """Hard limits of this process."""
    pid_max: int


def read_facts() -> Facts:
    """Look at what root is here: it is root who runs podman."""
    status = run(as_root(["cat", "/proc/self/status", "/proc/self/limits"])).stdout
    return parse_facts(status, Path("/proc/sys/kernel/pid_max").read_text())


def parse_facts(status_and_limits: str, pid_max: str) -> Facts:
    """Read facts from the text of /proc/self/status and /proc/self/limits."""
    capabilities, hard = 0, {}
    for line in status_and_limits.splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
        for limit in ("Max open files", "Max processes"):
            if line.startswith(limit):
                value = line.removeprefix(limit).split()[1]
                hard[limit] = int(pid_max) if value == "unlimited" else int(value)
    return Facts(
        sys_resource=bool(capabilities >> CAP_SYS_RESOURCE & 1),
        nofile=hard["Max open files"],
        nproc=hard["Max processes"],
        pid_max=int(pid_max),
    )


def limit_options(facts: Facts) -> list[str]:
    """Return podman's options for resource limits, none where its own can be set.

    podman asks for a million open files and processes. Without CAP_SYS_RESOURCE no limit can be raised, and
    crun and runc alike refuse to start. podman lowers its own process limit to the kernel's pid_max
    (containers/common, getDefaultProcessLimits), so no more than that can be handed to a container.
    """
    if facts.sys_resource:
        return []
    nproc = min(facts.nproc, facts.pid_max)
    return [f"--ulimit=nofile={facts.nofile}:{facts.nofile}", f"--ulimit=nproc={nproc}:{nproc}"]
