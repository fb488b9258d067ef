import pandas as pd
import pytest
from tables import TASKS, dataset_tree, make_params, make_spec

from mlops_core.train.card import drawn_of, render_card, scores_with_spread

BEST = {"family": "logistic", "settings": {"C": 0.1}, "finished": 30, "loss": 3.6612, "folds": 3}
SPLITS = pd.DataFrame({"rows": [300, 50, 50]}, index=["train", "calibrate", "test"])


def spec_of(task="regression", unit="kg", **roles):
    """The small table, some of whose columns have other roles (None: there is no such column)."""
    columns = {
        name: column for name, column in dataset_tree(task)["columns"].items() if roles.get(name, "") is not None
    }
    for name, role in roles.items():
        if role:
            columns[name] = {**columns[name], "role": role}
    if task == "regression":
        columns["outcome"]["unit"] = unit
    return make_spec(task, columns=columns)


def card_of(spec, best=BEST):
    metric = "rmse" if spec.task == "regression" else "log_loss"
    scores = {metric: 3.66, f"{metric}_low": 3.1, f"{metric}_high": 4.2}
    metrics = {
        "test": scores,
        "baselines": {"base rate": scores},
        "coverage": 0.91,
        "conformal": 6.25,
        "threshold": 0.25 if spec.task == "binary" else None,
        "parity": 1e-7,
        "parity_rows": 50,
    }
    slices = pd.DataFrame({"slice": ["gate"], "value": ["A"], "rows": [20], metric: [4.5]})
    return render_card(spec, make_params(), best, metrics, {"amount": 1.5}, slices, SPLITS)


def test_of_a_number_the_card_says_how_wide_intervals_are_and_in_which_unit():
    card = card_of(spec_of())
    assert "Its intervals reach 6.2500 kg to either side of the answer." in card
    assert "rmse (kg) of 3.6612" in card
    assert "|  | rmse (kg) |" in card
    assert "| gate A | 20 | 4.5000 |" in card
    assert "How much the rmse (kg) grows" in card


def test_a_number_without_a_unit_gets_none():
    card = card_of(spec_of(unit=""))
    assert "reach 6.2500 to either side" in card
    assert "()" not in card


@pytest.mark.parametrize("task", TASKS)
def test_only_classes_have_sets_and_only_numbers_have_intervals(task):
    card = card_of(spec_of(task))
    number = task == "regression"
    assert ("more than one class" in card) is not number
    assert ("Its sets" in card) is not number
    assert ("Its intervals" in card) is number
    assert "how likely" not in card


@pytest.mark.parametrize(
    ("task", "name", "setting"),
    [("binary", "Logistic regression", "- C: 0.1"), ("regression", "Ridge regression", "- alpha: 10")],
)
def test_a_linear_model_is_called_what_it_is(task, name, setting):
    card = card_of(spec_of(task))
    assert f"**Model.** {name}, chosen" in card
    assert setting in card.splitlines()


def test_an_ignored_column_is_known_too_late_only_where_the_file_says_so():
    card = card_of(spec_of(count="ignore"))
    assert "Known too late: later. Left out by the dataset file: count. The id: ticket." in card
    assert "**Columns it sees.** at, amount, kind, gate, open." in card


def test_every_column_but_the_target_is_seen_or_unseen():
    spec = spec_of(gate="group", open="ignore")
    lines = [line for line in card_of(spec).splitlines() if line.startswith("**Columns")]
    assert "The group: gate" in lines[1]
    for name in spec.columns:
        assert [f" {name}" in line.replace(",", "").replace(".", " ") for line in lines].count(True) == (
            name != "outcome"
        )


def test_where_everything_is_seen_nothing_is_unseen():
    assert "**Columns it does not see.** None." in card_of(spec_of(ticket=None, later=None))


@pytest.mark.parametrize(
    ("roles", "drawn"),
    [({}, "whole days"), ({"at": None, "gate": "group"}, "whole groups"), ({"at": None}, "rows")],
)
def test_resamples_draw_what_belongs_together(roles, drawn):
    assert drawn_of(spec_of(**roles)) == drawn
    assert f"resamples of {drawn}:" in card_of(spec_of(**roles))


def test_scores_of_probabilities_have_no_unit():
    scores = {"log_loss": 0.5, "log_loss_low": 0.4, "log_loss_high": 0.6}
    assert scores_with_spread({"this run": scores}, "kg").columns.tolist() == ["log loss"]
