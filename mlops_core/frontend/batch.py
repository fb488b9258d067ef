"""The tab where a whole table is answered: given, looked at, scored, taken along."""

from collections.abc import Callable, Coroutine
from html import escape
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.client import Api, ApiError
from mlops_core.frontend.facts import Model
from mlops_core.frontend.parts import Download, Plot, Upload
from mlops_core.frontend.tables import (
    PARQUET,
    TableError,
    distribution_chart,
    media_of,
    missing_columns,
    read_table,
    rejected_rows,
    sample_csv,
    separated,
)
from mlops_core.frontend.words import box, hide, html, quoted, show_table

PREVIEW_ROWS, SHOWN_REJECTED = 8, 50
Run = Callable[[Coroutine[Any, Any, None]], None]


class Batch:
    """One table at a time."""

    def __init__(self, api: Api, model: Model, run: Run) -> None:
        self.api, self.model = api, model
        self._content, self._name = b"", ""
        self.upload = Upload(label="Choose a table: CSV in UTF-8, or Parquet", accept=".csv,.parquet")
        self.upload.observe_file(self.take)
        sample = Download(label="Download a sample", filename=f"{model.name}_sample.csv", data=sample_csv(model))
        self.button = widgets.Button(description="Get the answers", button_style="primary", disabled=True)
        self.button.on_click(lambda _: run(self.score()))
        self.note, self.preview, self.rejected = html(), html(), html()
        self.chart = Plot()
        self.download = Download()
        intro = html("<h2>A whole table</h2><p>One row for each case. An empty cell is a value that is not known.</p>")
        given = box(intro, self.upload, sample, self.preview, self.button, self.note, kind="mlops-card")
        self.result = box(html("<h2>The answers</h2>"), self.chart, self.download, self.rejected, kind="mlops-card")
        hide(self.result)
        self.view = box(given, self.result, kind="mlops-column")

    def take(self, name: str, content: bytes) -> None:
        """A file was given."""
        self._content, self._name = b"", name
        self.note.value, self.button.disabled = "", True
        hide(self.result)
        try:
            table = read_table(content)
        except TableError as error:
            self.preview.value = ""
            self._say(str(error), bad=True)
            return
        first = f", the first {PREVIEW_ROWS} of them" if len(table.rows) > PREVIEW_ROWS else ""
        caption = f"{name}: {len(table.rows):,} rows{first}"
        self.preview.value = show_table(table.head, table.rows[:PREVIEW_ROWS], caption, "The first rows of the table")
        if lacking := missing_columns(self.model, table.head):
            lack = f"The table lacks {quoted(lacking)}. Add it and choose the file again."
            self._say(separated(table.head) or lack, bad=True)
            return
        self._content, self.button.disabled = content, False

    def _say(self, text: str, *, bad: bool = False) -> None:
        self.note.value = show_note(text, bad)

    async def score(self) -> None:
        """Asks for the answers. Raises ApiError for what is no fault of the table's."""
        media = media_of(self._content)
        self.button.disabled = True
        self._say("Asking …")
        try:
            content = await self.api.score_file(self._content, media)
        except ApiError as error:
            self._say(error.detail if error.kind == "invalid" else "", bad=True)
            if error.kind != "invalid":
                raise
            return
        finally:
            self.button.disabled = False
        scored = read_table(content)
        rejected = rejected_rows(scored)
        self._say(f"{len(scored.rows) - len(rejected):,} rows answered, {len(rejected):,} rejected.")
        self.chart.show(distribution_chart(self.model, scored))
        stem, kind = self._name.rsplit(".", 1)[0], "parquet" if media == PARQUET else "csv"
        self.download.label = "Download the answers"
        self.download.filename, self.download.media, self.download.data = f"{stem}_answers.{kind}", media, content
        first = f", the first {SHOWN_REJECTED} of them" if len(rejected) > SHOWN_REJECTED else ""
        self.rejected.value = (
            show_table(
                ("Row", "Why"),
                rejected[:SHOWN_REJECTED],
                f"Rejected rows{first}",
            )
            if rejected
            else ""
        )
        hide(self.result, False)


def show_note(text: str, bad: bool) -> str:
    return f'<p class="{"bad" if bad else "fine"}" role="status">{escape(text)}</p>' if text else ""
