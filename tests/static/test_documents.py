"""What the documents point at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from bundle import Bundle, law

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
CODE = re.compile(r"`([^`\n]+)`")
# A path of this repository: words parted by /, no host path, no placeholder.
REPOSITORY_PATH = re.compile(r"(?:\.?[\w@-][\w.@-]*/)+(?:[\w.@-]*)|[\w-]+\.(?:md|toml|cfg|yml)")
# Folders a reader makes: the documents speak of them as examples.
READERS_OWN = ("inventory/production", "inventory/staging")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document with their numbers, fenced code left out."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(text: str) -> set[str]:
    """Return the anchors of a document, as GitHub makes them of its headings."""
    found: set[str] = set()
    for _number, line in prose(text):
        if heading := HEADING.match(line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            suffixes = ["", *(f"-{count}" for count in range(1, 50))]
            found.add(next(slug + suffix for suffix in suffixes if slug + suffix not in found))
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
    return found


def documents(bundle: Bundle) -> list[str]:
    return [path for path in bundle.files if path.endswith(".md") and not (bundle.root / path).is_symlink()]


@law
def test_links_lead_somewhere(bundle: Bundle):
    for path in documents(bundle):
        folder = (bundle.root / path).parent
        for number, line in prose(bundle.text(path)):
            for link in (found[0] or found[1] for found in LINK.findall(CODE.sub("``", line))):
                target, _, anchor = unquote(link).partition("#")
                if re.match(r"\w+:", target):
                    continue
                file = (folder / target).resolve() if target else (bundle.root / path)
                if not file.exists():
                    yield f"{path}:{number}: links to {link}, which is not there"
                elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                    yield (
                        f"{path}:{number}: links to {link}: {file.name} has no such heading; it has "
                        f"{', '.join(sorted(anchors(file.read_text())))}"
                    )


@law
def test_paths_the_readme_names_exist(bundle: Bundle):
    top = {path.split("/")[0] for path in bundle.files}
    ignored = {line.strip("/ \n") for line in bundle.text(".gitignore").splitlines()}
    for number, line in prose(bundle.text("README.md")):
        for word in (word for code in CODE.findall(line) for word in code.split()):
            name = word.rstrip("/")
            if (
                not REPOSITORY_PATH.fullmatch(word)
                or name.startswith(READERS_OWN)
                or name.split("/")[0] in ignored
            ):
                continue
            ours = "/" not in name or name.split("/")[0] in top
            if ours and not (bundle.root / name).exists():
                yield f"README.md:{number}: names {word}, which is not there"


@law
def test_make_targets_the_documents_name_exist(bundle: Bundle):
    makefile = bundle.text("Makefile")
    for path in documents(bundle) if makefile else []:
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            for target in re.findall(r"`make ((?!-)[a-z][\w-]*)", line):
                if not re.search(rf"^(?:[\w -]+ )?{re.escape(target)}(?: [\w -]+)?:", makefile, re.MULTILINE):
                    yield f"{path}:{number}: names `make {target}`, which the Makefile does not have"
