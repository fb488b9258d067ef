"""Unfitted models over the encoded matrix: the families that are compared, tuned and exported to ONNX."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from threadpoolctl import threadpool_limits

from mlops_core.features import Floats as Matrix
from mlops_core.features import Schema

Model: TypeAlias = Pipeline | TransformedTargetRegressor
FEW_CELLS = 400_000  # from here on, two threads are faster than one on a quiet machine
TARGET_TYPES = {"binary": "binary", "regression": "continuous"}


def build_constant(schema: Schema) -> Pipeline:
    """The base rate, or the mean: what any model has to beat."""
    return make_pipeline(DummyRegressor() if schema.task == "regression" else DummyClassifier(strategy="prior"))


def build_logistic(schema: Schema, settings: Mapping[str, Any]) -> Pipeline:
    """One-hot categories, imputed and scaled numbers, a linear model; ridge regression for a number."""
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    columns = _columns(schema, OneHotEncoder(handle_unknown="ignore"), numbers)
    strength = float(settings.get("C", 1.0))
    if schema.task == "regression":
        return make_pipeline(columns, Ridge(alpha=1 / strength))
    return make_pipeline(columns, LogisticRegression(C=strength, max_iter=300, tol=1e-3))


def build_boosting(schema: Schema, settings: Mapping[str, Any], seed: int) -> Pipeline:
    """Target-encoded categories and histogram gradient boosting, which treats missing numbers by itself.

    With more than two classes the trees cut the category codes themselves: skl2onnx 1.20 exports no such encoder.
    """
    encoder: Any = "passthrough"
    if schema.task in TARGET_TYPES:
        folds = KFold(n_splits=5, shuffle=True, random_state=seed)
        encoder = TargetEncoder(target_type=TARGET_TYPES[schema.task], cv=folds, smooth="auto")
    kind = HistGradientBoostingRegressor if schema.task == "regression" else HistGradientBoostingClassifier
    return make_pipeline(
        _columns(schema, encoder, "passthrough"), kind(random_state=seed, early_stopping=False, **settings)
    )


def build_estimator(family: str, schema: Schema, settings: Mapping[str, Any], seed: int) -> Model:
    """The pipeline of a family: `constant`, `logistic` or `boosting`.

    A number is fitted in standard deviations from its mean: of 1013 ± 1 hPa, float32 would waste digits on the 1013.
    """
    if family == "constant":
        return build_constant(schema)
    model = build_logistic(schema, settings) if family == "logistic" else build_boosting(schema, settings, seed)
    if schema.task == "regression":
        return TransformedTargetRegressor(model, transformer=StandardScaler())
    return model


def describe_model(family: str, task: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Its name and settings as scikit-learn would say them: the linear model of a number is no logistic regression."""
    if family == "logistic" and task == "regression":
        return "ridge regression", {"alpha": 1 / float(settings.get("C", 1.0))}
    return {"logistic": "logistic regression", "boosting": "gradient boosting"}.get(family, family), dict(settings)


def fit_estimator(
    family: str,
    schema: Schema,
    settings: Mapping[str, Any],
    seed: int,
    matrix: Matrix,
    target: npt.NDArray[np.generic],
) -> Model:
    """The same, fitted; on few cells by one thread.

    There, OpenMP's threads wait for each other longer than they work, and on a busy machine twenty times as long.
    """
    with threadpool_limits(1 if matrix.size < FEW_CELLS else None, "openmp"):
        return build_estimator(family, schema, settings, seed).fit(matrix, target)


def _columns(schema: Schema, categories: Any, numbers: Any) -> ColumnTransformer:
    others = [i for i in range(len(schema.inputs)) if i not in schema.categorical]
    parts = [("categories", categories, schema.categorical), ("numbers", numbers, others)]
    return ColumnTransformer([part for part in parts if part[2]])
