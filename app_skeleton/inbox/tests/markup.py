"""What can be told of a page from its markup alone, for tests."""

from collections import Counter
from html.parser import HTMLParser

_VOID = {"meta", "link", "input", "img", "br", "hr", "col"}
_NO_LABEL = {"hidden", "submit", "button"}


class Page(HTMLParser):
    """A page's elements: name, attributes, and the names of those around."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self._open = []
        self.faults = []
        self.feed(html)
        self.close()
        if self._open:
            self.faults.append(f"never closed: {self._open}")

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes another element, line {self.getpos()[0]}")

    def all(self, *tags):
        return [attributes for tag, attributes, _ in self.elements if tag in tags]


def faults(html):
    """Return what keeps a page from being used by everybody, or what its policy would block."""
    page = Page(html)
    found = list(page.faults)
    ids = Counter(attributes["id"] for _, attributes, _ in page.elements if "id" in attributes)
    found += [f"id {name} stands {count} times" for name, count in ids.items() if count > 1]
    for tag, count in (
        ("h1", 1),
        ("main", 1),
        ("title", 1),
        ("header", 1),
        ("footer", 1),
        ("script", 0),
        ("style", 0),
    ):
        if len(page.all(tag)) != count:
            found.append(f"{len(page.all(tag))} {tag}, not {count}")
    labelled = {attributes.get("for") for attributes in page.all("label")}
    for attributes in page.all("input", "select", "textarea"):
        if attributes.get("type") not in _NO_LABEL and attributes.get("id") not in labelled:
            found.append(f"no label: {attributes}")
    for tag, attributes, around in page.elements:
        found += [f"{tag} has {name}" for name in attributes if name == "style" or name.startswith("on")]
        named = [attributes.get(name, "") for name in ("aria-describedby", "aria-labelledby", "for")]
        if attributes.get("href", "").startswith("#"):
            named.append(attributes["href"][1:])
        found += [
            f"{tag} points to {name}, which is not there"
            for name in " ".join(named).split()
            if name not in ids
        ]
        if tag == "th" and "scope" not in attributes:
            found.append("a th has no scope")
        if tag == "img" and "alt" not in attributes:
            found.append("an img has no alt")
        if tag == "form" and attributes.get("method") == "post" and not _has_token(page):
            found.append("a form without a token")
        if tag in ("a", "button") and ("a" in around or "button" in around):
            found.append(f"{tag} within another")
    if len(page.all("table")) != len(page.all("caption")):
        found.append("a table has no caption")
    if not any("lang" in attributes for attributes in page.all("html")):
        found.append("no language")
    return found


def _has_token(page):
    return any(attributes.get("name") == "csrf_token" for attributes in page.all("input"))
