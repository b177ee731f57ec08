"""A counted load over kept connections: h2load, because a client in Python costs more than what it asks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Body:
    """What every request carries.

    :param path: of the file it is read from.
    """

    path: Path
    content_type: str


def send(
    port: int, paths: Sequence[str], *, requests: int, connections: int, folder: Path, scheme: str = "http"
) -> list[int]:
    """Send so many requests, each connection its next one as soon as it has the answer to the last.

    :param port: of nginx on the loopback.
    :param paths: asked for in turn.
    :param connections: kept; as many as requests, for a new one each.
    :return: how long each answer took, in microseconds.
    :raises RuntimeError: if an answer was not 200, or one is missing.
    """
    done = answers(port, paths, requests=requests, connections=connections, folder=folder, scheme=scheme)
    return [taken for _, taken in done]


def answers(
    port: int,
    paths: Sequence[str],
    *,
    requests: int,
    connections: int,
    folder: Path,
    scheme: str = "http",
    body: Body | None = None,
    headers: Sequence[str] = (),
) -> list[tuple[int, int]]:
    """Do as :func:`send`, and say when too.

    :param body: sent by POST with each request.
    :param headers: ``Name: value``, of each request.
    :return: when each request began and how long its answer took, both in microseconds.
    :raises RuntimeError: if an answer was not 200, or one is missing.
    """
    addresses, log = folder / "addresses", folder / "answers"
    addresses.write_text("".join(f"{scheme}://localhost:{port}{path}\n" for path in paths))
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", f"--requests={requests}"]
    command += [f"--clients={connections}", f"--log-file={log}", f"--input-file={addresses}"]
    if body:
        command += [f"--data={body.path}", f"--header=Content-Type: {body.content_type}"]
    command += [f"--header={header}" for header in headers]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    rows = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
    bad = [row[1] for row in rows if row[1] != "200"]
    if done.returncode or bad or len(rows) != requests:
        raise RuntimeError(f"{len(rows)} of {requests} answers, not 200: {bad[:5]}\n{done.stdout[-800:]}")
    return [(int(row[0]), int(row[2])) for row in rows]


def per_second(answers: Sequence[tuple[int, int]]) -> float:
    """Return the rate from the first request to the last answer.

    :param answers: when each began and how long it took, in microseconds.
    """
    begin = min(began for began, _ in answers)
    end = max(began + taken for began, taken in answers)
    return 1e6 * len(answers) / (end - begin)
