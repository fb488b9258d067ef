"""The tab about the model: how good, where weak, what it looks at, what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_core.frontend.charts import bars_chart, importance_chart, reliability_chart
from mlops_core.frontend.client import Api, ApiError
from mlops_core.frontend.facts import Model, number_text, percent, score_text
from mlops_core.frontend.parts import Download, Plot
from mlops_core.frontend.words import METRICS, box, hide, html, show_chips, show_origin, show_table

MOST_SLICES = 12


def score_rows(scores: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Head and lines: the model and every baseline, each score with its interval."""
    metrics = [name for name in METRICS if any(name in line for line in scores.values())]
    lines = [[name, *(_with_interval(line, metric) for metric in metrics)] for name, line in scores.items()]
    return ["Model", *(METRICS[name] for name in metrics)], lines


def _with_interval(line: Mapping[str, float], metric: str) -> str:
    if metric not in line:
        return ""
    low, high = line.get(f"{metric}_low"), line.get(f"{metric}_high")
    spread = f" ({score_text(low)} to {score_text(high)})" if low is not None and high is not None else ""
    return f"{score_text(line[metric])}{spread}"


def hardest(model: Model, slices: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The slices with the largest loss, by names that people read."""
    columns = {column.name: column for column in model.columns}
    ordered = sorted(slices, key=lambda item: -item["score"])[:MOST_SLICES]
    found = {}
    for item in ordered:
        column, value = columns.get(item["slice"]), str(item["value"])
        shown = column.show_category(value) if column else value
        found[f"{model.label_of(item['slice'])} {shown}"] = float(item["score"])
    return found


class About:
    """Filled when it is looked at first."""

    def __init__(self, api: Api, model: Model) -> None:
        self.api, self.model = api, model
        self.shown = False
        self.scores, self.limits, self.state = html(), html(), html("<p>Loading …</p>")
        self.importance, self.reliability, self.slices = Plot(), Plot(), Plot()
        self.card = Download(
            label="Download the model card", filename=f"{model.name}_model_card.md", media="text/markdown"
        )
        intro = html(f"<h2>The model</h2>{show_origin(model)}")
        good = box(intro, self.state, self.scores, self.card, kind="mlops-card")
        looks = box(html("<h2>What it looks at</h2>"), self.importance, kind="mlops-card")
        self._says = box(html("<h2>Does it come true?</h2>"), self.reliability, kind="mlops-card")
        self._weak = box(html("<h2>Where it is weak</h2>"), self.slices, kind="mlops-card")
        self._not_for = box(self.limits, kind="mlops-card")
        self.view = box(good, looks, self._says, self._weak, self._not_for, kind="mlops-about")
        for part in (self._says, self._weak, self._not_for):
            hide(part)

    async def show(self) -> None:
        """Asks once. Raises ApiError, except where the version has no evaluation."""
        if self.shown:
            return
        self.importance.show(importance_chart(self.model))
        try:
            self._fill(await self.api.evaluation())
        except ApiError as error:
            if error.kind != "missing":
                raise
            self.state.value = "<p>This version was registered without an evaluation.</p>"
        self.shown = True

    def _fill(self, found: Mapping[str, Any]) -> None:
        days = f", {found['first_day']} to {found['last_day']}" if found["first_day"] else ""
        coverage = found["coverage"]
        self.state.value = (
            f"<p>Measured once on {found['rows']:,} rows that nobody had looked at before{days}. Its answers are meant "
            f"to hold the truth in {percent(coverage['stated'])} of the cases; they did in "
            f"{100 * coverage['observed']:.1f} %.</p>"
        )
        head, lines = score_rows(found["scores"])
        self.scores.value = show_table(head, lines, "Scores with 95 % intervals, beside simple models")
        self.card.data = found["card"].encode()
        self.limits.value = show_chips("What it is not for", found["limits"])
        hide(self._not_for, not found["limits"])
        if found["reliability"]:
            self.reliability.show(reliability_chart(found["reliability"]))
            hide(self._says, False)
        if found["slices"]:
            worst = hardest(self.model, found["slices"])
            metric = METRICS.get(found["metric"], found["metric"])
            alt = f"Bars: weakest for {next(iter(worst))}, {metric} {number_text(next(iter(worst.values())))}."
            self.slices.show(bars_chart(worst, f"{metric}, less is better", alt, ("Part of the test rows", metric)))
            hide(self._weak, False)
