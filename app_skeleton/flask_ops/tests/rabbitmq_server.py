"""A RabbitMQ of the tests' own, on the loopback, that they may stop for a while."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask_ops.testing import eventually
from kombu import Connection

# Not the one on PATH, which wants to be root and become another user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMQServer:
    """The server; a context that starts it and ends it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="app-rabbitmq-"))
        self.port, distribution, names = map(str, free_ports(3))
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self.env = os.environ | {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": names,
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": distribution,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.folder),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
        }
        self._ending = ExitStack()

    def __enter__(self):
        if not PROGRAM.exists():
            pytest.skip("RabbitMQ's server is not installed")
        self._ending.callback(shutil.rmtree, self.folder)
        # The server would start it as a daemon, which outlives it.
        self._start("epmd")
        self.group = self._start(PROGRAM).pid
        eventually(self.answers, 120)
        return self

    def __exit__(self, *error):
        self._ending.close()

    def _start(self, program):
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [program], stdout=output, stderr=output, env=self.env, start_new_session=True
            )
        self._ending.callback(process.wait)
        self._ending.callback(os.killpg, process.pid, signal.SIGKILL)
        return process

    def answers(self):
        try:
            with Connection(self.url, connect_timeout=1) as connection:
                return connection.connect()
        except OSError:
            return None

    def queues(self):
        """Return its queues, as it tells them itself, with how many messages each has."""
        command = [PROGRAM.with_name("rabbitmqctl"), "--quiet", "list_queues", "name", "messages"]
        told = subprocess.run(
            [*command, "--no-table-headers"], env=self.env, capture_output=True, text=True, check=True
        )
        return {name: int(count) for name, count in (line.split() for line in told.stdout.splitlines())}

    def pause(self):
        """Have it answer nobody, as a host does that hangs."""
        os.killpg(self.group, signal.SIGSTOP)

    def resume(self):
        os.killpg(self.group, signal.SIGCONT)


def free_ports(count):
    with ExitStack() as bound:
        sockets = [bound.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
