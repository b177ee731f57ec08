"""A handler runs when something changed, tests before it reloads, and is never lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bundle import Bundle, Task, law


def as_list(value: object) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []


def notified(task: Task) -> list[str]:
    """Return what a task notifies, by itself or by a block around it."""
    return [topic for data in (task.data, *task.parents) for topic in as_list(data.get("notify"))]


def topics(handler: Task) -> list[str]:
    """Return the names a handler answers to."""
    return [handler.data.get("name"), *as_list(handler.data.get("listen"))]


def notices(bundle: Bundle, role: str) -> Iterator[tuple[Task, str]]:
    for task in [*bundle.tasks(role), *bundle.handlers(role)]:
        yield from ((task, topic) for topic in as_list(task.data.get("notify")))


@law
def test_every_handler_is_notified(bundle: Bundle):
    for role in bundle.roles:
        wanted = {topic for _task, topic in notices(bundle, role)}
        for handler in bundle.handlers(role):
            if not wanted & set(topics(handler)):
                yield f"{handler.where}: nobody notifies “{handler.name}”: remove it, or notify it"


@law
def test_every_notify_resolves_within_its_role(bundle: Bundle):
    for role in bundle.roles:
        known = {topic for handler in bundle.handlers(role) for topic in topics(handler)}
        for task, topic in notices(bundle, role):
            if topic not in known:
                near = ", ".join(sorted(filter(None, known))) or "none"
                yield f"{task.line_of('notify')}: notifies “{topic}”; roles/{role}/handlers has: {near}"


@law
def test_handlers_carry_their_roles_name(bundle: Bundle):
    """Handlers of all roles share one space of names: the last one of a name wins, whoever notified."""
    names = Counter(handler.name for role in bundle.roles for handler in bundle.handlers(role))
    for role in bundle.roles:
        for handler in bundle.handlers(role):
            if not any(role in (topic or "").split() for topic in topics(handler)):
                yield f"{handler.where}: “{handler.name}” does not name its role: put the word {role} in it"
            if names[handler.name] > 1:
                yield f"{handler.where}: another handler is called “{handler.name}” as well: tell them apart"


@law
def test_nginx_is_tested_before_it_is_reloaded(bundle: Bundle):
    reloads = 0
    for role in bundle.roles:
        tested: set[str] = set()
        for handler in bundle.handlers(role):
            args = handler.args if isinstance(handler.args, dict) else {}
            if str(handler.args).startswith("nginx -t"):
                tested |= set(topics(handler))
            elif "nginx.service" in (args.get("name"), args.get("unit") if "proof" in args else None):
                reloads += 1
                if not tested & set(topics(handler)):
                    yield (
                        f"{handler.where}: “{handler.name}” comes before `nginx -t`: "
                        "test first, in a handler above that listens to it"
                    )
    if not reloads:
        yield "roles/nginx/handlers/main.yml:1: nothing reloads nginx"


def in_order(bundle: Bundle, role: str, path: str) -> list[Task]:
    """Return the tasks of a file in the order they run in, with those of the files it imports."""
    found = []
    for task in bundle.tasks(role):
        if task.path == path:
            found.append(task)
            if task.module == "ansible.builtin.import_tasks":
                found += in_order(bundle, role, f"roles/{role}/tasks/{task.args}")
    return found


@law
def test_every_role_flushes_its_handlers_at_its_end(bundle: Bundle):
    """A play that breaks off later would lose them, and the next run would find nothing changed."""
    for role in bundle.roles:
        whole = in_order(bundle, role, f"roles/{role}/tasks/main.yml")
        # A file no main.yml imports is entered by itself, and ends by itself.
        reached = {task.path for task in whole}
        alone = [path for path in bundle.task_files(role) if path not in reached]
        for steps in [whole, *(in_order(bundle, role, path) for path in alone)]:
            last_notice = max((at for at, task in enumerate(steps) if notified(task)), default=-1)
            last_flush = max(
                (at for at, task in enumerate(steps) if task.args == "flush_handlers"), default=-1
            )
            if last_notice > last_flush:
                yield (
                    f"{steps[last_notice].where}: notifies, and no task after it flushes: end with `meta: "
                    "flush_handlers`"
                )
