"""Every call of uv, cut off from the network and from any configuration it might find."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from releasectl.errors import Failed

INSTALL_SECONDS = 600
# A line of `uv pip check`, and the package that is asked for, which it writes the canonical way.
PROBLEM = re.compile(r"(?m)^The package `[^`]+`(?: requires `(?P<asked>[a-z0-9-]+))?.*$")


@dataclasses.dataclass(frozen=True)
class Uv:
    """Build virtual environments out of local wheels.

    :param binary: the uv program.
    :param python: the interpreter environments are made for.
    :param cache: a folder for uv's cache, on the file system of the environments: uv then links files
        instead of copying them, and never writes through a link that exists.
    :param lock: the descriptor of the held lock. Should releasectl be killed, a uv that is still writing
        keeps the lock, so that nobody clears away the folder under it.
    """

    binary: Path
    python: Path
    cache: Path
    lock: int

    def make(self, venv: Path) -> None:
        """Make an empty environment that may be moved.

        :raises Failed: with what uv says.
        """
        self._run(
            "venv", "--relocatable", "--quiet", "--python", str(self.python), str(venv), folder=venv.parent
        )

    def install(self, venv: Path, folder: Path, *, compile_bytecode: bool) -> None:
        """Install what `requirements.txt` in a folder pins, from the wheels beside it and nowhere else.

        :param compile_bytecode: compile the whole environment, not just what is new in it.
        :raises Failed: with what uv says, a wrong hash for one.
        """
        words = ["--no-index", "--find-links", "wheels", "--require-hashes", "--no-deps", "--no-build"]
        words += ["--compile-bytecode"] if compile_bytecode else []
        self._pip("install", venv, folder, *words, "--requirements", "requirements.txt")

    def check(self, venv: Path, excused: Collection[str] = ()) -> None:
        """See that everything an installed package asks for is there.

        :param excused: packages that nobody's requirement counts for: the inventory overruled it, or they
            are not installed yet. uv itself takes no overrides here.
        :raises Failed: naming what is not.
        """
        try:
            self._pip("check", venv, venv.parent)
        except Failed as failed:
            found = list(PROBLEM.finditer(failed.cause))
            left = [problem[0] for problem in found if problem["asked"] not in excused]
            if left or not found:  # without any, uv did not come to an answer
                raise Failed("\n".join(["`uv pip check` failed:", *left]) if left else failed.cause) from None

    def _pip(self, verb: str, venv: Path, folder: Path, *words: str) -> None:
        self._run("pip", verb, "--quiet", "--python", str(venv / "bin/python"), *words, folder=folder)

    def _run(self, *words: str, folder: Path) -> None:
        command = [str(self.binary), "--no-config", "--offline", "--no-progress", *words]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
                pass_fds=(self.lock,),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(f"{self.binary} did not run: {error}") from error
        if done.returncode != 0:
            verb = " ".join(word for word in words[:2] if not word.startswith("-"))
            raise Failed(f"`uv {verb}` failed: {done.stderr.strip() or done.stdout.strip()}")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.cache),
            "LC_ALL": "C.UTF-8",
            "UV_CACHE_DIR": str(self.cache),
            "UV_LINK_MODE": "hardlink",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_MANAGED_PYTHON": "1",
        }
