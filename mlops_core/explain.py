"""Explanations of served answers: what each column of the table contributed, relative to the bundle's background."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mlops_core.features import Floats
from mlops_core.serve.predictor import Doubles, Predictor
from mlops_core.shapley import Answer, Background, contributions, prepare

__all__ = ["Background", "Explanation", "build_background", "explain", "load_background", "save_background"]

FILE = "explainer.npz"


@dataclass(frozen=True)
class Explanation:
    """`base_value + contributions.sum(axis=1)` is `explained`, and `answer` what `predict` says of the same rows.

    Explained is the probability of the last class of two, that of the likeliest class of more, or the value.
    """

    answer: Doubles
    explained: Doubles
    base_value: Doubles
    contributions: Doubles  # rows × table columns


def _outputs(predictor: Predictor, answer: Doubles) -> Doubles:
    """Rows × what can be explained: every class where there are more than two."""
    outputs = answer[:, None] if answer.ndim == 1 else answer
    return outputs if predictor.schema.task == "multiclass" else outputs[:, -1:]


def _answer(predictor: Predictor) -> Answer:
    return lambda matrix: _outputs(predictor, predictor.predict(matrix))


def build_background(predictor: Predictor, rows: Floats) -> Background:
    """Prepares explanations relative to encoded rows: once per model, as this may take half a second."""
    return prepare(_answer(predictor), rows, np.array([position for _, position in predictor.schema.inputs]))


def save_background(background: Background, folder: Path) -> None:
    """Keeps what was prepared in a bundle, so that a server that starts need not prepare it again."""
    np.savez(folder / FILE, allow_pickle=False, **asdict(background))


def load_background(folder: Path) -> Background:
    """What a verified bundle holds."""
    with np.load(folder / FILE, allow_pickle=False) as arrays:
        return Background(**arrays)


def explain(predictor: Predictor, background: Background, matrix: Floats) -> Explanation:
    """Explains encoded rows: one call of the graph for each, so that no row's reasons depend on its neighbours."""
    answer = predictor.predict(matrix)
    outputs = _outputs(predictor, answer)
    which = outputs.argmax(axis=1)
    explained, base = outputs[np.arange(len(outputs)), which], background.base[which]
    found = np.zeros((len(matrix), len(predictor.schema.columns)))
    for i, row in enumerate(matrix):
        found[i] = contributions(_answer(predictor), background, row, which[i], explained[i] - base[i])
    return Explanation(answer, explained, base, found)
