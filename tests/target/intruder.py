"""What somebody tries who has taken over the web process: run inside its sandbox, it prints what came of it.

Each try is harmless where it succeeds, and undone. `refused` is the kernel's, systemd's or PostgreSQL's no;
`done` is a hole. Run by root outside of the sandbox it is the control: there the same tries have to succeed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

APP, RELEASE, CLUSTER, VICTIM = sys.argv[1:5]
ROOT = Path(f"/srv/{APP}")
CODE = ROOT / "releases" / RELEASE
LIBC = ctypes.CDLL(None, use_errno=True)
# By their numbers, which glibc has no names for: x86-64 and arm64.
NUMBERS = {
    "init_module": (175, 105), "bpf": (321, 280), "perf_event_open": (298, 241), "kexec_load": (246, 104),
    "keyctl": (250, 219), "pivot_root": (155, 41), "reboot": (169, 142), "swapon": (167, 224),
    "userfaultfd": (323, 282), "process_vm_readv": (310, 270),
}  # fmt: skip
REFUSALS = {errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOSYS, errno.EAFNOSUPPORT}


def checked(result: int) -> int:
    """Raise what a call of libc's said."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def call(name: str, *arguments: object) -> None:
    """Make a system call; one that fails for its senseless arguments was let through."""
    number = NUMBERS[name][platform.machine() == "aarch64"]
    try:
        checked(LIBC.syscall(number, *arguments))
    except OSError as error:
        if error.errno in REFUSALS:
            raise


def write(path: str | Path) -> None:
    """Make a file beside others."""
    target = Path(path) / ".intruder"
    target.write_text("was here")
    target.unlink()


def change(path: Path) -> None:
    """Open a file for changing; not a byte is."""
    with path.open("r+b"):
        pass


def read(path: str | Path) -> None:
    """Read a file, or the first that stands below a folder."""
    path = Path(path)
    if path.is_dir() or not os.access(path, os.F_OK):
        list(path.iterdir())
        return
    with path.open("rb") as stream:
        stream.read(1)


def see_others() -> None:
    """See a process of another account."""
    accounts = {path.stat().st_uid for path in Path("/proc").iterdir() if path.name.isdigit()}
    if accounts <= {os.getuid()}:
        raise PermissionError(errno.EACCES, "none but its own")


def run_dropped(folder: str | Path) -> None:
    """Bring a program and run it."""
    program = Path(folder) / "intruder-program"
    shutil.copyfile("/bin/true", program)
    try:
        program.chmod(0o700)
        subprocess.run([program], check=True)
    finally:
        program.unlink()


def make_setuid() -> None:
    """Leave a program that gives its account to whoever runs it."""
    program = Path("/tmp/intruder-setuid")
    program.touch()
    try:
        program.chmod(0o4755)
    finally:
        program.unlink()


def writable_code() -> None:
    """Get memory that can be written and run."""
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def turned_code() -> None:
    """Write into memory, then have it run."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    checked(LIBC.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC))


def superuser() -> None:
    """Sign in to PostgreSQL as its superuser, over the socket the app has."""
    import psycopg

    try:
        psycopg.connect("host=/run/postgresql user=postgres dbname=postgres").close()
    except psycopg.OperationalError as error:
        raise PermissionError(errno.EACCES, str(error).strip().splitlines()[-1]) from None


def trace() -> None:
    """Look into another process, a child of its own at that."""
    child = subprocess.Popen(["sleep", "5"])
    try:
        checked(LIBC.ptrace(16, child.pid, None, None))
    finally:
        child.kill()
        child.wait()


def connect(path: str) -> None:
    """Connect to a socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(path)


def raw(family: int, kind: int, protocol: int = 0) -> None:
    """Get a socket that sees or forges packets."""
    socket.socket(family, kind, protocol).close()


def become(uid: int) -> None:
    """Become another account, in a process that ends with it."""
    child = os.fork()
    if not child:
        try:
            os.setuid(uid)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))


def in_child(function, *arguments: object) -> None:
    """Try what would change this very process, in one that ends with it."""
    child = os.fork()
    if not child:
        try:
            function(*arguments)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(abs(status), os.strerror(abs(status)))


