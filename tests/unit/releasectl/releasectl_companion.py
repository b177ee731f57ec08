"""A little process in the place of Celery's worker, beat or Flower, of one release.

Run as `python releasectl_companion.py KIND RELEASE_FOLDER READY_FD RUN_DIR`; what it does wrong is in the
release's `src/behaviour.json`, below its kind.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

kind, folder, ready_fd, run_dir = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
behaviour = json.loads((folder / "src/behaviour.json").read_text()).get(kind, {})
told = threading.Event()
app_env = folder.parent.parent / "app.env"
setting = app_env.read_text() if app_env.exists() else ""


def note(word):
    """Write down when a beat begins and ends."""
    with (run_dir / "beats.log").open("a") as file:
        file.write(f"{word} {folder.name}\n")


print(f"booting {kind} of {folder.name} with {setting!r}", flush=True)
signal.signal(signal.SIGTERM, lambda *_: told.set())
crash = behaviour.get("crash") or ("SettingsError: no such queue" if setting == f"no {kind}" else "")
if crash and not behaviour.get("held"):
    print(crash, flush=True)
    sys.exit(3)
if behaviour.get("hang"):
    told.wait(60)
    sys.exit(0)
time.sleep(behaviour.get("start_seconds", 0))
if kind == "beat":
    while (run_dir / f"{folder.name}.hold").exists() and not told.wait(0.02):
        pass
    if told.is_set():
        sys.exit(0)
    if crash:
        print(crash, flush=True)
        sys.exit(3)
    note("begins")
if kind == "flower":
    listener = socket.socket(socket.AF_UNIX)
    (run_dir / "flower").mkdir(exist_ok=True)
    path = run_dir / "flower" / f"{folder.name}.sock"
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen()
os.write(ready_fd, b"READY")
told.wait()
if kind == "beat":
    note("ends")
# A worker's running task.
time.sleep(behaviour.get("task_seconds", 0))
