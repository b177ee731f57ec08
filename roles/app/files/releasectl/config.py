"""Read and check the settings of one app."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from releasectl import units
from releasectl.errors import Refused

SETTINGS_DIR = Path("/etc/releasectl")

APP_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,28}[a-z0-9])?")
PATH_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


@dataclasses.dataclass(frozen=True)
class Edge:
    """Where the app answers through nginx.

    :param url: what to ask, naming the public host: `https://inbox.example/version`.
    :param host: the address to connect to, without its port.
    :param port: the port to connect to.
    """

    url: str
    host: str
    port: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `/etc/releasectl/<app>.json` says; durations in seconds."""

    app: str
    root: Path
    run_dir: Path
    user: str
    group: str
    uv: Path
    python: Path
    keep: int
    start_timeout_seconds: float
    drain_timeout_seconds: float
    stop_timeout_seconds: float
    migrate_timeout_seconds: float
    edge: Edge | None
    # Longest wait for the new release to be the only one that answers through nginx. It must be longer
    # than a request may take: a kept connection to the old release ends only with its next answer.
    edge_timeout_seconds: float = 30
    # A little more than nginx keeps an idle upstream connection (1 s).
    idle_close_seconds: float = 1.5
    # Put before `/readyz` on an instance's socket, as FLASK_OPS_PREFIX is in the app.
    ops_prefix: str = ""
    # What follows the web instance: `worker`, `beat`, `flower`.
    companions: tuple[str, ...] = ()
    # With less free disk than this, only releases stay that are never removed; 0: disk does not matter.
    keep_free_mb: float = 0
    # How long a worker that is told to stop may take to finish its tasks, and a little.
    worker_stop_timeout_seconds: float = 125
    # Where nginx says, a line a request, which release answered and how.
    access_log: Path = Path("/var/log/nginx/access.log")
    # How long the release that was left goes on without traffic, ready to be gone back to; 0: not at all.
    warm_seconds: float = 0
    # Programs of the app's team, in order, by the point they are run at: see hooks.py.
    hooks: dict = dataclasses.field(default_factory=dict)
    hook_timeout_seconds: float = 60
    # How long a new release is watched once it has the traffic; 0: not at all.
    bake_seconds: float = 0
    # By how much the share of its errors may be above the old release's, 0 to 1.
    bake_error_share: float = 0.01
    # How many times as slow as the old release it may be.
    bake_slowdown: float = 3
    # Whether `migrate` starts nothing when the database has all that the release expands.
    migrate_skip: bool = True
    # How often the status page is rendered, which it says; by a timer that reads no settings.
    page_every_seconds: float = 60
    # What tlsctl tells Prometheus of the certificate; empty: nothing looks after one here.
    page_certificates: str = ""
    # A Prometheus on this host; empty: there is none.
    page_prometheus: str = ""
    # Whether the secrets on disk are encrypted for this host.
    credentials_encrypted: bool = False

    @property
    def load_credentials(self) -> dict[str, str]:
        """The property that gives a unit the app's secrets, as its own units have it."""
        if self.credentials_encrypted:
            return {"LoadCredentialEncrypted": f"app:/etc/{self.app}/credentials.encrypted"}
        return {"LoadCredential": f"app:/etc/{self.app}/credentials"}


def find(settings_dir: Path, app: str | None) -> Path:
    """Return the settings file of `app`, or of the only app on this host.

    :raises Refused: when there is none, or several and no name was given.
    """
    known = {path.stem: path for path in sorted(settings_dir.glob("*.json"))}
    names = ", ".join(known) or "none"
    if app is not None and app not in known:
        raise Refused(f"no app {app!r} is set up on this host (there is: {names})")
    if app is None and len(known) != 1:
        cause = f"several apps are set up on this host: {names}" if known else f"no app in {settings_dir}"
        raise Refused(cause, next_command="releasectl --app NAME status" if known else "")
    return known[app] if app is not None else next(iter(known.values()))


def load(path: Path) -> Settings:
    """Read a settings file.

    :raises Refused: naming every key that is missing, unknown or of the wrong kind.
    """
    try:
        given = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise Refused(f"{path} does not hold a JSON object")
    problems = _key_problems(given) or _value_problems(given)
    if problems:
        raise Refused(f"{path}: {'; '.join(problems)}")
    return _build(given)


