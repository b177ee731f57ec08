"""Files stay as small as a reader's patience."""

from __future__ import annotations

from bundle import Bundle, law

SCREEN = 50
TASK_FILE = 100


def lines(bundle: Bundle, path: str) -> int:
    return len(bundle.text(path).splitlines())


@law
def test_a_roles_main_fits_one_screen(bundle: Bundle):
    for role in bundle.roles:
        path = f"roles/{role}/tasks/main.yml"
        if lines(bundle, path) > SCREEN:
            yield (
                f"{path}:{SCREEN}: {lines(bundle, path)} lines, and one screen is {SCREEN}: "
                "move work into a verb's file"
            )


@law
def test_task_files_stay_near_a_hundred_lines(bundle: Bundle):
    for path in [path for role in bundle.roles for path in bundle.task_files(role)]:
        if lines(bundle, path) > TASK_FILE:
            yield (
                f"{path}:{TASK_FILE}: {lines(bundle, path)} lines, more than {TASK_FILE}: "
                "it wants to be two files"
            )


@law
def test_units_and_nginx_files_fit_one_screen_and_a_half(bundle: Bundle):
    frames = [path for path in bundle.below("roles") if path.endswith("_frame.j2")]
    for path in [*bundle.below("systemd"), *bundle.below("nginx"), *frames]:
        limit = SCREEN * 3 // 2
        if lines(bundle, path) > limit:
            yield (
                f"{path}:{limit}: {lines(bundle, path)} lines, more than a screen and a half ({limit}): "
                "one concern a file"
            )
