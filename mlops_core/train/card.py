"""The model card (Mitchell et al. 2019): every number computed, nothing typed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mlops_core.datasets import DatasetSpec, Role
from mlops_core.estimators import describe_model
from mlops_core.evaluation import metric_label, metric_of, smallest_slice, spoken
from mlops_core.params import Params

UNSEEN_ROLES: tuple[Role, ...] = ("time", "group", "id")
Metrics = Mapping[str, Any]  # what `reports/metrics/train.json` holds


def _markdown(table: pd.DataFrame) -> str:
    head = "| " + " | ".join(["", *map(str, table.columns)]) + " |"
    rule = "|" + "---|" * (len(table.columns) + 1)
    lines = [
        f"| {name} | " + " | ".join(spoken(cell) if isinstance(cell, float) else str(cell) for cell in row) + " |"
        for name, *row in table.itertuples()
    ]
    return "\n".join([head, rule, *lines])


def scores_with_spread(scores: Mapping[str, Mapping[str, float]], unit: str = "") -> pd.DataFrame:
    """`0.504 (0.489 to 0.519)` for every score of every model; `unit` is the target's."""
    return pd.DataFrame(
        {
            name: {
                metric_label(
                    metric, unit
                ): f"{spoken(value)} ({spoken(values[f'{metric}_low'])} to {spoken(values[f'{metric}_high'])})"
                for metric, value in values.items()
                if f"{metric}_low" in values
            }
            for name, values in scores.items()
        }
    ).T


def sets_of(spec: DatasetSpec) -> str:
    """What holds the truth as often as stated."""
    return "intervals" if spec.task == "regression" else "sets"


def drawn_of(spec: DatasetSpec) -> str:
    """What a resample draws, as `final.test_groups` keeps it together."""
    return "whole days" if spec.time else "whole groups" if spec.group else "rows"


def render_card(
    spec: DatasetSpec,
    params: Params,
    best: Mapping[str, Any],
    metrics: Metrics,
    importance: Mapping[str, float],
    slices: pd.DataFrame,
    splits: pd.DataFrame,
) -> str:
    """Markdown. `best` is what `best_params.json` holds."""
    scores, unit = {"this model": metrics["test"], **metrics["baselines"]}, spec.columns[spec.target].unit
    metric, least = metric_label(metric_of(spec.task), unit), smallest_slice(int(splits.loc["test", "rows"]))
    top = "\n".join(
        f"- {spec.columns[name].label or name}: {spoken(value)}" for name, value in list(importance.items())[:8]
    )
    limits = "".join(f"- {line}\n" for line in spec.limits)
    asked = f" Asked {spec.predict_at.removeprefix('-')} before the event." if spec.predict_at.startswith("-") else ""
    return f"""# Model card: {spec.title}

**Question.** {spec.question}{asked}

**Data.** {spec.origin}.

{_markdown(splits)}

{_model(spec, best, metric)}

**Columns it sees.** {", ".join(spec.features)}.

{_vouched(spec)}**Columns it does not see.** {_unseen(spec)}.

## How good it is

On the test rows, opened once, with 95 % intervals from {params.train.bootstrap} resamples of {drawn_of(spec)}:

{_markdown(scores_with_spread(scores, unit))}

{_coverage(spec, params, metrics)}

Where it is worst, among slices of at least {least} test rows:

{_markdown(_hardest(spec, slices, least))}

## What it looks at

How much the {metric} grows when a column is shuffled:

{top}

## What it is not for

{limits}- It says what to expect, not what causes it; acting on a column need not change the outcome.
- {_unsure(spec)}
"""


def _model(spec: DatasetSpec, best: Mapping[str, Any], metric: str) -> str:
    name, settings = describe_model(best["family"], spec.task, best["settings"])
    windows = (
        "windows, each later than the rows it was fitted on" if spec.time else "folds, each told by a fit on the others"
    )
    lines = [
        f"- {key}: {value:.4g}" if isinstance(value, float) else f"- {key}: {value}" for key, value in settings.items()
    ]
    chosen = f"chosen among {best['finished']} trials by its mean validation {metric} of {spoken(best['loss'])}"
    return "\n".join([f"**Model.** {name.capitalize()}, {chosen}", f"on {best['folds']} {windows}.", "", *lines])


def _unseen(spec: DatasetSpec) -> str:
    kinds = {
        "Known too late": spec.too_late,
        "Left out by the dataset file": [name for name in spec.with_role("ignore") if name not in spec.too_late],
        **{
            f"The {role}": [name for name in spec.with_role(role) if not spec.columns[name].derive]
            for role in UNSEEN_ROLES
        },
    }
    return ". ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names) or "None"


def _hardest(spec: DatasetSpec, slices: pd.DataFrame, least: int) -> pd.DataFrame:
    metric = metric_of(spec.task)
    table = slices[slices["rows"] >= least].nlargest(5, metric).set_index(["slice", "value"])[["rows", metric]]
    table.index = [" ".join(map(str, key)) for key in table.index]
    table = table.astype({"rows": int}).assign(**{metric: table[metric].map(spoken)})
    return table.rename(columns={metric: metric_label(metric, spec.columns[spec.target].unit)})


def _vouched(spec: DatasetSpec) -> str:
    names = [f"`{name}`" for name in spec.features if spec.columns[name].trusted]
    if not names:
        return ""
    said = f"**Vouched for:** {', '.join(names)}. Each is taken to be known in time, however well it predicts alone;"
    return f"{said} if one is not,\nthe scores below are worth nothing.\n\n"


def _coverage(spec: DatasetSpec, params: Params, metrics: Metrics) -> str:
    width = f"{spoken(metrics['conformal'])} {spec.columns[spec.target].unit}".strip()
    whose = (
        f"Its intervals reach {width} to either side of the answer. They" if spec.task == "regression" else "Its sets"
    )
    parts = [
        f"{whose} are meant to hold the truth in {params.train.coverage:.0%} of the cases and did in {metrics['coverage']:.1%} of the test rows."
    ]
    if metrics.get("threshold") is not None:
        parts.append(
            f"It calls the event from a probability of {metrics['threshold']:.2f} on, as a miss costs {params.train.miss_cost:g} false alarms."
        )
    parts.append(
        f"The served graph and scikit-learn differ by at most {metrics['parity']:.1e} on {metrics['parity_rows']:,} held-out rows."
    )
    return " ".join(parts)


def _unsure(spec: DatasetSpec) -> str:
    if spec.task == "regression":
        return "Its intervals are equally wide for every row: of rows that are hard to tell they may hold the truth more rarely."
    return "A prediction set that holds more than one class means *not sure*; treat it so."