def _fields() -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(Settings)}


def _key_problems(given: dict) -> list[str]:
    fields = _fields()
    absent = dataclasses.MISSING
    needed = [name for name, one in fields.items() if one.default is absent and one.default_factory is absent]
    missing = [f"missing key {name!r}" for name in needed if name not in given]
    unknown = [f"unknown key {name!r}" for name in given if name not in fields]
    return missing + unknown


def _value_problems(given: dict) -> list[str]:
    checks = {"Path": _path_problem, "str": _name_problem, "int": _count_problem, "float": _seconds_problem}
    checks["tuple[str, ...]"] = _companions_problem
    checks["bool"] = _switch_problem
    problems = []
    for name, field in _fields().items():
        if name in given:
            check = _OWN_CHECKS.get(name) or checks.get(str(field.type), _edge_problem)
            problem = check(given[name])
            problems += [f"{name!r} {problem}"] if problem else []
    if not problems and not APP_NAME.fullmatch(given["app"]):
        problems.append("'app' is not a valid app name")
    return problems


def _path_problem(value: object) -> str:
    return "" if isinstance(value, str) and value.startswith("/") else "is not an absolute path"


def _name_problem(value: object) -> str:
    return "" if isinstance(value, str) and value else "is not a name"


def _prefix_problem(value: object) -> str:
    good = isinstance(value, str) and PATH_PREFIX.fullmatch(value)
    return "" if good else "is neither empty nor a path such as /-"


def _count_problem(value: object) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "" if good else "is not a whole number above 0"


def _seconds_problem(value: object) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return "" if good else "is not a number of seconds above 0"


def _duration_problem(value: object) -> str:
    return "" if value == 0 and not isinstance(value, bool) else _seconds_problem(value)


def _share_problem(value: object) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
    return "" if good else "is not a share above 0, at most 1"


def _factor_problem(value: object) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
    return "" if good else "is not a number of 1 or more"


def _hooks_problem(value: object) -> str:
    good = isinstance(value, dict) and set(value) <= set(units.HOOK_POINTS)
    lists = good and all(isinstance(one, list) and not any(map(_path_problem, one)) for one in value.values())
    return (
        "" if lists else f"does not name programs by their paths for some of {', '.join(units.HOOK_POINTS)}"
    )


def _switch_problem(value: object) -> str:
    return "" if isinstance(value, bool) else "is neither true nor false"


def _companions_problem(value: object) -> str:
    good = isinstance(value, list) and set(map(str, value)) <= set(units.COMPANIONS)
    return "" if good else f"is not a list of some of {', '.join(units.COMPANIONS)}"


def _edge_problem(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict) or set(value) != {"url", "connect"}:
        return "is neither null nor an object of 'url' and 'connect'"
    url = urlsplit(str(value["url"]))
    if url.scheme not in ("http", "https") or not url.hostname:
        return "'url' is not an http or https address"
    host, _, port = str(value["connect"]).rpartition(":")
    return "" if host and port.isdigit() else "'connect' is not host:port"


def _path_or_none_problem(value: object) -> str:
    return "" if value == "" else _path_problem(value)


def _address_problem(value: object) -> str:
    url = urlsplit(value) if isinstance(value, str) else None
    good = url is not None and (value == "" or (url.scheme == "http" and url.hostname))
    return "" if good else "is neither empty nor an http address"


# Where the kind alone does not tell what is right.
_OWN_CHECKS = {
    "ops_prefix": _prefix_problem,
    "hooks": _hooks_problem,
    "bake_seconds": _duration_problem,
    "warm_seconds": _duration_problem,
    "bake_error_share": _share_problem,
    "bake_slowdown": _factor_problem,
    "page_certificates": _path_or_none_problem,
    "page_prometheus": _address_problem,
}


def _build(given: dict) -> Settings:
    values = dict(given)
    for name, field in _fields().items():
        if field.type == "Path" and name in given:
            values[name] = Path(given[name])
    if given["edge"] is not None:
        host, _, port = given["edge"]["connect"].rpartition(":")
        values["edge"] = Edge(given["edge"]["url"], host.strip("[]"), int(port))
    values["companions"] = tuple(kind for kind in units.COMPANIONS if kind in given.get("companions", []))
    return Settings(**values)
