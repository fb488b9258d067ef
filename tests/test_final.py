import numpy as np
import pytest
from tables import make_params, make_schema, make_spec, make_table

from mlops_core.preprocess import encode_table, encode_target
from mlops_core.train.export import raw_answer
from mlops_core.train.final import compare_with_best, cross_answers, fit_final

BEST = {"family": "logistic", "settings": {"C": 1.0}}
TREES = {"family": "boosting", "settings": {"max_iter": 50, "min_samples_leaf": 2}}


def surely(truth, sure, wrong=()):
    """Probabilities of two classes: so much for the true one, and of the wrong rows for the other."""
    right = ~np.isin(np.arange(len(truth)), wrong)
    event = np.where((truth == 1) == right, sure, 1 - sure)
    return np.column_stack([1 - event, event])


def interval(truth, ours, theirs):
    found = compare_with_best(
        "binary", truth, {"this run": ours, "rival": theirs}, np.arange(len(truth)), make_params()
    )
    assert found["baseline"] == "rival"
    return found["low"], found["high"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_every_training_row_is_answered_by_a_fit_that_has_not_seen_it(task):
    schema, table = make_schema(task), make_table(task)
    truth, answers = cross_answers(schema, make_spec(task), TREES, table, 1)
    assert sorted(truth) == sorted(encode_target(schema, table))
    own = fit_final(schema, TREES, encode_table(schema, table), encode_target(schema, table), 1)
    learned = raw_answer(own, encode_table(schema, table)).argmax(axis=1) == encode_target(schema, table)
    assert learned.mean() > 0.95
    assert (answers.argmax(axis=1) == truth).mean() < 0.85


def test_a_class_that_the_other_folds_lack_says_nothing_of_probabilities():
    spec, table = make_spec("multiclass"), make_table("multiclass")
    label = spec.classes[-1]
    days = table["at"].dt.date
    rare = (table["outcome"] == label) & (days != days[table["outcome"] == label].iloc[0])
    table = table[~rare].reset_index(drop=True)
    schema = make_schema("multiclass")
    truth, answers = cross_answers(schema, spec, BEST, table, 1)
    assert len(truth) == (table["outcome"] != label).sum()
    assert answers.shape == (len(truth), 3)


def test_a_model_whose_rows_lack_a_class_gives_it_no_probability():
    schema, table = make_schema("multiclass"), make_table("multiclass")
    matrix, target = encode_table(schema, table), encode_target(schema, table)
    model = fit_final(schema, BEST, matrix[target != 1], target[target != 1], 1)
    answer = raw_answer(model, matrix, 3)
    assert (answer[:, 1] == 0).all()
    assert answer.sum(axis=1) == pytest.approx(np.ones(len(table)))


def test_of_two_models_without_a_mistake_on_thirty_rows_the_surer_one_is_not_certainly_better():
    truth = np.arange(30) % 2
    low, high = interval(truth, surely(truth, 0.97), surely(truth, 0.9999))
    assert low < 0 < high


def test_a_model_that_errs_where_another_does_not_is_certainly_worse_on_thirty_rows_too():
    truth = np.arange(30) % 2
    low, _ = interval(truth, surely(truth, 0.9, wrong=range(10)), surely(truth, 0.9))
    assert low > 0


def test_on_thousands_of_rows_the_surer_one_of_two_that_never_err_is_certainly_better():
    truth = np.arange(5000) % 2
    low, high = interval(truth, surely(truth, 0.97), surely(truth, 0.9999))
    assert 0 < low < high
