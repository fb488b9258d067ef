import numpy as np
import pytest
from tables import make_schema, make_spec, make_table

from mlops_core.preprocess import encode_table, encode_target
from mlops_core.train.export import raw_answer
from mlops_core.train.final import cross_answers, fit_final

BEST = {"family": "logistic", "settings": {"C": 1.0}}
TREES = {"family": "boosting", "settings": {"max_iter": 50, "min_samples_leaf": 2}}


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
