"""Tracked runs: logged in one short call once their numbers are known, so that a killed stage leaves none half done."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.data.sources
import pandas as pd

from mlops_core.errors import MLOpsError
from mlops_core.registry.store import Store, open_experiment, translated
from mlops_core.settings import load_settings

if TYPE_CHECKING:  # both take a second to import, and most callers log neither a figure nor a pipeline
    from matplotlib.figure import Figure
    from sklearn.pipeline import Pipeline

MAX_METRICS = 20

# Types that our pipelines are made of beyond skops' own list, each looked at: none runs code when it is loaded.
TRUSTED = frozenset(
    {
        "numpy.dtype",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss._loss.CyHalfSquaredError",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.model_selection._split.KFold",
    }
)


class UntrustedTypeError(MLOpsError):
    """A fitted model holds a type that nobody has looked at."""

    def __init__(self, types: list[str]) -> None:
        self.types = types
        super().__init__(
            f"The model holds the type {types[0]}, which is not on the reviewed list in mlops_core/registry/runs.py."
        )


@dataclass(frozen=True)
class RunRecord:
    """What is logged of one run."""

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class DataRecord:
    """Where a run's rows come from: a name, a path inside the project, our own digest, a few rows for the schema."""

    name: str
    path: str
    digest: str
    sample: pd.DataFrame
    target: str
    context: str = "training"


def git_commit(root: Path) -> str:
    """The commit that is checked out, or that an image was built from; 'none' where nobody knows."""
    stated = load_settings().commit  # an image holds no repository
    if stated or not shutil.which("git"):
        return stated or "none"
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "none"


def log_run(store: Store, experiment: str, record: RunRecord, data: DataRecord, model: Pipeline | None = None) -> str:
    """Logs one finished run, its model if one is given, and returns its id."""
    if len(record.metrics) > MAX_METRICS:
        raise MLOpsError(f"Run '{record.name}' has {len(record.metrics)} metrics, more than {MAX_METRICS}: choose.")
    experiment_id = open_experiment(store, experiment)
    tags = {"git_commit": git_commit(store.root), **record.tags}
    with translated(store.uri), mlflow.start_run(experiment_id=experiment_id, run_name=record.name, tags=tags) as run:
        mlflow.log_params(dict(record.params))
        source = mlflow.data.sources.LocalArtifactDatasetSource(data.path)
        with warnings.catch_warnings():  # whole numbers may be missing some day: our contract sees to that, not MLflow
            warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer", UserWarning)
            dataset = mlflow.data.from_pandas(
                data.sample, source=source, name=data.name, digest=data.digest[:36], targets=data.target
            )
            mlflow.log_input(dataset, context=data.context)
        mlflow.log_metrics(dict(record.metrics))
        for name, figure in record.figures.items():
            mlflow.log_figure(figure, f"figures/{name}.png")
        if model is not None:
            log_pipeline(model, record.name, store.root)
        return str(run.info.run_id)


def locked_requirements(root: Path, file: str) -> list[str]:
    """`name==version` lines of a lock file. Passing them spares MLflow 18 seconds of guessing in a subprocess."""
    lines = (root / "requirements" / file).read_text(encoding="utf-8").splitlines()
    return [line.removesuffix("\\").strip() for line in lines if "==" in line and not line.startswith((" ", "#", "\t"))]


def log_pipeline(model: Pipeline, name: str, root: Path) -> None:
    """Logs a fitted scikit-learn pipeline in skops' format. Raises UntrustedTypeError for a type not reviewed."""
    import skops.io

    untrusted = set(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
    if strange := sorted(untrusted - TRUSTED):
        raise UntrustedTypeError(strange)
    mlflow.sklearn.log_model(
        model, name=name, pip_requirements=locked_requirements(root, "all.txt"), skops_trusted_types=sorted(untrusted)
    )


def find_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> pd.DataFrame:
    """Finished runs with these tags, newest first: id, name, start, metrics."""
    condition = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
    with translated(store.uri):
        runs = store.client.search_runs([open_experiment(store, experiment)], condition, order_by=["start_time DESC"])
    return pd.DataFrame(
        [
            {"run_id": run.info.run_id, "run": run.info.run_name, "status": run.info.status, **run.data.metrics}
            for run in runs
        ]
    )
