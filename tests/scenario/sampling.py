"""What the processes of a unit take in memory, once a second."""

from __future__ import annotations

import threading

from testbed.sites import Site

INTERVAL_SECONDS = 1.0
# A page that n processes share counts as 1/n of it in each: the sum is what they take (proc_pid_smaps(5)).
PSS = """
main=$(systemctl show --property=MainPID --value {unit})
for pid in $main $(pgrep --parent $main); do
    cat /proc/$pid/smaps_rollup 2>/dev/null || true
done | awk '/^Pss:/ {{ sum += $2 }} END {{ print sum }}'
"""


def pss_mib(site: Site, unit: str) -> float:
    """Return what a unit's main process and its children take now."""
    return int(site.sudo(PSS.format(unit=unit)) or 0) / 1024


class Sampling:
    """Samples of a unit's memory in MiB, from before a block until its end."""

    def __init__(self, site: Site, unit: str) -> None:
        """Take the first sample."""
        self._site = site
        self._unit = unit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self.mib = [pss_mib(site, unit)]

    def __enter__(self) -> Sampling:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            self.mib.append(pss_mib(self._site, self._unit))

    @property
    def growth_mib(self) -> float:
        """From the first sample to the largest."""
        return max(self.mib) - self.mib[0]

    @property
    def words(self) -> str:
        """All of it, for a person."""
        shown = ", ".join(f"{value:.0f}" for value in self.mib[:: max(1, len(self.mib) // 20)])
        return (
            f"first {self.mib[0]:.0f} MiB, peak {max(self.mib):.0f} MiB of {len(self.mib)} samples: {shown}"
        )
