"""A little server in the place of gunicorn: one release's instance, on a socket it was handed.

Run as `python releasectl_instance.py RELEASE_FOLDER LISTEN_FD READY_FD DRAIN_FILE`; what it does wrong is
in the release's `src/behaviour.json`.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

folder, listen_fd, ready_fd, drain_file = (
    Path(sys.argv[1]),
    int(sys.argv[2]),
    int(sys.argv[3]),
    Path(sys.argv[4]),
)
behaviour = json.loads((folder / "src/behaviour.json").read_text())
release = folder.name
stopping = threading.Event()


def answer(path):
    """Return status, body and whether to close."""
    if path == "/version" and behaviour.get("crash_on_traffic"):
        print("Segmentation fault (core dumped)", flush=True)
        os._exit(139)
    if path == behaviour.get("prefix", "") + "/metrics" and "metrics" in behaviour:
        return 200, behaviour["metrics"].replace("RELEASE", release), False
    if path == "/slow":
        time.sleep(1)
    draining = drain_file.exists()
    status, body = 200, {"release": behaviour.get("names", release), "setting": setting}
    if path.endswith("/readyz") and path != behaviour.get("prefix", "") + "/readyz":
        status, body = 404, {}
    elif path.endswith("/readyz"):
        ready = behaviour.get("ready", True) and not draining and time.monotonic() < unready_at
        ready = ready and not Path(behaviour.get("unready_when", "/nonexistent")).exists()
        status = 200 if ready else 503
        if (folder.parents[1] / "heads.json").exists():
            found = {"heads": json.loads((folder.parents[1] / "heads.json").read_text())}
            body["checks"] = [{"id": "redis"}, {"id": "database", "found": found}]
        if "checks" in behaviour:
            body["checks"] = behaviour["checks"]
        body["status"] = "ready" if ready else "draining" if draining else "not_ready"
    if path == "/version" and behaviour.get("edge_status"):
        status, body = behaviour["edge_status"], {}
    return status, json.dumps(body), draining or stopping.is_set()


def talk(connection):
    """Answer requests on one connection until either side closes it."""
    connection.settimeout(1)
    asked = b""
    with connection:
        while True:
            try:
                while b"\r\n\r\n" not in asked:
                    part = connection.recv(65536)
                    if not part:
                        return
                    asked += part
            except OSError:
                return
            head, _, asked = asked.partition(b"\r\n\r\n")
            status, text, close = answer(head.split()[1].decode())
            close = close or b"connection: close" in head.lower()
            kept = "close" if close else "keep-alive"
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: {kept}\r\n\r\n"
            connection.sendall((head + text).encode())
            if close:
                return


def serve():
    """Accept until told to stop, then let the threads finish what they began."""
    listener = socket.socket(fileno=listen_fd)
    listener.settimeout(0.02)
    while not stopping.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        threading.Thread(target=talk, args=(connection,)).start()


print(f"booting {release}", flush=True)
if behaviour.get("crash"):
    print(behaviour["crash"], flush=True)
    sys.exit(3)
time.sleep(60 if behaviour.get("hang") else behaviour.get("start_seconds", 0))
app_env = folder.parent.parent / "app.env"
setting = app_env.read_text() if app_env.exists() else ""
if setting == "broken":
    print("SettingsError: DATABASE_URL is not a URL", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
if "crash_when" in behaviour:

    def crash():
        while not Path(behaviour["crash_when"]).exists():
            time.sleep(0.02)
        print("MemoryError: the cache is full", flush=True)
        os._exit(139)

    threading.Thread(target=crash, daemon=True).start()
unready_at = time.monotonic() + behaviour.get("unready_after_seconds", float("inf"))
os.write(ready_fd, b"READY")
serve()
