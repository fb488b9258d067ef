"""The model card (Mitchell et al. 2019): every number computed, nothing typed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mlops_core.datasets import DatasetSpec
from mlops_core.evaluation import metric_of, smallest_slice, spoken
from mlops_core.params import Params


def _markdown(table: pd.DataFrame) -> str:
    head = "| " + " | ".join(["", *map(str, table.columns)]) + " |"
    rule = "|" + "---|" * (len(table.columns) + 1)
    lines = [
        f"| {name} | " + " | ".join(map(str, row)) + " |"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join([head, rule, *lines])


def scores_with_spread(scores: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """`0.504 (0.489 to 0.519)` for every score of every model."""
    return pd.DataFrame(
        {
            name: {
                metric: f"{spoken(value)} ({spoken(values[f'{metric}_low'])} to {spoken(values[f'{metric}_high'])})"
                for metric, value in values.items()
                if f"{metric}_low" in values
            }
            for name, values in scores.items()
        }
    ).T


def render_card(
    spec: DatasetSpec,
    params: Params,
    best: Mapping[str, Any],
    metrics: Mapping[str, Any],
    importance: Mapping[str, float],
    slices: pd.DataFrame,
    splits: pd.DataFrame,
) -> str:
    """Markdown. `metrics` is what `reports/metrics/train.json` holds."""
    scores = {"this model": metrics["test"], **metrics["baselines"]}
    metric, least = metric_of(spec.task), smallest_slice(int(splits.loc["test", "rows"]))
    hardest = (
        slices[slices["rows"] >= least].nlargest(5, metric).set_index(["slice", "value"])[["rows", metric]].round(4)
    )
    hardest = hardest.astype({"rows": int}).astype(object)
    hardest.index = [" ".join(map(str, key)) for key in hardest.index]
    settings = "\n".join(
        f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"
        for name, value in best["settings"].items()
    )
    top = "\n".join(
        f"- {spec.columns[name].label or name}: {value:.4f}" for name, value in list(importance.items())[:8]
    )
    limits = "".join(f"- {line}\n" for line in spec.limits)
    used = ", ".join(spec.features)
    asked = f" Asked {spec.predict_at.removeprefix('-')} before the event." if spec.predict_at.startswith("-") else ""
    windows = "windows, each later than the rows it was fitted on" if spec.time else "folds, fitted on the other ones"
    drawn = "whole days" if spec.time else "whole groups" if spec.group else "rows"
    left_out = ", ".join(spec.with_role("ignore")) or "none"
    return f"""# Model card: {spec.title}

**Question.** {spec.question}{asked}

**Data.** {spec.origin}.

{_markdown(splits)}

**Model.** {best["family"]}, chosen among {best["finished"]} trials by its mean validation {metric.replace("_", " ")} of {best["loss"]:.4f}
on {best["folds"]} {windows}.

{settings}

**Columns it sees.** {used}.

{_vouched(spec)}**Columns it does not see,** most often because they are known only later: {left_out}.

## How good it is

On the test rows, opened once, with 95 % intervals from {params.train.bootstrap} resamples of {drawn}:

{_markdown(scores_with_spread(scores))}

{_coverage(params, metrics)}

Where it is worst, among slices of at least {least} test rows:

{_markdown(hardest)}

## What it looks at

How much the {metric.replace("_", " ")} grows when a column is shuffled:

{top}

## What it is not for

{limits}- It says how likely an outcome is, not what causes it; acting on a column need not change the outcome.
- A prediction set that holds more than one class means *not sure*; treat it so.
"""


def _vouched(spec: DatasetSpec) -> str:
    names = [f"`{name}`" for name in spec.features if spec.columns[name].trusted]
    if not names:
        return ""
    said = (
        f"**Vouched for:** {', '.join(names)}. Alone each predicts suspiciously well; if it is not known in time, the"
    )
    return f"{said} scores below\nare worth nothing.\n\n"


def _coverage(params: Params, metrics: Mapping[str, Any]) -> str:
    parts = [
        f"Its sets are meant to hold the truth in {params.train.coverage:.0%} of the cases and did in {metrics['coverage']:.1%} of the test rows."
    ]
    if metrics.get("threshold") is not None:
        parts.append(
            f"It calls the event from a probability of {metrics['threshold']:.2f} on, as a miss costs {params.train.miss_cost:g} false alarms."
        )
    parts.append(
        f"The served graph and scikit-learn differ by at most {metrics['parity']:.1e} on {metrics['parity_rows']:,} held-out rows."
    )
    return " ".join(parts)
