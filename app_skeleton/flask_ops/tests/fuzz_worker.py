"""Send the worker class requests that nobody has thought of, for as long as there is time.

    python fuzz_worker.py --seconds 1800 --processes 2

Most are read here and by gunicorn's parser in one process, and must come out the same; one in twenty goes to
a real gunicorn with either class, and must be answered the same, within 20 s, by a worker that stays alive.
Ends with 1 and the seeds of what differed, or with 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))

import generated_requests
from bare_gunicorn import OURS, STOCK, Gunicorn, answers
from test_ops_http_request import PEERS, compare, config

_ASK_A_SERVER_EVERY = 20
_SHOWN_AT_MOST = 10


def fuzz(first: int, seconds: float) -> tuple[int, int, float, list[str]]:
    """Try one seed after the other; return how many, how many were read here, CPU seconds, what differed.

    :param first: the first seed.
    :param seconds: when to stop.
    """
    found: list[str] = []
    plain, seed, end, peers = 0, first, time.monotonic() + seconds, list(PEERS)
    cfg = config()
    with Gunicorn(OURS, "wsgi_apps:app") as ours, Gunicorn(STOCK, "wsgi_apps:app") as stock:
        workers = ours.worker, stock.worker
        while time.monotonic() < end and len(found) < _SHOWN_AT_MOST:
            random = Random(seed)
            data = generated_requests.stream(random)
            try:
                plain += compare(data, cfg, peers[seed % len(peers)])
                if seed % _ASK_A_SERVER_EVERY == 0:
                    pieces = generated_requests.pieces(random, data)
                    said = answers((ours, stock), pieces)
                    assert said[0] == said[1], _told_apart(*said)
            except Exception as error:
                found.append(f"seed {seed}: {type(error).__name__} {str(error)[:600]}")
            seed += 1
        if workers != (ours.worker, stock.worker):
            found.append("a worker has died")
    return seed - first, plain, time.process_time(), found


def _told_apart(ours: bytes, stock: bytes) -> str:
    """Return where two answers part, and how each goes on from there."""
    at = next((at for at, pair in enumerate(zip(ours, stock, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(ours), len(stock)) if at is None else at
    said = " and ".join(f"{len(each)} bytes, there {each[at : at + 100]!r}" for each in (ours, stock))
    return f"from byte {at} on: {said}"


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="side by side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first (default: the time)")
    asked = parser.parse_args()
    firsts = [asked.seed + 10**9 * number for number in range(asked.processes)]
    with ProcessPoolExecutor(asked.processes) as processes:
        results = list(processes.map(fuzz, firsts, [asked.seconds] * asked.processes))
    count, plain, cpu = (sum(result[column] for result in results) for column in range(3))
    found = [each for result in results for each in result[3]]
    print(f"{count} requests, {plain} read here, {cpu:.0f} s of CPU beside the servers', {len(found)} differ")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
