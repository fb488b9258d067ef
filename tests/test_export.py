import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skl2onnx.common._container import ModelComponentContainer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from tables import fit

from mlops_core.preprocess import encode_table
from mlops_core.train.export import ParityError, check_parity, export_onnx, graph_answer, parity_differences


def test_the_rows_that_differ_are_named_worst_first():
    differences = np.array([0.0, 0.3, 1e-6, 0.9, np.nan])
    with pytest.raises(ParityError) as caught:
        check_parity(differences, 1e-5)
    assert set(caught.value.rows["row"]) == {1, 3, 4}
    assert [row for row in caught.value.rows["row"] if row != 4] == [3, 1]
    assert "3 rows differ" in str(caught.value)
    assert "at most 0.9" in str(caught.value)


@pytest.mark.parametrize(("difference", "passes"), [(1e-5, True), (1.01e-5, False), (np.nan, False), (np.inf, False)])
def test_the_tolerance_itself_is_allowed(difference, passes):
    if passes:
        check_parity(np.array([difference]), 1e-5)
    else:
        with pytest.raises(ParityError, match="1 rows differ"):
            check_parity(np.array([difference]), 1e-5)


def test_a_row_differs_by_its_worst_class():
    expected, found = np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.4, 0.6], [0.1, 0.9]])
    assert parity_differences(expected, found) == pytest.approx([0.1, 0])


def test_values_differ_relative_to_their_spread():
    expected = np.array([0.0, 2000.0])
    assert parity_differences(expected, np.array([[0.0], [2001.0]])) == pytest.approx([0, 1e-3])


def test_a_graph_of_another_model_is_caught():
    schema, model, table = fit("binary")
    _, other, _ = fit("binary", rows=80)
    matrix = encode_table(schema, table)
    graph = export_onnx(other, len(schema.inputs))
    with pytest.raises(ParityError):
        check_parity(parity_differences(model.predict_proba(matrix), graph_answer(graph, matrix)), 1e-5)


def test_exporting_twice_gives_the_same_bytes():
    schema, model, _ = fit("binary", "boosting")
    assert export_onnx(model, len(schema.inputs)) == export_onnx(model, len(schema.inputs))


def test_exporting_leaves_the_library_as_it_was():
    before = ModelComponentContainer.add_node
    schema, model, _ = fit("binary", "boosting")
    export_onnx(model, len(schema.inputs))
    assert ModelComponentContainer.add_node is before


EXPORT = """
import hashlib, sys
from tables import fit
from mlops_core.train.export import export_onnx
for family in sys.argv[1:]:
    schema, model, _ = fit("binary", family)
    print(family, hashlib.sha256(export_onnx(model, len(schema.inputs))).hexdigest())
"""


def test_the_same_fit_gives_the_same_bytes_in_every_process():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    found = {
        subprocess.run(
            [sys.executable, "-c", EXPORT, "logistic", "boosting"],
            env={**environment, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1, found


@given(decimals=st.integers(0, 3), size=st.sampled_from([1, 100, 1e6]), seed=st.integers(0, 99))
def test_a_cut_between_decimals_parts_the_rows_that_lie_on_it_as_the_model_does(decimals, size, seed):
    random = np.random.default_rng(seed)
    values = (random.normal(size=(120, 3)) * size).round(decimals).astype("float32")
    known, others = values[::2], np.vstack([values, (values[::2] + values[1::2]) / 2]).round(decimals).astype("float32")
    model = make_pipeline(HistGradientBoostingClassifier(min_samples_leaf=1, max_iter=10, learning_rate=0.5))
    model.fit(known, random.integers(0, 2, 60))
    found = graph_answer(export_onnx(model, 3), others)
    check_parity(parity_differences(model.predict_proba(others), found), 1e-5)