def unshare(flag: int) -> None:
    """Get a namespace of its own, where it would be root."""
    in_child(lambda: checked(LIBC.unshare(flag)))


def own_mount() -> None:
    """Lay a file system over another."""
    checked(LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None))
    checked(LIBC.umount(b"/mnt"))


def own_device() -> None:
    """Make a device, as /dev/null is one."""
    path = Path("/tmp/intruder-null")
    os.mknod(path, 0o20600, os.makedev(1, 3))
    path.unlink()


def real_time() -> None:
    """Take the processor from everybody."""
    in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))


def kernel_setting() -> None:
    """Change a setting of the kernel's to what it is."""
    path = Path("/proc/sys/kernel/randomize_va_space")
    path.write_text(path.read_text())


def host_name() -> None:
    """Rename the host to what it is called."""
    socket.sethostname(socket.gethostname())


PRIVATE = (
    "/etc/shadow", "/root", "/etc/ssh/ssh_host_ed25519_key", f"/etc/ssl/{APP}/privkey.pem",
    f"/etc/{APP}/credentials.encrypted", "/var/lib/systemd/credential.secret", "/var/backups/mirror",
    f"/var/lib/postgresql/{CLUSTER}/main/PG_VERSION", "/var/lib/redis/appendonlydir", "/etc/redis/redis.conf",
    f"{VICTIM}/credentials/secret", "/proc/1/environ", "/proc/1/maps",
)  # fmt: skip
WRITABLE = (
    "/etc", "/usr", "/usr/local/bin", "/usr/local/lib/releasectl", "/boot", "/var/lib", "/var/log",
    "/etc/systemd/system", "/run/systemd/system", f"/run/{APP}", f"/etc/{APP}",
    ROOT, ROOT / "releases", CODE, CODE / "src", CODE / "venv/bin",
)  # fmt: skip
DROPS = (ROOT / "shared", f"/run/{APP}/{RELEASE}", "/tmp", "/var/tmp", "/dev/shm")
TRIES = {
    **{f"write {path}": lambda path=path: write(path) for path in WRITABLE},
    **{f"read {path}": lambda path=path: read(path) for path in PRIVATE},
    **{f"run a program from {path}": lambda path=path: run_dropped(path) for path in DROPS},
    "change its own code": lambda: change(next((CODE / "venv").rglob("flask_ops/__init__.py"))),
    "see processes of others": see_others,
    "signal another process": lambda: os.kill(1, 0),
    "look into another process": trace,
    "read another process's memory": lambda: call("process_vm_readv", 1, None, 0, None, 0, 0),
    "sign in to PostgreSQL as its superuser": superuser,
    "command systemd": lambda: connect("/run/systemd/private"),
    "raw IP socket": lambda: raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet socket": lambda: raw(socket.AF_PACKET, socket.SOCK_RAW),
    "become root": lambda: become(0),
    "leave a setuid program": make_setuid,
    "a user namespace": lambda: unshare(0x10000000),
    "a mount namespace": lambda: unshare(0x00020000),
    "a network namespace": lambda: unshare(0x40000000),
    "mount": own_mount,
    "another root": lambda: in_child(os.chroot, "/"),
    "writable and executable memory": writable_code,
    "memory made executable": turned_code,
    "real-time scheduling": real_time,
    "a kernel setting": kernel_setting,
    "the host's name": host_name,
    "a device": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)),
    "a device of its own": own_device,
    "load a module": lambda: call("init_module", None, 0, b""),
    "a BPF program": lambda: call("bpf", 99, None, 0),
    "performance counters": lambda: call("perf_event_open", None, 0, -1, -1, 99),
    "another kernel": lambda: call("kexec_load", 0, 17, None, 0),
    "swap": lambda: call("swapon", b"/nowhere", 0),
    "pivot_root": lambda: call("pivot_root", b".", b"."),
    "page faults of its own": lambda: call("userfaultfd", 99999),
    "reboot": lambda: call("reboot", 0, 0, 0, 0),
}


def outcome(attempt) -> str:
    """Return what came of a try."""
    try:
        attempt()
    except (OSError, subprocess.SubprocessError) as error:
        return f"refused: {error}"
    return "done"


json.dump({name: outcome(attempt) for name, attempt in TRIES.items()}, sys.stdout, indent=1)
