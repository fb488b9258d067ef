"""What a model must be before it is registered."""

from collections.abc import Mapping
from typing import Any

from mlops_core.errors import MLOpsError
from mlops_core.evaluation import metric_of
from mlops_core.params import Params
from mlops_core.train.calibration import coverage_slack

Metrics = Mapping[str, Any]  # what `reports/metrics/train.json` holds


class NotAcceptableError(MLOpsError):
    """The model is not registered."""

    def __init__(self, problem: str, advice: str) -> None:
        self.problem, self.advice = problem, advice
        super().__init__(f"{problem}, so nothing is registered. {advice}")


def check_acceptable(metrics: Metrics, task: str, params: Params, calibration_rows: int, test_rows: int) -> None:
    """Raises NotAcceptableError for what must not be served.

    A baseline is certainly better when the whole interval of `final.compare_with_best` says so.
    """
    metric, rival, file = metric_of(task), metrics["beats"], f"data/datasets/{params.dataset}.yaml"
    word, ours, base = metric.replace("_", " "), metrics["test"][metric], metrics["baselines"]["base rate"][metric]
    if ours >= base:
        raise NotAcceptableError(
            f"The model does not beat the base rate on the test rows ({word} {ours:.4g} against {base:.4g})",
            f"Its columns do not tell the target: look in {file} for an ignored one that is known in time.",
        )
    if rival["low"] > 0:
        raise NotAcceptableError(
            f"{rival['baseline'].capitalize()} is certainly better on the test rows: its {word} is lower by "
            f"{rival['difference']:.4g} ({rival['low']:.4g} to {rival['high']:.4g})",
            f"Search longer, with mlops run --set tune.trials={2 * params.tune.trials}, or on more folds, with "
            f"--set tune.folds={params.tune.folds + 2}.",
        )
    stated, covered = params.train.coverage, metrics["coverage"]
    if covered <= stated - coverage_slack(stated, calibration_rows, test_rows):
        raise NotAcceptableError(
            f"The {'intervals' if task == 'regression' else 'sets'} hold the truth in {covered:.1%} of the test rows "
            f"instead of {stated:.0%}",
            f"The test rows are unlike the ones before: look in {file} whether a column changes its meaning in time, "
            "or rows belong together (`group`).",
        )
