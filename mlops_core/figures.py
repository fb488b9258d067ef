"""Pictures of what the stages found: each function returns a Figure whose title states the finding."""

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import fill

import numpy as np
import numpy.typing as npt
import pandas as pd
from IPython.display import HTML, Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlops_core.evaluation import spoken

# Okabe and Ito's palette, distinguishable without full colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
DPI = 110

Floats = npt.NDArray[np.float64]


def _axes(title: str, x: str, y: str, size: tuple[float, float] = (7.0, 3.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(fill(_capital(title), round(size[0] * 8.5)), loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _in_words(metric: str) -> str:
    names = {"roc_auc": "ROC-AUC", "ece": "calibration error", "rmse": "RMSE", "r2": "R²"}
    return names.get(metric, metric.replace("_", " "))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def to_png(figure: Figure) -> bytes:
    """The figure's pixels, without a date: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str, file: Path | None = None) -> Image:
    """The figure as a cell's output, with a text for those who cannot see it; also written to `file`."""
    pixels = to_png(figure)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pixels)
    return Image(pixels, format="png", alt=alt)


def text_table(rows: Mapping[str, Mapping[str, object]], columns: Sequence[str]) -> HTML:
    """Sentences side by side, left-aligned and uncut; pandas would shorten them."""
    style = "style='text-align: left; vertical-align: top'"
    head = "".join(f"<th {style}>{escape(name)}</th>" for name in ("", *columns))
    lines = [
        f"<tr><th {style}>{escape(name)}</th>"
        + "".join(f"<td {style}>{escape(str(row.get(column, '')))}</td>" for column in columns)
        for name, row in rows.items()
    ]
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def rate_by_month(rates: pd.Series, event: str) -> Figure:
    """`rates`: share of the event by month."""
    low, high = rates.idxmin(), rates.idxmax()
    title = f"The share of '{event}' by month: {rates[low]:.0%} in {low}, {rates[high]:.0%} in {high}"
    figure, axes = _axes(title, "month", f"share {event}")
    axes.bar(rates.index.astype(str), rates, color=BLUE)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(axis="x", rotation=45)
    return figure


def target_by_split(target: pd.Series, split: pd.Series) -> Figure:
    """What is predicted, in each part that has rows: shares of the classes, or the spread of a number."""
    parts = [name for name in ("train", "calibrate", "test") if (split == name).any()]
    if pd.api.types.is_numeric_dtype(target.dtype):
        middle = [f"{target[split == name].median():,.6g} in {name}" for name in parts]
        title = f"Half of {target.name} lies below {', '.join(middle)}"
        figure, axes = _axes(title, str(target.name), "share of the rows")
        edges = np.histogram_bin_edges(target.astype("float64"), 40).tolist()
        for name, colour in zip(parts, (BLUE, GREEN, ORANGE), strict=False):
            values = target[split == name].astype("float64")
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, edges, weights=weights, histtype="step", color=colour, label=name, linewidth=1.6)
    else:
        shares = pd.crosstab(target, split, normalize="columns").sort_values("train", ascending=False).head(12)
        title = f"{shares.index[0]} is the most frequent {target.name}: {shares['train'].iloc[0]:.0%} of train"
        figure, axes = _axes(title, str(target.name), "share of the rows")
        places = np.arange(len(shares))
        for offset, (name, colour) in enumerate(zip(parts, (BLUE, GREEN, ORANGE), strict=False)):
            axes.bar(places + (offset - 1) * 0.27, shares[name], 0.25, color=colour, label=name)
        axes.set_xticks(places, [str(value)[:24] for value in shares.index], rotation=0 if len(shares) < 5 else 30)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False)
    return figure


def leak_ranking(audit: pd.DataFrame) -> Figure:
    """The audit's columns by how well each alone predicts; the suspicious ones stand out."""
    caught = audit[audit["suspicious"]]["column"].tolist()
    title = f"Stand out: {', '.join(caught)}" if caught else "No single column predicts suspiciously well"
    shown = audit.head(16).iloc[::-1]
    figure, axes = _axes(title, "ROC-AUC of the column alone", "", (7.0, 4.6))
    axes.barh(
        shown["column"], shown["roc_auc"] - 0.5, left=0.5, color=np.where(shown["suspicious"], ORANGE, BLUE).tolist()
    )
    axes.set_xlim(0.5, 1)
    return figure


