"""``celery worker`` and ``celery beat``, without importing what the other commands need.

``python -m flask_ops.celery_command`` takes the words of ``python -m celery``, whose command line imports all
its commands and plugins before it looks at the first word: Flower, Tornado and a toolkit for terminals, a
fifth of the processor time in which a worker starts. Whatever is not plainly one of the two is left to it.
"""

from __future__ import annotations

import os
import sys

from celery import maybe_patch_concurrency

#: What stands before the command. ``--broker=`` keeps celery from taking ``BROKER_URL`` for an option.
BEFORE = ["--app", "flask_ops.worker", "--broker="]
# Options come from the environment too: CELERY_WORKER_CONCURRENCY.
ENVIRONMENT_PREFIX = "CELERY"
# And so do those that stand before the command, by these names.
GLOBAL_OPTIONS = frozenset(
    {"RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "NO_COLOR", "SKIP_CHECKS", "CELERY_WORKDIR", "CELERY_QUIET"}
)


def main(words: list[str]) -> int:
    """Run a command of Celery's; return its exit status, where it does not exit by itself.

    :param words: the command line without the program.
    """
    maybe_patch_concurrency()
    is_plain = words[: len(BEFORE)] == BEFORE and not GLOBAL_OPTIONS & os.environ.keys()
    if is_plain and words[len(BEFORE) : len(BEFORE) + 1] in (["worker"], ["beat"]):
        from .worker import app

        # An app that adds options to Celery's has them added by Celery.
        if not any(app.user_options.values()):
            return _run(app, words[len(BEFORE) :])
    from celery.bin.celery import main as everything

    return everything()


def _run(app: object, words: list[str]) -> int:
    import click
    from celery.bin.base import CLIContext
    from celery.bin.beat import beat
    from celery.bin.worker import worker

    both = click.Group("celery", commands={"worker": worker, "beat": beat})
    context = CLIContext(app=app, no_color=False, workdir=None)
    return both.main(words, prog_name="celery", obj=context, auto_envvar_prefix=ENVIRONMENT_PREFIX)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
