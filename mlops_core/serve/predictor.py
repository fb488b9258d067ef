"""A verified bundle that answers: probabilities, labels, prediction sets; values and intervals for regression."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mlops_core.features import Floats, Problem, Schema, Values, check_and_encode, encode
from mlops_core.serve.bundle import BundleError, Constants, read_constants, verify_bundle

Doubles = npt.NDArray[np.float64]

TINY = 1e-12
PROBABILITY_TOLERANCE, SPREAD_TOLERANCE = 1e-6, 2e-6


def calibrate(raw: Doubles, constants: Constants) -> Doubles:
    """Softmax of slope · log p + offset: temperature and bias (Platt's scaling when there are two classes)."""
    if constants.calibration_offset is None:
        return raw
    logits = constants.calibration_slope * np.log(np.maximum(raw, TINY)) + constants.calibration_offset
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Predictor:
    """`predict` answers in probabilities (rows × classes), or in values (rows) for regression."""

    schema: Schema
    constants: Constants
    digest: str
    session: onnxruntime.InferenceSession

    def predict(self, matrix: Floats) -> Doubles:
        """The served answer for encoded rows."""
        answer = np.asarray(self.session.run(None, {"x": matrix})[-1], dtype=np.float64)
        if self.schema.task == "regression":
            return self._within(answer.reshape(len(matrix)))
        return calibrate(answer, self.constants)

    def predict_columns(self, columns: Mapping[str, Values], rows: int) -> tuple[Doubles, list[Problem]]:
        """Answers for raw columns, and what is wrong with them; a row with a problem has an answer without meaning."""
        problems, matrix = check_and_encode(self.schema, columns, rows)
        if not problems:
            return self.predict(matrix), []
        bad = sorted({problem.row for problem in problems})
        good = np.setdiff1d(np.arange(rows), bad)
        kept = {name: [values[row] for row in good] for name, values in columns.items()}
        width = () if self.schema.task == "regression" else (len(self.schema.classes),)
        answer = np.full((rows, *width), np.nan)
        if len(good):
            answer[good] = self.predict(encode(self.schema, kept, len(good)))
        return answer, problems

    def interval(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """From where to where the truth is expected at the stated coverage (split conformal), within its range."""
        width = self.constants.conformal
        return self._within(values - width), self._within(values + width)

    def _within(self, values: Doubles) -> Doubles:
        if self.schema.target_range is None:
            return values
        low, high = self.schema.target_range
        return np.clip(values, low, high)

    def labels(self, probabilities: Doubles) -> npt.NDArray[np.int64]:
        """Positions of the chosen classes: by the decision threshold for two classes, the likeliest for more."""
        if self.constants.threshold is not None:
            return (probabilities[:, 1] >= self.constants.threshold).astype(np.int64)
        return probabilities.argmax(axis=1)

    def prediction_sets(self, probabilities: Doubles) -> npt.NDArray[np.bool_]:
        """Which classes cannot be ruled out at the stated coverage (split conformal, Sadinle et al. 2019)."""
        # As `nonconformity` computes it: p >= 1 - level would lose rows at the level to rounding.
        sets = 1 - probabilities <= self.constants.conformal
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def answers_agree(answers: npt.ArrayLike, expected: npt.ArrayLike) -> bool:
    """Whether they are the same but for rounding: how float32 sums of trees end depends on threads and processor.

    Both as `predict` gives them; values may also be a column. Those may differ by a part of their spread.
    """
    given, wanted = np.asarray(answers, np.float64), np.asarray(expected, np.float64)
    if given.size != wanted.size:
        return False
    if wanted.ndim == 2 and wanted.shape[1] > 1:
        return bool(np.allclose(given, wanted, rtol=0, atol=PROBABILITY_TOLERANCE))
    spread = float(np.ptp(wanted)) if wanted.size else 0.0
    return bool(np.allclose(given.ravel(), wanted.ravel(), rtol=PROBABILITY_TOLERANCE, atol=SPREAD_TOLERANCE * spread))


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU; one thread answers single rows fastest, more help batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_schema_json(folder: Path) -> Schema:
    return Schema.from_dict(json.loads((folder / "schema.json").read_bytes()))


def load_predictor(folder: Path, threads: int = 1) -> Predictor:
    """Verifies the bundle, opens it, and replays its golden rows. Raises BundleError when anything differs."""
    digest = verify_bundle(folder)
    try:
        session = open_session((folder / "model.onnx").read_bytes(), threads)
        predictor = Predictor(read_schema_json(folder), read_constants(folder), digest, session)
        golden: dict[str, Any] = json.loads((folder / "golden.json").read_bytes())
        answers, problems = predictor.predict_columns(golden["columns"], golden["rows"])
    except Exception as error:  # sealed nonsense can fail anywhere, and ONNX Runtime's errors share no class
        raise BundleError(folder, f"it cannot be opened ({type(error).__name__})") from error
    if problems or not answers_agree(answers, golden["answers"]):
        raise BundleError(folder, "its golden rows get other answers than in training")
    return predictor
