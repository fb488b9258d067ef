"""What a page about a model shows: the numbers of experiment 5 as one tree, which travels with the registered version.

It is read by the API of another day: a tree of another shape needs another `FORMAT` of the bundle.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mlops_core.datasets import DatasetSpec
from mlops_core.evaluation import metric_of, smallest_slice

Tree = dict[str, Any]


def build_record(
    spec: DatasetSpec,
    test: pd.DataFrame,
    metrics: Mapping[str, Any],
    curve: pd.DataFrame,
    slices: pd.DataFrame,
    card: str,
) -> Tree:
    """Plain JSON; the model's name and version are not in it, as only the registry knows them.

    `metrics` is what `reports/metrics/train.json` holds, `curve` a reliability table (empty for regression), `slices`
    what `score_slices` gives; too small slices are left out.
    """
    metric = metric_of(spec.task)
    large = slices[slices["rows"] >= smallest_slice(len(test))]
    return {
        "metric": metric,
        "rows": len(test),
        **_days(spec, test),
        "scores": {"this model": dict(metrics["test"]), **metrics["baselines"]},
        "coverage": {"stated": metrics["stated_coverage"], "observed": metrics["coverage"]},
        "reliability": _lines(curve[["stated", "observed", "rows"]]),
        "slices": _lines(large[["slice", "value", "rows", metric]].rename(columns={metric: "score"})),
        "limits": list(spec.limits),
        "card": card,
    }


def _days(spec: DatasetSpec, test: pd.DataFrame) -> Tree:
    if not spec.time:
        return {"first_day": None, "last_day": None}
    moments = test[spec.time]
    return {"first_day": moments.min().date().isoformat(), "last_day": moments.max().date().isoformat()}


def _lines(table: pd.DataFrame) -> list[Tree]:
    lines: list[Tree] = table.to_dict("records")
    return lines
