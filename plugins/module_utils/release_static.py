"""Prepare static files at the build: names that change with the content, and bodies compressed once."""

from __future__ import annotations

import hashlib
import posixpath
import re
import zlib
from collections.abc import Mapping
from urllib.parse import quote, unquote

from ansible.module_utils.release_archive import canonical_json

# Which name to ask for, by the file's own: what the app reads at its start.
MANIFEST = "manifest.json"
# The path below which nginx serves the files.
SERVED = "/static/"
# What is text, and not compressed by its own format.
TEXTS = (".css", ".csv", ".htm", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".vtt")
TEXTS += (".webmanifest", ".xml", ".xsl")
# A tenth saved is worth a second file.
WORTHWHILE = 0.9
COMPRESSED = (".gz", ".br")
# A part of the name that some other tool made from the content: hexadecimal, with both digits and letters.
LOOKS_HASHED = re.compile(r"[.-](?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}(?=\.|$)")
# What a style sheet asks for, up to its query or fragment, which stay as they are. What CSS escapes with a
# backslash is passed over.
REFERENCE = re.compile(
    r"""(?P<before>(?<![\w-])url\(\s*["']?|@import\s+["'])"""
    r"""(?P<name>[^"'()\\?#\s](?:[^"'()\\?#\r\n]*[^"'()\\?#\s])?)(?=\s*["')?#])""",
    re.IGNORECASE,
)


def prepared(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a static folder and what stands beside them: hashed copies, `.gz`, the manifest.

    Every file keeps its own name, with one exception: a `.gz` that does not unpack to the file it stands
    beside. A server would take it for that file; left out, it is still the app's own to answer.
    The same files give the same result, whatever their order.

    :param files: content by path below the folder.
    """
    kept = {name: content for name, content in files.items() if not _misleads(name, files)}
    if names_are_taken(files):
        copies = {}
    else:
        naming = Naming(kept)
        copies = {**naming.copies, MANIFEST: canonical_json(naming.manifest)}
    # Nothing of the app's own is ever replaced.
    plain = {**copies, **kept}
    packed = {f"{name}.gz": _packed(name, content) for name, content in plain.items() if name != MANIFEST}
    # A `.gz` that misleads is in neither: its name stays free for the app.
    return {name: content for name, content in packed.items() if content and name not in files} | plain


def names_are_taken(files: Mapping[str, bytes]) -> bool:
    """Return whether the manifest's place is taken: by a bundler that hashes names itself, or a web app's."""
    return MANIFEST in files


class Naming:
    """The hashed names of some files.

    :ivar manifest: the hashed name by the file's own, for each that has one.
    :ivar copies: the content by hashed name. A style sheet's copy asks for the hashed names of the others.
    """

    def __init__(self, files: Mapping[str, bytes]):
        """Name all files."""
        self._files = files
        self._begun: set[str] = set()
        self.manifest: dict[str, str] = {}
        self.copies: dict[str, bytes] = {}
        # Which reference of a cycle keeps its plain name depends on who is named first.
        for name in sorted(files):
            self.name(name)

    def name(self, name: str) -> str:
        """Return the name to ask for a file by: its own where it has no other, or has none yet.

        A style sheet is named after all that it asks for, so that its name changes with theirs. The last
        reference of a cycle therefore keeps its plain name.
        """
        if name not in self._begun and name in self._files and not _keeps_its_name(name, self._files):
            self._begun.add(name)
            content = self._files[name]
            if name.endswith(".css"):
                content = self._rewritten(name, content)
            hashed = hashed_name(name, content)
            self.manifest[name], self.copies[hashed] = hashed, content
        return self.manifest.get(name, name)

    def _rewritten(self, css: str, content: bytes) -> bytes:
        # Bytes that are no UTF-8 come out as they went in.
        text = content.decode("utf-8", "surrogateescape")
        return REFERENCE.sub(lambda match: self._reference(css, match), text).encode(
            "utf-8", "surrogateescape"
        )

    def _reference(self, css: str, match: re.Match) -> str:
        asked = match["name"]
        target = _target(css, asked)
        named = self.name(target)
        if named == target:
            return match[0]
        # The copy lies in the same folder, so the way there stays as it was written.
        folder, slash, _ = asked.rpartition("/")
        return match["before"] + folder + slash + quote(posixpath.basename(named))


def hashed_name(name: str, content: bytes) -> str:
    """Return a name with 12 hexadecimal digits of the content's sha256 before the last ending.

    nginx's conf.d/static.conf knows such names by their form.
    """
    stem, ending = posixpath.splitext(name)
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}{ending}"


def _target(css: str, asked: str) -> str:
    """Return the path below the static folder that a reference means; what is elsewhere names no file."""
    path = unquote(asked)
    below = path.removeprefix(SERVED)
    return posixpath.normpath(below if below != path else posixpath.join(posixpath.dirname(css), path))


def _keeps_its_name(name: str, files: Mapping[str, bytes]) -> bool:
    """Return whether a file gets no hashed copy.

    Hidden files, which no page asks for; source maps, which a browser finds by the name written in the file
    they belong to; compressed bodies of other files; and what a bundler has hashed already.
    """
    hidden = any(part.startswith(".") for part in name.split("/"))
    body = name.endswith(COMPRESSED) and name[: -len(".gz")] in files
    return hidden or body or name.endswith(".map") or bool(LOOKS_HASHED.search(posixpath.basename(name)))


def _misleads(name: str, files: Mapping[str, bytes]) -> bool:
    body = files.get(name.removesuffix(".gz")) if name.endswith(".gz") else None
    if body is None:
        return False
    try:
        return zlib.decompress(files[name], wbits=31) != body
    except zlib.error:
        return True


def _packed(name: str, content: bytes) -> bytes | None:
    """Return a file's gzip body, None where it does not pay."""
    if posixpath.splitext(name)[1].lower() not in TEXTS:
        return None
    # zlib's own header names no time and the same system everywhere; the gzip module's differs by Python.
    packed = zlib.compress(content, 9, wbits=31)
    return packed if len(packed) <= WORTHWHILE * len(content) else None
