"""What listens to others and no opening names is told before the firewall closes it."""

import sys

import pytest
from target_host.shell import PROJECT_DIR

sys.path.insert(0, str(PROJECT_DIR / "plugins/filter"))

from unopened import unopened

OPENINGS = [{"name": "ssh", "ports": [22]}, {"name": "names", "ports": [53], "protocol": "udp"}]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'tcp   LISTEN 0 128 0.0.0.0:9100 0.0.0.0:* users:(("exporter",pid=7,fd=3))',
            ["tcp 9100 (exporter)"],
        ),
        ('tcp   LISTEN 0 128 *:9100 *:* users:(("exporter",pid=7,fd=3))', ["tcp 9100 (exporter)"]),
        ('tcp   LISTEN 0 128 [::]:8080 [::]:* users:(("a",pid=7,fd=3),("b",pid=8,fd=3))', ["tcp 8080 (a)"]),
        ("udp   UNCONN 0 0   192.0.2.7:514 0.0.0.0:*", ["udp 514 (unknown)"]),
        # The port is opened, for the other protocol.
        ("tcp   LISTEN 0 128 0.0.0.0:53 0.0.0.0:*", ["tcp 53 (unknown)"]),
        ("tcp   LISTEN 0 128 [fe80::1]%eth0:53 [::]:*", ["tcp 53 (unknown)"]),
        ("udp   UNCONN 0 0   0.0.0.0:53 0.0.0.0:*", []),
        ("tcp   LISTEN 0 128 0.0.0.0:22 0.0.0.0:*", []),
        ("tcp   LISTEN 0 128 127.0.0.1:6379 0.0.0.0:*", []),
        ("tcp   LISTEN 0 128 [::1]:6379 [::]:*", []),
        ("udp   UNCONN 0 0   127.0.0.53%lo:53 0.0.0.0:*", []),
        ("udp   UNCONN 0 0   192.0.2.7%eth0:68 0.0.0.0:*", []),
        ("", []),
    ],
)
def test_what_others_can_reach_and_nothing_opens_is_told(line, told):
    assert unopened([line], OPENINGS) == told


def test_one_listener_is_told_once_in_the_order_of_ports():
    lines = [
        f'tcp LISTEN 0 9 {where}:{port} *:* users:(("x",pid=1,fd=2))'
        for port in (9100, 80)
        for where in ("0.0.0.0", "[::]")
    ]
    assert unopened(lines, OPENINGS) == ["tcp 80 (x)", "tcp 9100 (x)"]
