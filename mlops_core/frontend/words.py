"""HTML that the page shows; everything from outside is escaped here."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets

from mlops_core.frontend.charts import explained_class, spoken
from mlops_core.frontend.facts import Model, number_text, percent, score_text
from mlops_core.frontend.failures import Notice

METRICS = {
    "roc_auc": "ROC-AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
HEADLINE = ("roc_auc", "log_loss", "r2", "rmse")


def box(*children: widgets.Widget, kind: str = "", across: bool = False) -> widgets.Box:
    """Widgets under each other, or beside each other as far as there is room."""
    made = widgets.HBox(children) if across else widgets.VBox(children)
    if kind:
        made.add_class(kind)
    return made


def html(text: str = "", kind: str = "") -> widgets.HTML:
    """Text that is HTML already."""
    made = widgets.HTML(text)
    if kind:
        made.add_class(kind)
    return made


def hide(widget: widgets.DOMWidget, hidden: bool = True) -> None:
    """Takes it out of sight and out of the order of the Tab key, or brings it back."""
    if hidden:
        widget.add_class("mlops-hidden")
    else:
        widget.remove_class("mlops-hidden")


def show_notice(notice: Notice | None) -> str:
    if notice is None:
        return ""
    reference = f' <span class="ref">Reference {escape(notice.reference)}</span>' if notice.reference else ""
    kind = "waits" if notice.waits else "stays"
    return (
        f'<div class="mlops-alert {kind}" role="alert"><strong>{escape(notice.title)}</strong> '
        f"{escape(notice.advice)}{reference}</div>"
    )


def quoted(names: Sequence[str]) -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b' and 'c'`."""
    shown = [f"'{name}'" for name in names]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def answer_words(model: Model, answer: Mapping[str, Any]) -> tuple[str, str]:
    """The answer in a few words, and in a sentence that says how sure it is."""
    sure = percent(model.coverage)
    if not model.classes:
        low, high = (f"{number_text(edge)} {model.target.unit}".strip() for edge in answer["interval"])
        return (
            f"{number_text(answer['value'])} {model.target.unit}".strip(),
            f"In {sure} of such cases it lies between {low} and {high}.",
        )
    open_classes = answer["prediction_set"]
    confidence = percent(answer["confidence"])
    if len(open_classes) == 1:
        return str(
            answer["label"]
        ).capitalize(), f"Confidence {confidence}. At {sure} certainty nothing else is to be expected."
    if not open_classes:
        return (
            "Unusual",
            f"Closest to '{answer['label']}' ({confidence}), but this case is unlike those the model has learned from.",
        )
    likely = f"'{answer['label']}' is what the model would call it, with {confidence}."
    return (
        "Not sure",
        f"{likely} At {sure} certainty {quoted(open_classes)} remain possible.",
    )


def show_answer(model: Model, answer: Mapping[str, Any]) -> str:
    head, sentence = answer_words(model, answer)
    unusual = [model.label_of(name) for name in answer.get("unusual", [])]
    mark = f'<p class="mark">Outside what the model has seen: {escape(", ".join(unusual))}.</p>' if unusual else ""
    sure = "unsure" if head in ("Not sure", "Unusual") else "sure"
    return (
        f'<div class="mlops-answer {sure}" role="status"><p class="what">{escape(model.target.label)}</p>'
        f'<p class="head">{escape(head)}</p><p>{escape(sentence)}</p>{mark}</div>'
    )


def show_because(model: Model, answer: Mapping[str, Any]) -> str:
    """What the bars of the reasons are measured from."""
    label = explained_class(model, answer)
    what = f"the probability of '{label}'" if label else "the answer"
    start = spoken(model, float(answer["base_value"]))
    return (
        f"<p>In an average case {escape(what)} is {escape(start)}. What is known of this one "
        '<span class="raises">raises</span> or <span class="lowers">lowers</span> it:</p>'
    )


def show_origin(model: Model) -> str:
    """Which model answers, how old it is, and how well it did."""
    scores = [f"{METRICS[name]} {score_text(model.metrics[name])}" for name in HEADLINE if name in model.metrics]
    parts = [
        f"{model.name} version {model.version}",
        model.age(),
        f"on its test rows {', '.join(scores)}" if scores else "",
    ]
    if model.threshold is not None:
        parts.append(f"called '{model.classes[-1]}' from {percent(model.threshold)} on")
    return f'<p class="mlops-origin">{escape(" · ".join(filter(None, parts)))}</p>'


def show_table(head: Iterable[str], rows: Iterable[Sequence[Any]], caption: str, label: str = "") -> str:
    """A table that scrolls by itself, also with the keyboard."""
    top = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="mlops-scroll" role="region" tabindex="0" aria-label="{escape(label or caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def show_chips(title: str, items: Sequence[str]) -> str:
    return f"<h3>{escape(title)}</h3><ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
