"""Writes the bundle: graph, schema, constants, prepared explanations and golden rows, sealed by a manifest."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_core.evaluation import score
from mlops_core.explain import build_background, save_background
from mlops_core.features import Floats, Schema, encode, is_missing
from mlops_core.preprocess import columns_of
from mlops_core.serve.bundle import Constants, constants_to_json, dump_json, write_manifest
from mlops_core.serve.predictor import Predictor, open_session

GOLDEN_ROWS = 32
Answer = Callable[[Floats], npt.NDArray[np.float64]]


def permutation_importance(
    schema: Schema, answer: Answer, matrix: Floats, truth: npt.NDArray[np.generic], seed: int
) -> dict[str, float]:
    """By original column: how much worse the log-loss (RMSE) gets when its values are shuffled (Breiman 2001).

    All parts of a column are shuffled together. Largest first.
    """
    metric = "rmse" if schema.task == "regression" else "log_loss"
    base = score(schema.task, truth, answer(matrix))[metric]
    order = np.random.default_rng(seed).permutation(len(matrix))
    worse = {}
    for position, column in enumerate(schema.columns):
        parts = [i for i, (_, at) in enumerate(schema.inputs) if at == position]
        shuffled = matrix.copy()
        shuffled[:, parts] = matrix[order][:, parts]
        worse[column.name] = score(schema.task, truth, answer(shuffled))[metric] - base
    return dict(sorted(worse.items(), key=lambda item: -item[1]))


def _json_columns(schema: Schema, rows: pd.DataFrame) -> dict[str, list[Any]]:
    columns = {}
    for name, values in columns_of(rows, [column.name for column in schema.columns]).items():
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            columns[name] = [None if np.isnat(value) else str(value) for value in values]
        else:
            columns[name] = [None if is_missing(value) else value for value in values]
            columns[name] = [value.item() if isinstance(value, np.generic) else value for value in columns[name]]
    return columns


def build_predictor(graph: bytes, schema: Schema, constants: Constants) -> Predictor:
    """A predictor that is not sealed yet, for scores and figures before it is written."""
    return Predictor(schema, constants, "", open_session(graph, threads=0))


def write_bundle(
    folder: Path, graph: bytes, schema: Schema, constants: Constants, rows: pd.DataFrame, background: int, seed: int
) -> str:
    """Writes the bundle in one step and returns its digest; an interrupted write leaves no half bundle.

    `rows` are table rows that golden rows and those behind explanations are drawn from.
    """
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    predictor = build_predictor(graph, schema, constants)
    golden = _json_columns(schema, rows.sample(min(GOLDEN_ROWS, len(rows)), random_state=seed))
    count = len(next(iter(golden.values())))
    answers = predictor.predict(encode(schema, golden, count))
    chosen = rows.sample(min(background, len(rows)), random_state=seed + 1)
    matrix = encode(schema, columns_of(chosen, [column.name for column in schema.columns]), len(chosen))
    (draft / "model.onnx").write_bytes(graph)
    (draft / "schema.json").write_bytes(dump_json(schema.to_dict()))
    (draft / "constants.json").write_bytes(constants_to_json(constants))
    save_background(build_background(predictor, matrix), draft)
    (draft / "golden.json").write_bytes(dump_json({"rows": count, "columns": golden, "answers": answers.tolist()}))
    digest = write_manifest(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    return digest


def with_importance(constants: Constants, importance: Mapping[str, float]) -> Constants:
    return replace(constants, importance=dict(importance))
