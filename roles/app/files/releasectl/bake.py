"""Watch a release for a while after it got the traffic, beside how the one before it did.

Everything here ends in a `Failed` that the activation turns into a switch back. What is looked at:

- the instance and its worker: still the processes that were started, and ready;
- errors: the share of answers from 500 up, against the old release's;
- speed: the time until 95 of 100 answers began, against the old release's, once the first seconds are over:
  a process that has just started imports, connects and compiles with its first requests, good or bad.

The thresholds are wide on purpose. A release that is a tenth slower is a matter for a person in daylight;
one that answers three times as slowly or with errors is not.
"""

from __future__ import annotations

import time

from releasectl import clock, companions, instance, probe, systemd, units
from releasectl.errors import Failed
from releasectl.host import Host
from releasectl.traffic import Answers, Log

# Fewer answers prove nothing: one error in three requests is 33 %.
ENOUGH_ANSWERS = 50
# Not ready for so long is worse than a check that failed once.
NOT_READY_SECONDS = 5
# From when on answers tell how fast it is.
WARM_UP_SECONDS = 5
# Slower by so much at least: three times 2 ms is still fast.
NOTICEABLE_SECONDS = 0.1
PAUSE_SECONDS = 0.5


def watch(host: Host, process: instance.Process, old: str | None, seconds: float) -> str:
    """Watch a release that has the traffic; return what was seen, in words.

    :param process: that of its instance, as it was when it got the traffic.
    :param old: the release it is measured against.
    :param seconds: for how long.
    :raises Failed: as soon as something is wrong, with what was seen.
    """
    if not seconds:
        return ""
    release_id = process.release_id
    host.out.progress(f"watching {release_id} for {seconds:g} s")
    watched = _Watch(host, process, old)
    for _ in clock.attempts(seconds, PAUSE_SECONDS, PAUSE_SECONDS):
        watched.look()
    words = f"{release_id}: {watched.answers}"
    return words + (f"; {old} before: {watched.before}" if watched.before.count else "")


class _Watch:
    def __init__(self, host: Host, process: instance.Process, old: str | None) -> None:
        self.host, self.release_id, self.old, self.since = host, process.release_id, old, time.time()
        release_id, service = self.release_id, host.service(self.release_id)
        kinds = [kind for kind in companions.wanted(host, release_id) if kind != units.FLOWER]
        names = [service, *(host.companion(kind, release_id) for kind in kinds)]
        states = systemd.states(*names)
        # One that did not run to begin with was a remark already.
        pairs = zip(names, states, strict=True)
        self.invocations = {name: state.invocation for name, state in pairs if state.running}
        self.invocations[service] = process.invocation
        self.log = Log(host.settings.access_log)
        self.answers, self.warm_answers = Answers(), Answers()
        self.before = self.log.before(old, self.since) if old else Answers()
        self.ready_at = time.monotonic()

    def look(self) -> None:
        self._look_at_units()
        self._look_at_health()
        warm = time.time() - self.since > WARM_UP_SECONDS
        for line in self.log.lines():
            # No release in it: nginx got no answer from whom it asked, and that is the new one by now.
            if line.get("release") in (self.release_id, "") and line.get("upstream_status"):
                self.answers.add(line)
                if warm:
                    self.warm_answers.add(line)
        self._look_at_answers()

    def _look_at_units(self) -> None:
        names = list(self.invocations)
        for name, state in zip(names, systemd.states(*names), strict=True):
            if not state.running or state.invocation != self.invocations[name]:
                why = f"{state.result}, exit status {state.exit_status}"
                raise self._failure(f"{name} crashed while it was watched ({why})", name)

    def _look_at_health(self) -> None:
        layout, settings = self.host.layout, self.host.settings
        answer = probe.instance(layout.socket(self.release_id), settings.ops_prefix)
        if answer.ready(self.release_id):
            self.ready_at = time.monotonic()
        elif time.monotonic() - self.ready_at > NOT_READY_SECONDS:
            cause = f"{self.release_id} was not ready for {NOT_READY_SECONDS} s while it was watched"
            raise instance.failure(self.host, self.release_id, cause, self.since, answer)

    def _look_at_answers(self) -> None:
        bad = self._errors() or self._slowness()
        if bad:
            # Who waits while a process that crashed is started again waits long: that is the cause to tell.
            self._look_at_units()
            raise self._failure(f"{bad}; {self.old} before: {self.before}")

    def _errors(self) -> str:
        """Return what is wrong with the answers so far, empty where nothing is, or too few were given."""
        new, allowed = self.answers, self.before.error_share + self.host.settings.bake_error_share
        bad = new.count >= ENOUGH_ANSWERS and new.error_share > allowed
        return f"{self.release_id} answers with errors: {new}" if bad else ""

    def _slowness(self) -> str:
        """Return how slow it is, empty where it is not, or too few answers tell."""
        new, old = self.warm_answers, self.before
        if min(new.count, old.count) < ENOUGH_ANSWERS:
            return ""
        slowdown = self.host.settings.bake_slowdown
        limit = max(old.p95_seconds * slowdown, old.p95_seconds + NOTICEABLE_SECONDS)
        return f"{self.release_id} is slow: {new}" if new.p95_seconds > limit else ""

    def _failure(self, cause: str, unit: str = "") -> Failed:
        unit = unit or self.host.service(self.release_id)
        evidence = {"unit": unit, "journal": systemd.journal(unit, self.since)}
        return Failed(cause, next_command=f"sudo journalctl -u {unit} -n 200", evidence=evidence)
