"""scikit-learn to ONNX, and the proof that both give the same answers."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

from mlops_core.errors import MLOpsError
from mlops_core.estimators import Model
from mlops_core.features import Floats
from mlops_core.serve.predictor import open_session

OPSET = 18
GRAPH_NAME = "model"  # the default is random, and the same fit must give the same bytes


class ParityError(MLOpsError):
    """The exported graph does not answer as the fitted model does."""

    def __init__(self, rows: pd.DataFrame, tolerance: float) -> None:
        self.rows, self.tolerance = rows, tolerance
        super().__init__(
            f"{len(rows):,} rows differ between scikit-learn and the exported graph by more than {tolerance:g} "
            f"(at most {rows['difference'].max():.2g}); nothing is registered. "
            f"First rows: {rows['row'].head(5).tolist()}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "iub":
        return [int(item) for item in value.ravel()]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (bool, np.bool_, np.integer)):
        return [int(item) for item in value]
    return value


@contextmanager
def _plain_attributes() -> Iterator[None]:
    """skl2onnx 1.20 hands numpy integers and booleans to protobuf, which refuses them."""
    original = ModelComponentContainer.add_node

    def add_node(self: Any, *args: Any, **attributes: Any) -> Any:
        return original(self, *args, **{key: _plain(value) for key, value in attributes.items()})

    ModelComponentContainer.add_node = add_node
    try:
        yield
    finally:
        ModelComponentContainer.add_node = original


def _with_float32_thresholds(model: Any) -> Any:
    """A copy whose trees cut float32 numbers where the model's do.

    A cut halfway between 4.7 and 4.9 lies a hair below 4.8 as float32 has it. The converter rounds it to that very
    number, and a row with 4.8 goes the other way. The largest float32 that is not above the cut parts the same rows.
    """
    model = copy.deepcopy(model)
    for step in model.named_steps.values():
        for tree in chain.from_iterable(getattr(step, "_predictors", [])):
            exact = tree.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                nearest = exact.astype(np.float32)
            tree.nodes["num_threshold"] = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return model


def _scale_back(graph: ModelProto, scaler: StandardScaler) -> None:
    """Appends what turns standard deviations into the target's own unit, in float64."""
    names = {"scale": scaler.scale_, "mean": scaler.mean_}
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in names.items())
    graph.graph.node.extend(
        [
            helper.make_node("Cast", [graph.graph.output[-1].name], ["scaled"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["scaled", "scale"], ["centred"]),
            helper.make_node("Add", ["centred", "mean"], ["value"]),
        ]
    )
    graph.graph.output[-1].CopyFrom(helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None, 1]))


def export_onnx(model: Model, inputs: int) -> bytes:
    """The fitted pipeline as an ONNX graph: input `x` (rows × `inputs`, float32), last output the answer."""
    options = {"zipmap": False} if hasattr(model, "predict_proba") else None
    scaled = isinstance(model, TransformedTargetRegressor)
    with _plain_attributes():
        graph = to_onnx(
            _with_float32_thresholds(model.regressor_ if scaled else model),
            initial_types=[("x", FloatTensorType([None, inputs]))],
            options=options,
            target_opset=OPSET,
            name=GRAPH_NAME,
        )
    if scaled:
        _scale_back(graph, model.transformer_)
    # The converter lists them in the order of a set, which differs from process to process.
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    return bytes(graph.SerializeToString(deterministic=True))


def raw_answer(model: Model, matrix: Floats, classes: int = 0) -> npt.NDArray[np.float64]:
    """Probabilities, or values for regression, from scikit-learn.

    `classes` says how many there are, for a model whose rows may have lacked one: it gets no probability.
    """
    if not hasattr(model, "predict_proba"):
        return np.asarray(model.predict(matrix), dtype="float64")
    answer = np.asarray(model.predict_proba(matrix), dtype="float64")
    if answer.shape[1] >= classes:
        return answer
    whole = np.zeros((len(answer), classes))
    whole[:, model.classes_] = answer
    return whole


def graph_answer(graph: bytes, matrix: Floats) -> npt.NDArray[np.float64]:
    """The same from the exported graph."""
    return np.asarray(open_session(graph).run(None, {"x": matrix})[-1], dtype="float64")


def parity_differences(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Largest difference of every row; relative to the spread for regression."""
    if expected.ndim == 1:
        return np.abs(expected - found.reshape(len(expected))) / max(float(np.std(expected)), 1e-12)
    return np.asarray(np.abs(expected - found).max(axis=1))


def check_parity(differences: npt.NDArray[np.float64], tolerance: float) -> None:
    """Raises ParityError with the rows that differ by more than `tolerance`."""
    rows = np.flatnonzero(~(differences <= tolerance))
    if len(rows):
        worst = rows[np.argsort(-differences[rows])]
        raise ParityError(pd.DataFrame({"row": worst, "difference": differences[worst]}), tolerance)
