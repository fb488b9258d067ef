"""The tab where one case is asked about: a form, the answer as one types, its reasons, and what if."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.charts import answer_chart, explained_class, reasons_chart, whatif_chart
from mlops_core.frontend.client import Api, ApiError
from mlops_core.frontend.facts import Model, Row
from mlops_core.frontend.form import Form
from mlops_core.frontend.live import AfterQuiet, Latest
from mlops_core.frontend.parts import Plot
from mlops_core.frontend.probes import build_probe
from mlops_core.frontend.words import box, html, show_answer, show_because, show_origin

SETTLED_SECONDS = 1.5
POINTER = re.compile(r"/instances/0/(.+)")
INCOMPLETE = '<p class="mlops-hint">Correct the marked fields to get an answer.</p>'
Failed = Callable[[ApiError], None]


class Ask:
    """Form on one side, answer on the other. `fail` is told what the form itself cannot say."""

    def __init__(
        self, api: Api, model: Model, fail: Failed, done: Callable[[], None], keep: Callable[..., None]
    ) -> None:
        self.api, self.model, self._fail, self._done, self._keep = api, model, fail, done, keep
        self.row: Row = {}
        self.answer: Mapping[str, Any] | None = None
        self.newer: Callable[[], None] = lambda: None
        self.latest = Latest(self._update)
        self._settled = AfterQuiet(self._settle, SETTLED_SECONDS)
        self._problems: dict[str, str] = {}
        self.form = Form(model, self.changed)
        self.words, self.origin, self.because = html(kind="mlops-words"), html(show_origin(model)), html()
        self.gauge, self.reasons, self.curve = Plot(), Plot(), Plot()
        self.hint = html()
        top = model.by_importance[0].name
        options = [(column.label or column.name, column.name) for column in model.by_importance]
        self.varied = widgets.Dropdown(description="What if it were different:", options=options, value=top)
        self.varied.observe(lambda _: self.latest.call(), "value")
        reset = widgets.Button(description="Start again from an example")
        reset.on_click(lambda _: self.form.reset(model.example))
        left = box(html("<h2>The case</h2>"), self.form.view, reset, kind="mlops-card")
        left.add_class("mlops-case")
        answer = box(self.hint, self.words, self.gauge, self.origin, kind="mlops-card")
        answer.add_class("mlops-now")
        why = box(html("<h2>Why</h2>"), self.because, self.reasons, kind="mlops-card")
        what_if = box(html("<h2>What if</h2>"), self.varied, self.curve, kind="mlops-card")
        right = box(answer, why, what_if, kind="mlops-column")
        self.view = box(left, right, kind="mlops-ask", across=True)

    def changed(self) -> None:
        """Something was typed, chosen or moved."""
        self._problems = {}
        self._settled.cancel()
        self.latest.call()

    async def _update(self) -> None:
        row = self.form.read(self._problems)
        self.hint.value = "" if row else INCOMPLETE
        if row is None:
            self.words.add_class("stale")
            return
        try:
            answer = await self.api.explain(row)
            self._show(row, answer)
            await self._vary(row, answer)
        except ApiError as error:
            self.words.add_class("stale")
            self._take(error)
        else:
            self._done()

    def _show(self, row: Row, answer: Mapping[str, Any]) -> None:
        self.row, self.answer = row, answer
        self.words.value = show_answer(self.model, answer)
        self.words.remove_class("stale")
        self.gauge.show(answer_chart(self.model, answer))
        self.because.value = show_because(self.model, answer)
        self.reasons.show(reasons_chart(self.model, row, answer))
        self._settled.call()
        if answer["version"] != self.model.version:
            self.newer()

    async def _vary(self, row: Row, answer: Mapping[str, Any]) -> None:
        column = next(column for column in self.model.columns if column.name == self.varied.value)
        probe = build_probe(column, row)
        if probe is None:
            self.curve.show(None)
            return
        answers = await self.api.predict(probe.rows(row))
        self.curve.show(whatif_chart(self.model, probe, answers, explained_class(self.model, answer)))

    def _take(self, error: ApiError) -> None:
        """What the API says of single fields stands under them."""
        places = {POINTER.fullmatch(pointer): detail for pointer, detail in error.fields.items()}
        self._problems = {
            found[1]: detail for found, detail in places.items() if found and found[1] in self.form.fields
        }
        if self._problems:
            self.form.read(self._problems)
            self.hint.value = INCOMPLETE
        else:
            self._fail(error)

    def _settle(self) -> None:
        if self.answer is not None:
            self._keep(self.model, self.row, self.answer)
