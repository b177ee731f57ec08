"""Send traffic to a release: start it, gate it, switch, see it at the edge, retire the old one.

Where the switch stands is always read from `upstream.sock`, so that an interruption at any instruction
is undone or taken up for what it is. In order, and what a loss of the machine leaves at each point:

1. the new instance, its worker and its beat start side by side, and the first two are gated: an instance
   without traffic, a worker too many and a beat that waits, stopped by the next run;
2. it is enabled for boot, before the switch, so that no boot can find the link pointing at a release
   that nobody starts;
3. the switch;
4. the old one is told to drain and the new one is seen at the edge: the same `activate` takes it up;
5. its beat ticks in place of the old one, and it is watched for a while (bake): the same;
6. the old worker is told to finish, then come `previous`, `current`, the boot links, the old instance's drain
   and its stop: the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from releasectl import (
    bake,
    canary,
    clock,
    companions,
    edge,
    hooks,
    instance,
    probe,
    schema,
    settling,
    starting,
    systemd,
    units,
)
from releasectl.errors import Failed, Interrupted, Refused, ReleasectlError, SwitchedBack
from releasectl.host import Host
from releasectl.output import Result

# What a rollback reports.
BACK = "rolled back"


def activate(
    host: Host,
    release_id: str,
    word: str = "activated",
    *,
    bake_seconds: float = 0,
    despite_schema: bool = False,
) -> Result:
    """Make a staged release the one that serves.

    :param word: the result to report; going back, nobody waits for a worker.
    :param bake_seconds: for how long it is watched once it serves.
    :param despite_schema: somebody knows that it can run on a schema that says otherwise, or nothing.
    :raises Refused: when it is not staged, or cannot run on the database's schema.
    :raises Failed: when it, or its worker, does not get ready; traffic never moved.
    :raises SwitchedBack: when it does not answer at the edge, or does badly while it is watched; traffic is
        back where it was.
    """
    host.require_staged(release_id)
    active = host.layout.active()
    if active == release_id:
        return _take_up(host, release_id, word, bake_seconds)
    schema.require_runnable(host, release_id, despite=despite_schema)
    if active is not None:
        # A run killed while it switched back may have left the active one told to drain.
        host.layout.drain_file(active).unlink(missing_ok=True)
        settling.adopt(host, active)
    remarks = canary.make_way(host, release_id)
    # Two releases at once is what a host and its database are sized for.
    settling.cool(host, but=release_id)
    remarks += _transfer(host, release_id, active, word, bake_seconds)
    return _finish(host, release_id, word, remarks)


def rollback(host: Host, release_id: str | None, *, despite_schema: bool = False) -> Result:
    """Go back to the release that served before the active one.

    A release that was left by going back is not a target: a second rollback goes further back, never
    forward into what the first one fled from. `activate` goes there when somebody means it.

    :param release_id: another release to go back to.
    :param despite_schema: as for :func:`activate`.
    :raises Refused: when there is none to go back to, or it cannot run on the database's schema.
    """
    active = host.layout.active()
    if active is not None and active != release_id:
        settling.adopt(host, active)
    target = release_id or host.layout.linked(host.layout.previous)
    if target is None:
        raise Refused(
            "no release that served before the active one is left on this host",
            next_command=host.command("list"),
        )
    return activate(host, target, BACK, despite_schema=despite_schema)


def restart(host: Host) -> Result:
    """Start the active release afresh, with the settings as they are now, losing no request.

    :raises Refused: when nothing is active.
    :raises Failed: when it does not get ready again.
    """
    active = host.layout.active()
    if active is None:
        raise Refused("no release is active", next_command=host.command("list"))
    # What starts already, for a run that was killed, may have read settings that have changed since.
    if systemd.show(host.service(active)).ended:
        instance.start(host, active)
    else:
        instance.restart(host, active)
    # What is kept warm has the settings of before.
    settling.cool(host)
    # Visitors wait for the instance, nobody for these: their imports are not to slow its start down.
    companions.restart(host, active)
    _, remarks = companions.follow(host, active)
    settling.boot(host, active)
    words = _words(f"{active} runs with the settings as they are now", remarks)
    return Result("restarted", True, words, {"release": active, "remarks": remarks})


def _take_up(host: Host, release_id: str, word: str, bake_seconds: float) -> Result:
    """Activate what traffic goes to already: see that it serves, and finish what a killed run began."""
    changed, remarks = _ensure_serving(host, release_id), []
    left = host.layout.linked(host.layout.current)
    if left != release_id:
        changed = True
        old = left if left in host.layout.staged() else None
        with _undone_on_failure(host, release_id, old):
            process = instance.process(host, release_id)
            remarks = _confirm(host, process, old, word, bake_seconds)
    elif companions.bring_up(host, release_id):
        changed = True
    result = _finish(host, release_id, word, remarks)
    if changed or result.changed:
        return dataclasses.replace(result, changed=True)
    return Result("already active", False, f"{release_id} is already active", result.data)


def _ensure_serving(host: Host, release_id: str) -> bool:
    """Get the active instance to run and be ready; return whether something had to be done."""
    state = systemd.show(host.service(release_id))
    if not state.running:
        host.out.progress(f"{release_id} is active and does not run")
        instance.start(host, release_id)
        return True
    if host.layout.drain_file(release_id).exists():
        host.out.progress(f"{release_id} is active and was told to drain")
        instance.restart(host, release_id)
        return True
    answer = probe.instance(host.layout.socket(release_id), host.settings.ops_prefix)
    if not answer.ready(release_id):
        since = time.time() - 600
        error = instance.failure(host, release_id, f"{release_id} is active and not ready", since, answer)
        error.next_command = host.command("restart")
        raise error
    return False


def _transfer(host: Host, release_id: str, old: str | None, word: str, bake_seconds: float) -> list[str]:
    """Get the new release to serve, or leave everything as it was; return remarks."""
    with _undone_on_failure(host, release_id, old):
        with host.phases.measured("start"):
            # A canary that is well serves already, and is not started anew under its clients.
            begun = instance.begin(host, release_id) if host.layout.canary() != release_id else None
            # A worker before its visitors: what they cause then finds somebody who knows it. All import at
            # once: the worker is waited for in any case, and beat would come last. Going back, all the
            # processor is the visitors', and nobody waits for a worker: while the broker is away none gets
            # ready.
            worker, beat = companions.begin(host, release_id) if word != BACK else ([], [])
            if begun is not None:
                process = instance.wait_ready(host, release_id, begun)
            else:
                process = instance.process(host, release_id)
        systemd.enable(units.pair(host.settings.app, release_id))
        with host.phases.measured("worker"):
            starting.wait(worker)
            for one in beat:
                # It gets ready after the switch. Could it not even import, this is the time to tell.
                one.see()
        if word != BACK:
            hooks.before_switch(host, release_id, old)
        process.require_alive()
        host.out.progress(f"switching traffic to {release_id}")
        host.layout.switch_to(release_id)
        canary.take_back(host)
        return _confirm(host, process, old, word, bake_seconds)


def _confirm(
    host: Host, process: instance.Process, old: str | None, word: str, bake_seconds: float
) -> list[str]:
    """Have the old instance drain, see the new one at the edge and at work; return remarks.

    :param process: that of the new one, from before it had traffic: systemd starts one that crashed again.
    """
    release_id = process.release_id
    # There is no socket where the old one is down.
    if old is not None and host.layout.socket(old).exists():
        # Before looking at the edge: only a draining instance ends the connections nginx keeps to it.
        host.layout.drain_file(old).touch()
    with host.phases.measured("edge"):
        edge.see(host, process)
    host.phases.served_after = clock.process_seconds()
    remarks: list[str] = []
    with host.phases.measured("companions"):
        if word == BACK:
            # Visitors are safe, and nobody waits for a worker: `status` tells of one that does not come up.
            _try(remarks, lambda: companions.restore(host, release_id))
        else:
            companions.bring_up(host, release_id)
    process.require_alive()
    if bake_seconds:
        with host.phases.measured("bake"):
            remarks.append(bake.watch(host, process, old, bake_seconds))
    # Traffic is where it should be: a signal waits for the end.
    host.signals.hold()
    return remarks


@contextmanager
def _undone_on_failure(host: Host, release_id: str, old: str | None) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        host.signals.hold()
        raise _undo(host, release_id, old, error) from error


def _undo(host: Host, release_id: str, old: str | None, error: BaseException) -> ReleasectlError:
    """Put back what an activation did; return the error to raise.

    The link on disk tells whether traffic had moved: a signal can come between the rename and the next
    line here.
    """
    switched = host.layout.active() == release_id
    cause = _cause(error)
    remarks: list[str] = []
    served = switched or host.layout.canary() == release_id
    if switched:
        _try(remarks, lambda: _switch_back(host, old))
    _try(remarks, lambda: canary.take_back(host))
    _try(remarks, lambda: companions.withdraw(host, release_id))
    if switched and old is not None:
        _try(remarks, lambda: companions.restore(host, old))
    host.out.progress(f"stopping {release_id}")
    _try(remarks, lambda: _withdraw(host, release_id, drain=served))
    _try(remarks, lambda: settling.forget(host))
    evidence = dict(getattr(error, "evidence", {}))
    if remarks:
        evidence["remarks"] = remarks
    next_command = getattr(error, "next_command", "") or host.command("status")
    if not switched:
        words = f"{cause}; traffic never moved" + (f" from {old}" if old else "")
        return Failed(words, next_command=next_command, evidence=evidence)
    words = f"{cause}; traffic is back on {old}" if old else f"{cause}; nothing is active, as before"
    return SwitchedBack(words, next_command=next_command, evidence=evidence)


def _switch_back(host: Host, old: str | None) -> None:
    """Send traffic where it went before.

    First the link, then the end of its drain; the old instance is not restarted. A connection that it
    closed meanwhile loses nothing, whereas a restart would put the one instance known to work through a
    start, with settings that may be the very reason for the failure.
    """
    if old is None:
        host.layout.upstream.unlink(missing_ok=True)
        return
    host.out.progress(f"switching traffic back to {old}")
    host.layout.switch_to(old)
    host.layout.drain_file(old).unlink(missing_ok=True)
    for unit in (host.socket(old), host.service(old)):
        if not systemd.show(unit).running:
            systemd.start(unit, host.settings.start_timeout_seconds)


def _withdraw(host: Host, release_id: str, *, drain: bool) -> list[str]:
    """Take a release that failed out of the boot and stop it; return remarks.

    :param drain: whether it had traffic.
    """
    app = host.settings.app
    names = systemd.enabled(units.pair(app, release_id) + units.companions(app, release_id))
    if names:
        systemd.disable(names)
    if drain:
        return instance.retire(host, release_id)
    return [] if instance.take_down(host, release_id) else [f"{host.service(release_id)} is still stopping"]


def _try(remarks: list[str], step: Callable[[], list[str] | None]) -> None:
    """Do one step of putting back; what does not work is a remark and does not keep the next from it."""
    try:
        remarks += step() or []
    except (ReleasectlError, OSError) as error:
        remarks.append(str(error))


def _finish(host: Host, release_id: str, word: str, remarks: list[str]) -> Result:
    """Make everything else follow the switch; repeatable, and all that is left of a killed run too."""
    host.signals.hold()
    if host.layout.canary() == release_id:
        canary.take_back(host)
    with host.phases.measured("follow"):
        followed, more = companions.follow(host, release_id)
        remarks = remarks + more
        moved = settling.links(host, release_id)
        booted = settling.boot(host, release_id)
    with host.phases.measured("retire"):
        keep = (
            host.layout.linked(host.layout.previous) if host.settings.warm_seconds and word != BACK else None
        )
        retired, more = settling.retire_others(host, release_id, keep)
    remarks += more + settling.forget(host)
    before = host.layout.linked(host.layout.previous)
    data = {"release": release_id, "previous": before, "retired": retired, "remarks": remarks}
    told = f"{release_id} is active"
    if host.phases.served_after is not None:
        data["served_after_seconds"] = host.phases.served_after
        told += f", visitors had it after {host.phases.served_after:g} s"
    changed = followed or moved or booted or bool(retired)
    return Result(word, changed, _words(told, remarks), data)


def _words(told: str, remarks: list[str]) -> str:
    return "\n".join([told, *(f"  note: {remark}" for remark in remarks)])


def _cause(error: BaseException) -> str:
    if isinstance(error, ReleasectlError):
        return error.cause
    if isinstance(error, Interrupted):
        return str(error)
    return f"{type(error).__name__}: {error}"