def scores_of_runs(scores: pd.DataFrame, metric: str, wrong: str) -> Figure:
    """One dot per run, more is better; the run that must not be believed is marked."""
    ordered = scores.sort_values(metric)
    best = ordered.drop(index=wrong, errors="ignore")[metric].idxmax()
    above = wrong in ordered.index and ordered.index[-1] == wrong
    title = f"The honest best is {best}{f'; {wrong} stands above it' if above else ''}"
    figure, axes = _axes(title, _in_words(metric), "")
    colours = [ORANGE if name == wrong else BLUE for name in ordered.index]
    axes.scatter(ordered[metric], ordered.index, c=colours, s=70, zorder=3)
    for name, value in ordered[metric].items():
        axes.annotate(
            f"{value:.3f}", (value, str(name)), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9
        )
    axes.margins(0.15)
    return figure


def search_history(trials: pd.DataFrame, metric: str) -> Figure:
    """Every trial's loss and the best so far."""
    complete = trials[trials["state"] == "complete"]
    gain = complete["loss"].iloc[0] - complete["loss"].min()
    figure, axes = _axes(
        f"{len(trials)} trials gain {spoken(gain)} on the first one", "trial", f"validation {_in_words(metric)}"
    )
    for family, colour in zip(sorted(complete["family"].unique()), (BLUE, ORANGE, GREEN), strict=False):
        chosen = complete[complete["family"] == family]
        axes.scatter(chosen["trial"], chosen["loss"], color=colour, label=family, s=28)
    axes.step(trials["trial"], trials["best"], where="post", color=GREY, label="best so far")
    axes.legend(frameon=False, fontsize=9)
    return figure


def ranked_bars(values: Mapping[str, float], title: str, x: str, shown: int = 12) -> Figure:
    """The largest values, longest bar on top."""
    series = pd.Series(dict(values)).sort_values().tail(shown)
    figure, axes = _axes(title, x, "", (7.0, 0.6 + 0.3 * len(series)))
    axes.barh(series.index, series, color=BLUE)
    return figure


