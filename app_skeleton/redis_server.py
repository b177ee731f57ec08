"""A Redis of the tests' own, on a unix socket, that they may stop, kill and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from flask_ops.testing import eventually
from redis import Redis, RedisError


class RedisServer:
    """The server; a context that starts it and ends it.

    :param arguments: further configuration, as on its command line.
    """

    def __init__(self, *arguments):
        """Make a folder for it; nothing is started yet."""
        # Not pytest's tmp_path: a unix socket's path must stay under 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="app-redis-"))
        self.url = f"unix://{self.folder / 'redis.sock'}?db=0"
        self.client = Redis.from_url(self.url, socket_timeout=5)
        self._arguments = arguments
        self.process = None

    def __enter__(self):
        """Start it, or skip the test where there is none to start."""
        if shutil.which("redis-server") is None:
            if os.environ.get("CI"):
                pytest.fail("redis-server is not installed: apt-get install redis-server")
            pytest.skip("redis-server is not installed")
        self.start()
        return self

    def __exit__(self, *error):
        """End it and remove its folder."""
        self.client.close()
        self.kill()
        shutil.rmtree(self.folder)

    def start(self):
        """Start it and wait until it answers."""
        command = [
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            self.folder / "redis.sock",
            "--dir",
            self.folder,
        ]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *durable, *self._arguments], stdout=log, stderr=log)
        eventually(self.answers, 30)

    def answers(self):
        """Tell whether it does."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return self.client.ping()
        except RedisError:
            return False

    def kill(self):
        """End it without a word, as a loss of power does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def pause(self):
        """Have it answer nobody, as a host does that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)
        eventually(self.answers, 30)

    def restart(self):
        """Stop it as systemd does, and start it again."""
        self.process.terminate()
        self.process.wait()
        self.start()
