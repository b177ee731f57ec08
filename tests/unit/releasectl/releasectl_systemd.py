"""A small systemd: holds real sockets, starts and stops real processes, answers systemctl's questions.

It runs as threads of the test process; `systemctl` and `journalctl` on PATH are clients of it, so the
program under test calls commands, as in production.
"""

import contextlib
import fnmatch
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import MutableSet
from pathlib import Path

INSTANCE = Path(__file__).with_name("releasectl_instance.py")
COMPANION = Path(__file__).with_name("releasectl_companion.py")
# Perl because it is on every Debian and starts in a tenth of Python's time: an activation asks 20 times.
# The numbers are AF_UNIX and SOCK_STREAM, so that no module need be loaded.
CLIENT = r"""#!/usr/bin/perl
my $c;
socket($c, 1, 1, 0) && connect($c, pack("Sa108", 1, "{control}")) || die;
(my $name = $0) =~ s{{.*/}}{{}};
syswrite($c, join("\0", $name, @ARGV));
shutdown($c, 1);
my ($code, $out, $err) = split(/\0/, join("", <$c>), 3);
print STDOUT $out;
print STDERR $err;
exit($code);
"""


class Unit:
    def __init__(self):
        self.active, self.sub, self.result, self.invocation = "inactive", "dead", "success", ""
        self.exit_status, self.process, self.listener, self.stops = "0", None, None, 0
        # As systemd's jobs: a stop nobody waits for and the next one take turns, and so do starts.
        self.turn, self.begin = threading.RLock(), threading.Lock()

    def set(self, active, sub, result="success"):
        self.active, self.sub, self.result = active, sub, result