def search_slices(trials: pd.DataFrame, parameters: list[str], metric: str) -> Figure:
    """Loss against each parameter: what the search learned about it."""
    figure = Figure(figsize=(8.0, 2.6), dpi=DPI, layout="constrained")
    complete = trials[trials["state"] == "complete"]
    panels = figure.subplots(1, len(parameters), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, parameters, strict=True):
        axes.scatter(complete[name], complete["loss"], c=complete["trial"], cmap="viridis", s=18)
        axes.set_xlabel(name.split(".")[-1].replace("_", " "), fontsize=9)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel(_in_words(metric))
    figure.suptitle("Where the good trials lie (brighter: later)", x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def reliability_figure(tables: Mapping[str, pd.DataFrame], errors: Mapping[str, float]) -> Figure:
    """Stated against observed frequency, one line per model."""
    best = min(errors, key=lambda name: errors[name])
    figure, axes = _axes(
        f"What is said comes true, {errors[best]:.1%} off on average ({best})",
        "stated probability",
        "observed share",
        (5.6, 4.6),
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for (name, table), colour in zip(tables.items(), (BLUE, ORANGE, GREEN, GREY), strict=False):
        enough = table[table["rows"] >= min(30, table["rows"].sum() / 20)]
        axes.plot(
            enough["stated"],
            enough["observed"],
            marker="o",
            markersize=4,
            color=colour,
            label=f"{name}, error {errors[name]:.3f}",
        )
    axes.legend(frameon=False, fontsize=9)
    return figure


def errors_figure(truth: Floats, answer: Floats, target: str) -> Figure:
    """What was said of a number against what it was, and the line on which both are the same."""
    off = float(np.median(np.abs(answer - truth)))
    figure, axes = _axes(f"Half of the answers are within {off:,.4g}", f"said {target}", f"true {target}", (5.6, 4.6))
    axes.scatter(answer, truth, s=8, color=BLUE, alpha=0.5, linewidths=0)
    ends = [min(truth.min(), answer.min()), max(truth.max(), answer.max())]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    return figure


def cost_figure(costs: pd.DataFrame, threshold: float) -> Figure:
    """Mean cost by threshold; theory's choice is drawn in."""
    best = float(costs.loc[costs["cost"].idxmin(), "threshold"])
    figure, axes = _axes(
        f"Theory says act from {threshold:.2f}, the calibration rows say {best:.2f}", "threshold", "mean cost per row"
    )
    axes.plot(costs["threshold"], costs["cost"], color=BLUE)
    axes.axvline(threshold, color=ORANGE, linestyle="--")
    return figure


def scores_with_baselines(scores: pd.DataFrame, metric: str) -> Figure:
    """Test scores with their intervals; `scores` has one line per model with `metric`, `_low`, `_high`."""
    ordered = scores.sort_values(metric, ascending=False)
    ahead = spoken(ordered[metric].iloc[-2] - ordered[metric].iloc[-1])
    title = f"{ordered.index[-1]} has the lowest {_in_words(metric)} on the test rows, by {ahead}"
    figure, axes = _axes(title, _in_words(metric), "")
    errors = np.abs(ordered[[f"{metric}_low", f"{metric}_high"]].to_numpy().T - ordered[metric].to_numpy())
    axes.errorbar(ordered[metric], ordered.index, xerr=errors, fmt="o", color=BLUE, capsize=4)
    axes.margins(0.1, 0.2)
    return figure


def slice_figure(slices: pd.DataFrame, metric: str, overall: float) -> Figure:
    """A metric on every slice beside its overall value."""
    shown = slices.iloc[::-1].astype({"slice": "str", "value": "str"})
    worst = slices.loc[slices[metric].idxmax()]
    title = f"Hardest: {worst['slice']} {worst['value']}, {_in_words(metric)} {spoken(worst[metric])}"
    figure, axes = _axes(title, _in_words(metric), "", (7.0, 0.8 + 0.22 * len(shown)))
    sizes = np.clip(shown["rows"] / shown["rows"].sum() * 800, 8, 120)
    axes.scatter(shown[metric], shown["slice"] + " " + shown["value"], s=sizes, color=BLUE)
    axes.axvline(overall, color=GREY, linestyle="--")
    axes.tick_params(axis="y", labelsize=8)
    return figure


def reasons_figure(
    base: float, parts: Mapping[str, float], values: Mapping[str, object], what: str, shown: int = 10
) -> Figure:
    """A waterfall from the base value to the answer: contributions by column, the smallest joined."""
    series = pd.Series(dict(parts), dtype=float).sort_values(key=np.abs, ascending=False)
    kept = series.head(shown).rename(lambda name: f"{name} = {_short(values.get(name))}")
    if len(series) > shown:
        kept = pd.concat([kept, pd.Series({f"{len(series) - shown} others": series[shown:].sum()})])
    ends = base + kept.cumsum()
    title = f"Most by {series.index[0]}: {what} {_short(base)} → {_short(ends.iloc[-1])}"
    figure, axes = _axes(title, what, "", (8.0, 1.2 + 0.3 * len(kept)))
    axes.barh(kept.index, kept, left=ends - kept, color=np.where(kept > 0, ORANGE, BLUE).tolist())
    for place, (end, part) in enumerate(zip(ends, kept, strict=True)):
        axes.text(end, place, f" {part:+.2g} ", fontsize=8, ha="left" if part >= 0 else "right", va="center")
    axes.axvline(base, color=GREY, linestyle="--", linewidth=1)
    axes.invert_yaxis()
    axes.use_sticky_edges = False
    axes.margins(x=0.12)
    axes.tick_params(axis="y", labelsize=9)
    return figure


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:16]


def swap_figure(seen: pd.DataFrame, moves: Sequence[tuple[float, int]]) -> Figure:
    """Every answer by its second (`at`) and time (`ms`), coloured by `version`; lines where the alias was moved."""
    failed = int((seen["status"] != 200).sum())
    title = f"{len(moves)} changes of the model under {len(seen):,} requests, {failed or 'none'} failed"
    figure, axes = _axes(title, "seconds; dashed: the alias is moved", "answered after, ms", (8.0, 3.4))
    for at, _ in moves:
        axes.axvline(at, color=GREY, linestyle="--", linewidth=1)
    for (version, group), colour in zip(seen.groupby("version"), (BLUE, ORANGE, GREEN, GREY), strict=False):
        axes.scatter(group["at"], group["ms"], s=7, color=colour, label=f"version {version}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="both", labelsize=8)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
    return figure


def latency_figure(times: Mapping[str, Sequence[float]], quantiles: Sequence[float] = (0.5, 0.99)) -> Figure:
    """Share of requests that are answered within a time (ms), one line per kind of request."""
    halves = ", ".join(f"{name} {np.median(values):.1f} ms" for name, values in times.items())
    figure, axes = _axes(f"Half of all within: {halves}", "ms", "share of requests answered", (8.0, 3.4))
    for (name, values), colour in zip(times.items(), (GREY, BLUE, ORANGE, GREEN), strict=False):
        ordered = np.sort(values)
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=name)
        axes.scatter(np.quantile(ordered, quantiles), quantiles, color=colour, s=24, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(frameon=False, fontsize=9)
    return figure
