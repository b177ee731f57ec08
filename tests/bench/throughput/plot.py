"""Draw requests a second of each view, and memory, as one SVG for a light page and for a dark one."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from xml.sax.saxutils import escape

from .contestants import CONTESTANTS
from .report import Found
from .views import VIEWS

WIDTH, COLUMNS = 960, 2
PANEL, GAP = 460, 40
NAME, BAR, STEP = 92, 14, 20
TOP, TITLE = 46, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 14px }
.unit, .other { fill: #57606a }
.ours { fill: #0969da }
rect.others { fill: #8c959f }
text.ours { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .unit { fill: #9198a1 }
  .ours { fill: #4493f8 }
  rect.others { fill: #656c76 }
}
"""
#: Shown in the accent colour.
OURS = ("ops",)


def drawn(found: Found) -> str:
    """Return the drawing: a panel for each view, and one for memory; medians."""
    panels = [
        (f"{view}: {VIEWS[view].about}", "requests a second, more is better", _rates(found, view))
        for view in found.views
    ]
    held = {name: held.pss_mib for name in CONTESTANTS for held in found.held(name)}
    panels.append(("memory of all processes of the app", "MiB (PSS), less is better", held))
    rows = [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]
    parts, y = [], 10
    for row in rows:
        for column, panel in enumerate(row):
            parts += _panel(column * (PANEL + GAP), y, *panel)
        y += TOP + STEP * max(len(bars) for _, _, bars in row) + TITLE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" role="img">'
    label = "Requests a second of each view, and memory, by deployment"
    return "\n".join([head, f"<title>{label}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _rates(found: Found, view: str) -> dict[str, float]:
    turns = {name: found.at(view, name) for name in CONTESTANTS}
    return {name: median(one.per_second for one in ours) for name, ours in turns.items() if ours}


def _panel(x: int, y: int, title: str, unit: str, bars: dict[str, float]) -> Iterable[str]:
    yield f'<text class="title" x="{x}" y="{y + 14}">{escape(title)}</text>'
    yield f'<text class="unit" x="{x}" y="{y + 31}">{escape(unit)}</text>'
    longest = max(bars.values(), default=0) or 1
    room = PANEL - NAME - 60
    for number, (name, value) in enumerate(bars.items()):
        top = y + TOP + number * STEP
        kind = "ours" if name in OURS else "others"
        width = max(1.0, room * value / longest)
        yield f'<text class="{kind}" x="{x}" y="{top + 11}">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{x + NAME}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text class="{kind}" x="{x + NAME + width + 6:.1f}" y="{top + 11}">{value:,.0f}</text>'
