"""Build wheels and archives the way the controller does."""

import base64
import hashlib
import io
import json
import platform
import sys
import tarfile
import zipfile

MINOR = "{}.{}".format(*sys.version_info[:2])
BUILT = 1_790_000_000


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


def wheel(name, version="1.0", files=None, requires=(), scripts=None):
    """Return a wheel's file name and content."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {wanted}\n" for wanted in requires)
    entries = dict(files or {f"{name}/__init__.py": f"NAME = {name!r}\n"})
    entries[f"{info}/METADATA"] = metadata
    entries[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    if scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        entries[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    record = ""
    for path, text in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    entries[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in entries.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


def tar(path, files):
    """Write an archive of {name: content}; a TarInfo in place of content goes in as it is."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return path


DEPS_WHEELS = (
    wheel("framework", scripts={"framework": "framework:main"}),
    wheel(
        "shared", files={"shared/__init__.py": "VALUE = 'of the dependencies'\n", "shared/data.txt": "1\n"}
    ),
)


# The digests of what was written below, by the dependencies' id, for the release.json of releases on them.
WRITTEN = {}


def deps_archive(folder, wheels=DEPS_WHEELS, spoil_hash=False):
    """Write a dependencies archive; return its path and id."""
    lock = "".join(
        f"{name.split('-')[0]}==1.0 --hash=sha256:{digest_of(b'' if spoil_hash else content)}\n"
        for name, content in wheels
    )
    deps_id = digest_of(f"{lock}{MINOR}{platform.machine()}".encode())[:12]
    files = {"requirements.txt": lock.encode()} | {f"wheels/{name}": content for name, content in wheels}
    WRITTEN[deps_id] = {name: digest_of(content) for name, content in files.items()}
    return tar(folder / f"deps-{deps_id}.tar", files), deps_id


def release_archive(
    folder, deps_id, number=1, *, wheels=None, behaviour=None, migrate="", celery="", change=None, **told
):
    """Write a release archive; return its path and id.

    :param number: tells releases apart: it is in the build time and in the content.
    :param change: a function that may spoil the files, after their digests were taken.
    """
    own = [wheel("ourapp", f"{number}.0")] if wheels is None else wheels
    pins = "".join(f"./wheels/{name} --hash=sha256:{digest_of(content)}\n" for name, content in own)
    digest = digest_of(f"{number}{behaviour}{pins}".encode())
    release_id = f"20260101T0000{number:02}Z-{digest[:7]}"
    env = f"APP_WSGI=ourapp:app\nMIGRATE_COMMAND={migrate}\nRELEASE_ID={release_id}\n"
    env += f"APP_CELERY={celery}\n" if celery else ""
    files = {
        "release.env": env.encode(),
        "requirements.txt": pins.encode(),
        "src/behaviour.json": json.dumps(behaviour or {}).encode(),
        "src/plain.py": b"X = 1\n",
        "static/apphost.css": f"body {{ margin: {number}px }}\n".encode(),
        **{f"wheels/{name}": content for name, content in own},
    }
    manifest = {
        "schema": 1,
        "id": release_id,
        "digest": digest,
        "app": "inbox",
        "revision": "0" * 40,
        "built_at": "2026-09-21T14:13:20Z",
        "python": MINOR,
        "platform": f"linux-{platform.machine()}",
        "deps_id": deps_id,
        "dependencies": WRITTEN.get(deps_id, {}),
        "files": {name: digest_of(content) for name, content in files.items()},
        **told,
    }
    files["release.json"] = json.dumps(manifest).encode()
    if change:
        change(files)
    return tar(folder / f"release-{release_id}.tar", files), release_id
