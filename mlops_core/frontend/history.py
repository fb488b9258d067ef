"""What was asked in this session: kept in the kernel's memory, compared, taken along as CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.charts import explained_class, spoken, value_of
from mlops_core.frontend.facts import Model, Row
from mlops_core.frontend.parts import Download
from mlops_core.frontend.words import answer_words, box, hide, html, show_table

MOST = 200
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\x00")


@dataclass(frozen=True)
class Entry:
    """One question and its answer."""

    number: int
    at: datetime
    model: Model
    row: Row
    answer: Mapping[str, Any]

    @property
    def head(self) -> str:
        return answer_words(self.model, self.answer)[0]

    @property
    def how_sure(self) -> str:
        """The probability of the class that is explained, or where a number lies between."""
        if not self.model.classes:
            return " to ".join(spoken(self.model, float(edge)) for edge in self.answer["interval"])
        label = explained_class(self.model, self.answer)
        return f"{label} {spoken(self.model, value_of(self.answer, label))}"

    @property
    def title(self) -> str:
        said = self.how_sure if self.model.classes else self.head
        return f"{self.number} · {self.at:%H:%M:%S} · {said}"


def escape_cell(text: str) -> str:
    """A spreadsheet must not take a text for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def to_csv(entries: list[Entry]) -> bytes:
    """One line an entry: when, the answer, the version, and what was asked."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["at", "answer", "how_sure", "model", "prediction_id", *names])
    for entry in entries:
        model = f"{entry.model.name} {entry.answer.get('version', entry.model.version)}"
        fixed = [entry.at.isoformat(timespec="seconds"), entry.head, entry.how_sure, model, entry.answer["id"]]
        asked = [entry.row.get(name) for name in names]
        cells = ["" if value is None else value for value in [*fixed, *asked]]
        writer.writerow([escape_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode()


def differences(first: Entry, second: Entry) -> list[tuple[str, str, str]]:
    """The columns that differ, and the answers, in both entries."""
    lines = [
        (column.title, column.show(first.row.get(column.name)), column.show(second.row.get(column.name)))
        for column in first.model.columns
        if first.row.get(column.name) != second.row.get(column.name)
    ]
    return [*lines, ("Answer", f"{first.head}, {first.how_sure}", f"{second.head}, {second.how_sure}")]


class History:
    """The entries, the newest on top."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._table = html("<p>Every answer that you stay with for a moment is kept here until you leave.</p>")
        self._export = Download(label="Download as CSV", filename="history.csv")
        self._first = widgets.Dropdown(description="Compare")
        self._second = widgets.Dropdown(description="with")
        self._differences = html()
        self._pair = box(self._first, self._second, kind="mlops-pair", across=True)
        hide(self._pair)
        self.view = box(
            html("<h2>History</h2>"), self._table, self._export, self._pair, self._differences, kind="mlops-card"
        )
        self._first.observe(lambda _: self._compare(), "value")
        self._second.observe(lambda _: self._compare(), "value")

    def add(self, model: Model, row: Row, answer: Mapping[str, Any]) -> None:
        """Keeps an answer, unless it is to the same question as the last one."""
        if self.entries and self.entries[-1].row == row and self.entries[-1].model.version == model.version:
            return
        number = self.entries[-1].number + 1 if self.entries else 1
        self.entries = [*self.entries, Entry(number, datetime.now(), model, dict(row), dict(answer))][-MOST:]
        self._show()

    def clear(self) -> None:
        self.entries = []
        self._table.value, self._export.data, self._differences.value = "<p>Nothing yet.</p>", b"", ""
        hide(self._pair)

    def _show(self) -> None:
        lines = [(e.number, f"{e.at:%H:%M:%S}", e.head, e.how_sure, self._changed(e)) for e in reversed(self.entries)]
        count = f"{len(lines)} answer{'s' if len(lines) > 1 else ''} of this session"
        self._table.value = show_table(("No.", "Time", "Answer", "How sure", "Changed"), lines, count)
        self._export.data = to_csv(self.entries)
        options = [(entry.title, entry.number) for entry in reversed(self.entries)]
        for choice, place in ((self._first, 1), (self._second, 0)):  # the newest with the one before
            choice.options = options
            choice.value = options[min(place, len(options) - 1)][1]
        hide(self._pair, len(options) < 2)
        self._compare()

    def _changed(self, entry: Entry) -> str:
        before = next((other for other in reversed(self.entries) if other.number < entry.number), None)
        if before is None:
            return "the first question"
        names = [line[0] for line in differences(before, entry)[:-1]]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def _compare(self) -> None:
        chosen = {entry.number: entry for entry in self.entries}
        first, second = chosen.get(self._first.value), chosen.get(self._second.value)
        if first is None or second is None or first is second:
            self._differences.value = ""
            return
        head = ("What differs", f"No. {first.number}", f"No. {second.number}")
        self._differences.value = show_table(head, differences(first, second), "What differs between the two")
