"""Draw a day's report: A4, as many pages as its lists take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, VAlign, WrapMode, XPos, YPos
from fpdf.fonts import FontFace

if TYPE_CHECKING:
    from .reports import Figures

#: Sources, and kinds of messages, listed; the others are told as one.
SOURCES_MAX = 100
KINDS_MAX = 1000

_INK, _FAINT, _BAR, _BAR_BEFORE = (30, 36, 44), (110, 118, 129), (31, 95, 160), (168, 194, 220)
_BAND = FontFace(emphasis="BOLD", color=_INK, fill_color=(234, 238, 243))
_STATES = {
    "pending": "pending: not begun", "processing": "processing: being worked on", "done": "done",
    "failed": "failed: to be tried again", "dead": "dead: given up, until somebody replays them",
}  # fmt: skip


def draw(found: Figures) -> bytes:
    """Return a report as PDF: of the same figures the same bytes."""
    page = _Page(found.day)
    page.headline(found.total)
    page.chart(found.days)
    page.states(found.states)
    page.kinds(found.kinds)
    return bytes(page.output())


class _Page(FPDF):
    """A4, with what every page has."""

    def __init__(self, day: date) -> None:
        super().__init__(format="A4")
        self._day = day
        self.set_title(f"Messages of {day.isoformat()}")
        self.set_creator("inbox")
        # The day's end and not the time of making: a report made twice is the same file.
        self.set_creation_date(datetime.combine(day, time(), UTC) + timedelta(days=1))
        self.set_margins(18, 16)
        self.set_auto_page_break(True, margin=20)
        self.set_draw_color(*_FAINT)
        self.add_page()

    def footer(self) -> None:
        self.set_y(-14)
        self._font(8, color=_FAINT)
        self.cell(self.epw / 2, 5, f"Inbox, {self._day.isoformat()} (UTC)")
        self.cell(self.epw / 2, 5, f"Page {self.page_no()} of {{nb}}", align="R")

    def headline(self, total: int) -> None:
        self._font(20, "B")
        self._line(10, f"Messages of {self._day.isoformat()}")
        self._font(11, color=_FAINT)
        words = (
            f"{total:,} processed, counted on the day they came, in UTC."
            if total
            else "No message was processed."
        )
        self._line(7, words)

    def chart(self, days: Sequence[tuple[date, int]]) -> None:
        self._heading(f"The last {len(days)} days")
        height, gap = 34.0, 2.0
        top, most = self.get_y() + 5, max(count for _, count in days) or 1
        width = self.epw / len(days)
        for number, (day, count) in enumerate(days):
            left = self.l_margin + number * width
            bar = height * count / most
            self.set_fill_color(*(_BAR if day == self._day else _BAR_BEFORE))
            if count:
                # A day with a single message among many is still to be seen.
                bar = max(bar, 0.6)
                self.rect(left + gap / 2, top + height - bar, width - gap, bar, style="F")
            self._font(7, color=_INK)
            self.set_xy(left, top + height - bar - 4)
            self.cell(width, 4, _short(count), align="C")
            self._font(7, "B" if day == self._day else "", _INK if day == self._day else _FAINT)
            self.set_xy(left, top + height + 1)
            self.cell(width, 4, f"{day:%m-%d}", align="C")
        self.line(self.l_margin, top + height, self.l_margin + self.epw, top + height)
        self.set_xy(self.l_margin, top + height + 7)

    def states(self, states: dict[str, int]) -> None:
        self._heading("What became of the messages that came that day")
        if not any(states.values()):
            self._font(10)
            self._line(6, "None is kept.")
            return
        rows = [(_STATES[name], f"{count:,}") for name, count in states.items() if count]
        self._table(("state", "messages"), rows, (82, 18))

    def kinds(self, kinds: Sequence[tuple[str, str, int]]) -> None:
        self._heading("By source and event")
        if not kinds:
            self._font(10)
            self._line(6, "There is nothing to list.")
            return
        totals: Counter[str] = Counter()
        for source, _, count in kinds:
            totals[source] += count
        rows, others = totals.most_common(SOURCES_MAX), totals.most_common()[SOURCES_MAX:]
        if others:
            rows.append((f"{len(others):,} more sources", sum(count for _, count in others)))
        self._table(("source", "messages"), [(source, f"{count:,}") for source, count in rows], (82, 18))
        self.ln(4)
        rows, others = list(kinds[:KINDS_MAX]), kinds[KINDS_MAX:]
        if others:
            rows.append((f"{len(others):,} more kinds", "", sum(count for _, _, count in others)))
        rows = [(source, event, f"{count:,}") for source, event, count in rows]
        self._table(("source", "event", "messages"), rows, (30, 52, 18))

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[str]], widths: tuple[int, ...]) -> None:
        """Draw a table; its head is drawn again on each page, a name too long for its column is wrapped."""
        self._font(9)
        self.set_fill_color(255)  # cells take over what the chart has left
        with self.table(
            col_widths=widths,
            text_align=("LEFT",) * (len(head) - 1) + ("RIGHT",),
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=_BAND,
            line_height=5,
            padding=(0.6, 1.5),
            wrapmode=WrapMode.CHAR,
            v_align=VAlign.T,
        ) as table:
            for row in (head, *rows):
                table.row([_printable(text) for text in row])

    def _heading(self, text: str) -> None:
        self.ln(5)
        self._font(12, "B")
        self._line(8, text)

    def _line(self, height: float, text: str) -> None:
        self.cell(0, height, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _font(self, size: float, style: str = "", color: tuple[int, int, int] = _INK) -> None:
        self.set_font("Helvetica", style, size)
        self.set_text_color(*color)


def _printable(text: str) -> str:
    """Return a text of characters PDF's own fonts have: the earlier release took any name for a source."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _short(count: int) -> str:
    """Return a number that fits over a bar, such as 12.3k."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count / size:.0f}{unit}"
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
