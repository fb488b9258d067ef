"""What `mlflow.pyfunc.load_model("models:/…")` runs: the bundle, through the predictor that the API uses too.

Logged as code, so that no pickle is ever loaded.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from mlops_core.errors import RequestError
from mlops_core.features import Column, Values
from mlops_core.serve.answers import answer_columns
from mlops_core.serve.predictor import Predictor, load_predictor


class BundleModel(PythonModel):
    """A frame of raw columns in, a frame of answers out."""

    predictor: Predictor

    def load_context(self, context: PythonModelContext) -> None:
        self.predictor = load_predictor(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002  MLflow's signature
    ) -> pd.DataFrame:
        columns = {
            column.name: _plain(column, model_input[column.name])
            for column in self.predictor.schema.columns
            if column.name in model_input
        }
        answer, problems = self.predictor.predict_columns(columns, len(model_input))
        if problems:
            first = problems[0]
            raise RequestError(f"Row {first.row}: '{first.column}' {first.reason}.")
        return pd.DataFrame(answer_columns(self.predictor, answer))


def _plain(column: Column, series: pd.Series) -> Values:
    if column.type == "datetime":
        return pd.to_datetime(series).to_numpy().astype("datetime64[s]")
    if column.type in ("number", "integer"):
        return series.to_numpy(dtype="float64", na_value=float("nan"))
    values: list[Any] = series.astype(object).where(series.notna(), None).to_list()
    return values


set_model(BundleModel())
