"""The page's charts as Plotly's JSON, each with the words and the numbers that say the same. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape  # Plotly reads a few tags in its labels
from typing import Any

from mlops_core.frontend.facts import Column, Model, number_text, percent
from mlops_core.frontend.probes import Probe

Tree = dict[str, Any]

ACCENT, WARN, SOFT, LINE, INK = (f"var(--{name})" for name in ("accent", "warn", "ink-soft", "line", "ink"))
SHOWN_REASONS, SHOWN_IMPORTANCE = 8, 12


@dataclass(frozen=True)
class Chart:
    """A Plotly figure (`data` and `layout`), what it shows in a sentence, and its numbers as a table."""

    data: list[Tree]
    layout: Tree = field(default_factory=dict)
    alt: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def explained_class(model: Model, answer: Mapping[str, Any]) -> str:
    """The class that reasons and curves are about: the last of two, the likeliest of more; none for a number."""
    if not model.classes:
        return ""
    return model.classes[-1] if len(model.classes) == 2 else str(answer["label"])


def value_of(answer: Mapping[str, Any], label: str) -> float:
    """The explained number of an answer: a probability, or the value."""
    return float(answer["probabilities"][label] if label else answer["value"])


def spoken(model: Model, value: float) -> str:
    """A probability as per cent, a value with its unit."""
    return percent(value) if model.classes else f"{number_text(value)} {model.target.unit}".strip()


def answer_chart(model: Model, answer: Mapping[str, Any]) -> Chart:
    """How likely, or how much."""
    if not model.classes:
        return _interval_chart(model, answer)
    return _gauge_chart(model, answer) if len(model.classes) == 2 else _classes_chart(answer)


def _gauge_chart(model: Model, answer: Mapping[str, Any]) -> Chart:
    label = model.classes[-1]
    share = float(answer["probabilities"][label])
    gauge: Tree = {
        "shape": "angular",
        "axis": {"range": [0, 100], "tickvals": [0, 25, 50, 75, 100], "ticksuffix": " %", "tickcolor": SOFT},
        "bar": {"color": ACCENT, "thickness": 0.72},
        "bgcolor": LINE,
        "borderwidth": 0,
    }
    if model.threshold is not None:
        gauge["threshold"] = {"value": model.threshold * 100, "line": {"color": WARN, "width": 3}, "thickness": 0.9}
    trace = {
        "type": "indicator",
        "mode": "gauge+number",
        "value": round(share * 100, 1),
        "number": {"suffix": " %", "valueformat": ".0f", "font": {"size": 44}},
        "title": {"text": f"Probability of '{label}'", "font": {"size": 15}},
        "gauge": gauge,
    }
    rows = [(name, percent(value)) for name, value in answer["probabilities"].items()]
    act = "" if model.threshold is None else f" From {percent(model.threshold)} on it calls it '{label}'."
    alt = f"Gauge: the probability of '{label}' is {percent(share)}.{act}"
    return Chart(
        [trace], {"height": 240, "margin": {"t": 56, "b": 8, "l": 44, "r": 44}}, alt, ("Class", "Probability"), rows
    )


def _classes_chart(answer: Mapping[str, Any]) -> Chart:
    shares = dict(sorted(answer["probabilities"].items(), key=lambda item: item[1]))
    colours = [ACCENT if name in answer["prediction_set"] else SOFT for name in shares]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(share * 100, 2) for share in shares.values()],
        "y": [escape(name, quote=False) for name in shares],
        "marker": {"color": colours},
        "text": [percent(share) for share in shares.values()],
        "textposition": "auto",
        "hoverinfo": "skip",
    }
    layout = {"xaxis": {"range": [0, 100], "ticksuffix": " %"}, "yaxis": _labels(), "height": 90 + 34 * len(shares)}
    rows = [(name, percent(share)) for name, share in reversed(shares.items())]
    alt = f"Bars: the likeliest class is '{answer['label']}' with {percent(answer['confidence'])}."
    return Chart([trace], layout, alt, ("Class", "Probability"), rows)


def _interval_chart(model: Model, answer: Mapping[str, Any]) -> Chart:
    value, (low, high) = float(answer["value"]), answer["interval"]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [value],
        "y": [""],
        "marker": {"size": 18, "color": ACCENT},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value],
            "arrayminus": [value - low],
            "thickness": 6,
            "width": 12,
            "color": SOFT,
        },
        "hoverinfo": "skip",
    }
    layout = {"height": 120, "xaxis": {"ticksuffix": f" {model.target.unit}".rstrip()}, "yaxis": {"visible": False}}
    rows = [("value", spoken(model, value)), ("lowest", spoken(model, low)), ("highest", spoken(model, high))]
    alt = f"Dot with an interval: {spoken(model, value)}, between {spoken(model, low)} and {spoken(model, high)}."
    return Chart([trace], layout, alt, ("What", "Value"), rows)


def _labels() -> Tree:
    return {"automargin": True, "type": "category", "ticklabelstandoff": 6}


def reasons_chart(model: Model, row: Mapping[str, Any], answer: Mapping[str, Any]) -> Chart:
    """What each column of this row adds to the answer or takes from it, the strongest on top."""
    ordered = sorted(answer["contributions"].items(), key=lambda item: -abs(item[1]))
    columns = {column.name: column for column in model.columns}
    parts = [(f"{model.label_of(name)}: {_shown(columns[name], row)}", part) for name, part in ordered[:SHOWN_REASONS]]
    if rest := ordered[SHOWN_REASONS:]:
        parts.append((f"{len(rest)} others together", sum(part for _, part in rest)))
    scale = 100.0 if model.classes else 1.0
    texts = [_signed(model, part) for _, part in parts]
    trace: Tree = {
        "type": "bar",
        "orientation": "h",
        "x": [part * scale for _, part in reversed(parts)],
        "y": [
            f"{escape(name, quote=False)}  <b>{text}</b>"
            for (name, _), text in zip(reversed(parts), reversed(texts), strict=True)
        ],
        "marker": {"color": [ACCENT if part > 0 else WARN for _, part in reversed(parts)]},
        "hoverinfo": "skip",
    }
    label = explained_class(model, answer)
    what = f"points of the probability of '{label}'" if label else f"{model.target.label} {model.target.unit}".strip()
    layout = {
        "xaxis": {"zeroline": True, "zerolinecolor": SOFT, "title": {"text": what}, "tickformat": "~g"},
        "yaxis": _labels(),
        "height": 86 + 30 * len(parts),
    }
    base = float(answer["base_value"])
    alt = (
        f"Bars: an average case has {spoken(model, base)}; strongest here is {parts[0][0]} with {texts[0]}."
        if parts
        else ""
    )
    return Chart(
        [trace], layout, alt, ("Column", "Adds"), [(name, text) for (name, _), text in zip(parts, texts, strict=True)]
    )


def _shown(column: Column, row: Mapping[str, Any]) -> str:
    value = row.get(column.name)
    unit = f" {column.unit}" if column.unit and value is not None else ""
    return f"{column.show(value)}{unit}"


def _signed(model: Model, part: float) -> str:
    text = f"{part * 100:+.1f}" if model.classes else f"{'+' if part > 0 else ''}{number_text(part)}"
    return text.replace("-", "−")


def whatif_chart(model: Model, probe: Probe, answers: Sequence[Mapping[str, Any]], label: str) -> Chart:
    """How the answer would move if this one column had other values and all else stayed."""
    scale = 100.0 if model.classes else 1.0
    values = [value_of(answer, label) * scale for answer in answers]
    line = probe.column.type not in ("category", "boolean")
    trace: Tree = {"x": probe.shown, "y": values, "hovertemplate": "%{x}: %{y:.1f}<extra></extra>", "name": "answer"}
    if line:
        trace |= {"type": "scatter", "mode": "lines", "line": {"color": ACCENT, "width": 3, "shape": "linear"}}
    else:
        colours = [ACCENT if place == probe.current else SOFT for place in range(len(values))]
        trace |= {"type": "bar", "marker": {"color": colours}}
    data = [*_band(model, probe, answers, line), trace]
    if line and probe.current is not None:
        here = {"x": [probe.shown[probe.current]], "y": [values[probe.current]]}
        marker = {"size": 12, "color": WARN, "line": {"color": INK, "width": 1}}
        data.append(
            {**here, "type": "scatter", "mode": "markers", "marker": marker, "hoverinfo": "skip", "name": "now"}
        )
    what = f"Probability of '{label}'" if label else (model.target.label or model.target.name)
    axis: Tree = {"title": {"text": what}, "rangemode": "tozero"}
    axis |= {"ticksuffix": " %"} if model.classes else {}
    layout = {
        "xaxis": {"title": {"text": probe.column.title}, **({} if line else {"type": "category", "automargin": True})},
        "yaxis": axis,
        "height": 300,
        "showlegend": False,
    }
    low, high = min(values), max(values)
    alt = (
        f"{'Line' if line else 'Bars'}: with another {probe.column.label or probe.column.name} the answer lies between "
        f"{spoken(model, low / scale)} and {spoken(model, high / scale)}."
    )
    rows = [(str(x), spoken(model, y / scale)) for x, y in zip(probe.shown, values, strict=True)]
    return Chart(data, layout, alt, (probe.column.title, what), rows)


def _band(model: Model, probe: Probe, answers: Sequence[Mapping[str, Any]], line: bool) -> list[Tree]:
    """The interval around a predicted number."""
    if model.classes or not line:
        return []
    lows, highs = zip(*(answer["interval"] for answer in answers), strict=True)
    edge = {"type": "scatter", "mode": "lines", "x": probe.shown, "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        {**edge, "y": list(lows), "name": "lowest"},
        {**edge, "y": list(highs), "fill": "tonexty", "fillcolor": LINE, "name": "highest"},
    ]


def bars_chart(values: Mapping[str, float], title: str, alt: str, head: Sequence[str], colour: str = ACCENT) -> Chart:
    """Horizontal bars, the first one on top."""
    names = list(values)[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [values[name] for name in names],
        "y": [escape(name, quote=False) for name in names],
        "marker": {"color": colour},
        "hovertemplate": "%{y}: %{x:.4~g}<extra></extra>",
    }
    layout = {"xaxis": {"title": {"text": title}}, "yaxis": _labels(), "height": 80 + 26 * len(names)}
    return Chart([trace], layout, alt, head, [(name, number_text(value)) for name, value in values.items()])


def importance_chart(model: Model) -> Chart:
    """What the model looks at in general."""
    top = [column for column in model.by_importance if column.name in model.importance][:SHOWN_IMPORTANCE]
    values = {column.label or column.name: model.importance[column.name] for column in top}
    alt = f"Bars: most of all the model looks at {next(iter(values), 'nothing')}."
    return bars_chart(values, "loss added when the column is shuffled", alt, ("Column", "Importance"))


def reliability_chart(points: Sequence[Mapping[str, float]]) -> Chart:
    """Whether what is called likely comes true as often: stated against observed share on the test rows."""
    stated = [float(point["stated"]) * 100 for point in points]
    observed = [float(point["observed"]) * 100 for point in points]
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 100], "y": [0, 100], "hoverinfo": "skip"}
    line = {"type": "scatter", "mode": "lines+markers", "x": stated, "y": observed}
    data: list[Tree] = [
        {**diagonal, "line": {"color": SOFT, "dash": "dot"}, "name": "perfect"},
        {
            **line,
            "line": {"color": ACCENT, "width": 3},
            "marker": {"size": 8, "color": ACCENT},
            "name": "this model",
            "cliponaxis": False,
        },
    ]
    axis = {"range": [0, 100], "ticksuffix": " %"}
    layout = {
        "xaxis": {**axis, "title": {"text": "the model says"}},
        "yaxis": {**axis, "title": {"text": "it happened"}},
        "height": 340,
        "showlegend": False,
    }
    gap = max((abs(x - y) for x, y in zip(stated, observed, strict=True)), default=0.0)
    alt = f"Line near the diagonal: what the model says and what happened differ by at most {gap:.0f} points."
    rows = [(percent(p["stated"]), percent(p["observed"]), f"{p['rows']:,.0f}") for p in points]
    return Chart(data, layout, alt, ("Says", "Happened", "Rows"), rows)
