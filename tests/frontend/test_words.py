import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import make_answer, make_model

from mlops_core.frontend import words
from mlops_core.frontend.failures import Notice

EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("task", "changes", "head", "said"),
    [
        ("binary", {}, "No", "At 90 % certainty nothing else"),
        ("binary", {"prediction_set": ["no", "yes"]}, "Not sure", "'no' and 'yes' remain possible"),
        ("binary", {"prediction_set": []}, "Unusual", "unlike those the model has learned from"),
        ("multiclass", {"prediction_set": ["low", "middle", "high"]}, "Not sure", "'low', 'middle' and 'high' remain"),
        ("regression", {}, "12.5 kg", "between 8 kg and 17 kg"),
    ],
)
def test_an_answer_says_how_sure_it_is(task, changes, head, said):
    found, sentence = words.answer_words(make_model(task), make_answer(task, **changes))
    assert found == head
    assert said in sentence


def test_unusual_values_are_named_by_their_labels():
    shown = words.show_answer(make_model(), make_answer(unusual=["amount"]))
    assert "Outside what the model has seen: Amount." in shown


def test_the_origin_names_version_scores_and_threshold():
    shown = words.show_origin(make_model())
    for part in ("small version 2", "ROC-AUC 0.700", "log-loss 0.500", "called &#x27;yes&#x27; from 30 % on"):
        assert part in shown


def test_the_scores_of_a_number_read_as_people_write_them():
    shown = words.show_origin(make_model("regression", metrics={"rmse": 24773.877, "r2": 0.9079}))
    assert "R² 0.908, RMSE 24,774" in shown


@given(st.text(max_size=20))
def test_nothing_from_outside_becomes_markup(text):
    evil = f"{EVIL}{text}"
    model = make_model(classes=["no", evil], target={"name": "t", "label": evil, "unit": ""})
    answer = make_answer(probabilities={"no": 0.6, evil: 0.4}, prediction_set=["no", evil])
    shown = [
        words.show_answer(model, answer),
        words.show_because(model, answer),
        words.show_origin(model),
        words.show_notice(Notice(evil, evil, evil)),
        words.show_table([evil], [[evil]], evil),
        words.show_chips(evil, [evil]),
    ]
    assert not [html for html in shown if "<img" in html]


def test_a_notice_is_read_out_at_once():
    assert 'role="alert"' in words.show_notice(Notice("a", "b"))
    assert words.show_notice(None) == ""