class Boot(MutableSet):
    """The units that are started at boot: links in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.links = folder / "multi-user.target.wants"

    def __contains__(self, name):
        return (self.links / name).is_symlink()

    def __iter__(self):
        return (link.name for link in self.links.glob("*"))

    def __len__(self):
        return sum(1 for _ in self)

    def add(self, name):
        self.links.mkdir(parents=True, exist_ok=True)
        if name not in self:
            (self.links / name).symlink_to("anywhere")

    def discard(self, name):
        (self.links / name).unlink(missing_ok=True)


class FakeSystemd:
    def __init__(self, folder, root, run_dir):
        self.folder, self.root, self.run_dir = folder, root, run_dir
        self.units, self.boot, self.calls = {}, Boot(folder / "units"), []
        self.refuse, self.delay_stop = set(), 0
        self.closed = False
        folder.mkdir()
        (folder / "journal").mkdir()
        control = folder / "control.sock"
        for name in ("systemctl", "journalctl", "systemd-run"):
            (folder / name).write_text(CLIENT.format(control=control))
            (folder / name).chmod(0o755)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(control))
        self.server.listen(50)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def unit(self, name):
        return self.units.setdefault(name, Unit())

    def up(self):
        return sorted(name for name, unit in self.units.items() if unit.active not in ("inactive", "failed"))

    def close(self):
        # A start that nobody waits for may still be on its way.
        self.closed = True
        # Not just closed: an accept() that a signal restarts would go on with whatever has the number next.
        self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.server.close()
        for unit in self.units.values():
            if unit.process and unit.process.poll() is None:
                unit.process.kill()
                unit.process.wait()
            if unit.listener:
                unit.listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client):
        with client:
            words = b""
            while part := client.recv(65536):
                words += part
            words = words.decode().split("\0")
            self.calls.append(words)
            try:
                code, out, err = self._do(words)
            except Exception:
                # On the screen of the program under test: in a thread it would pass unread.
                code, out, err = 1, "", traceback.format_exc()
            with contextlib.suppress(OSError):
                client.sendall(f"{code}\0{out}\0{err}".encode())

    def _do(self, words):
        if words[0] == "journalctl":
            return self._journal(words)
        verb, names = words[1], [word for word in words[2:] if "@" in word and not word.startswith("-")]
        if words[0] == "systemd-run":
            # To the end: a test looks at what came of it.
            return subprocess.run(words[words.index("sh") :], check=False).returncode, "", ""
        if verb in self.refuse or (verb == "start" and self.refuse & set(names)):
            return 1, "", f"{verb} refused"
        if "--no-block" in words:
            # A job is there as soon as systemctl returns.
            for unit in map(self.unit, names if verb == "start" else ()):
                if unit.active in ("inactive", "failed"):
                    unit.set("activating", "start")
            # Each unit by itself: none waits for another one's end.
            for name in names:
                threading.Thread(target=self._act, args=(verb, [name]), daemon=True).start()
            return 0, "", ""
        return self._act(verb, names)

    def _act(self, verb, names):
        return getattr(self, "do_" + verb.replace("-", "_"))(names)

    def _journal(self, words):
        if "--unit" not in words:
            return 0, "", ""
        path = self.folder / "journal" / words[words.index("--unit") + 1]
        return 0, path.read_text() if path.exists() else "", ""

    def do_show(self, names):
        found = [one for name in names for one in self._matching(name)]
        return 0, "\n".join(self._told(name, self.unit(name)) for name in found), ""

    def _matching(self, name):
        return fnmatch.filter(self.units, name) if "*" in name else [name]

    def _told(self, name, unit):
        told = {"Id": name, "ActiveState": unit.active, "SubState": unit.sub, "Result": unit.result}
        told |= {"Job": "", "InvocationID": unit.invocation, "ExecMainStatus": unit.exit_status}
        return "".join(f"{name}={value}\n" for name, value in told.items())

    def do_enable(self, names):
        self.boot |= set(names)
        return 0, "", ""

    def do_disable(self, names):
        self.boot -= set(names)
        return 0, "", ""

    def do_reset_failed(self, names):
        for name in names:
            if self.unit(name).active == "failed":
                self.unit(name).set("inactive", "dead")
        return 0, "", ""

    def do_daemon_reload(self, _names):
        return 0, "", ""

    def do_start(self, names):
        done = [self._start(name) for name in names]
        return (0 if all(done) else 1), "", ""

    def do_stop(self, names):
        for name in names:
            if name.endswith(".socket"):
                # As with Requires=: the service goes first.
                self._stop(name.replace(".socket", ".service"))
                self._close(self.unit(name))
            self._stop(name)
        return 0, "", ""

    def do_restart(self, names):
        for name in names:
            self._stop(name)
        return self.do_start(names)

    def _release(self, name):
        return name.split("@")[1].rsplit(".", 1)[0]

    def _start(self, name):
        unit = self.unit(name)
        stops = unit.stops
        while unit.active == "deactivating":
            # A start waits for the stop that is on its way, and another stop takes its place.
            time.sleep(0.02)
        if unit.stops != stops:
            return False
        if unit.active == "active":
            return True
        if name.endswith(".socket"):
            return self._listen(unit, self._release(name))
        if "-migrate@" in name or "-contract@" in name:
            return self._migrate(name, unit)
        if "-web@" not in name:
            with unit.begin:
                return unit.active == "active" or self._spawn_companion(name, unit)
        held = self.unit(name.replace(".service", ".socket"))
        self._listen(held, self._release(name))
        with unit.begin:
            return unit.active == "active" or self._spawn(name, unit, held.listener)

    def _listen(self, unit, release):
        if unit.listener is None:
            path = self.run_dir / f"{release}.sock"
            path.unlink(missing_ok=True)
            unit.listener = socket.socket(socket.AF_UNIX)
            unit.listener.bind(str(path))
            unit.listener.listen(512)
            unit.set("active", "listening")
        return True

    def _close(self, unit):
        listener, unit.listener = unit.listener, None
        if listener is not None:
            # A stop nobody waited for may come after the test took everything down.
            with contextlib.suppress(OSError):
                Path(listener.getsockname()).unlink(missing_ok=True)
                listener.close()
        unit.set("inactive", "dead")

    def _spawn(self, name, unit, listener):
        release = self._release(name)
        # RuntimeDirectory=, which RuntimeDirectoryPreserve= lets outlive the unit.
        (self.run_dir / release / "metrics").mkdir(parents=True, exist_ok=True)
        ready, told = os.pipe()
        words = [self.root / "releases" / release, listener.fileno(), told, self.run_dir / f"{release}.drain"]
        return self._run(name, unit, [INSTANCE, *words], (listener.fileno(), told), ready)

    def _spawn_companion(self, name, unit):
        release, kind = self._release(name), name.split("@")[0].rsplit("-", 1)[1]
        (self.run_dir / release / f"metrics-{kind}").mkdir(parents=True, exist_ok=True)
        ready, told = os.pipe()
        words = [kind, self.root / "releases" / release, told, self.run_dir]
        return self._run(name, unit, [COMPANION, *words], (told,), ready)

    def _run(self, name, unit, words, pass_fds, ready):
        if self.closed:
            return False
        with (self.folder / "journal" / name).open("a") as journal:
            unit.process = subprocess.Popen(
                [sys.executable, "-IS", *map(str, words)],
                pass_fds=pass_fds,
                stdout=journal,
                stderr=journal,
            )
        os.close(pass_fds[-1])
        unit.set("activating", "start")
        unit.invocation = secrets.token_hex(16)
        threading.Thread(target=self._watch, args=(unit, unit.process), daemon=True).start()
        with os.fdopen(ready, "rb") as pipe:
            came_up = pipe.read(5) == b"READY"
        if came_up:
            unit.set("active", "running")
        return came_up

    def _watch(self, unit, process):
        unit.exit_status = str(process.wait())
        time.sleep(0.02)
        if unit.process is process and unit.active in ("active", "activating"):
            unit.set("activating", "auto-restart", "exit-code")

    def _stop(self, name):
        self.unit(name).stops += 1
        with self.unit(name).turn:
            self._end(name, self.unit(name))

    def _end(self, name, unit):
        process = unit.process
        if process is not None and process.poll() is None:
            unit.set("deactivating", "stop-sigterm")
            time.sleep(self.delay_stop)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        unit.process = None
        if not name.endswith(".socket") or unit.listener is None:
            unit.set("inactive", "dead")

    def _migrate(self, name, unit):
        folder = self.root / "releases" / self._release(name)
        told = json.loads((folder / "src/behaviour.json").read_text())
        text = told.get("migrate_output", "ran 1 migration")
        (self.folder / "journal" / name).write_text(text + "\n")
        time.sleep(told.get("migrate_seconds", 0))
        if told.get("migrate_fails"):
            unit.exit_status = str(told.get("migrate_status", 1))
            unit.set("failed", "failed", "exit-code")
            return False
        return True
