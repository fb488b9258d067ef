import numpy as np
import pandas as pd
import pytest

from mlops_core import figures

AUDIT = pd.DataFrame({"column": ["later", "amount"], "roc_auc": [0.99, 0.6], "suspicious": [True, False]})
TRIALS = pd.DataFrame(
    {
        "trial": [0, 1, 2],
        "state": ["complete", "pruned", "complete"],
        "family": ["logistic", "logistic", "boosting"],
        "loss": [0.5, 0.7, 0.4],
        "best": [0.5, 0.5, 0.4],
        "logistic.C": [0.1, 1.0, np.nan],
    }
)
SCORES = pd.DataFrame(
    {"log_loss": [0.4, 0.5], "log_loss_low": [0.3, 0.45], "log_loss_high": [0.45, 0.6]}, index=["ours", "constant"]
)
SLICES = pd.DataFrame({"slice": ["gate", "gate"], "value": ["A", "B"], "rows": [300, 100], "log_loss": [0.4, 0.6]})
BINS = pd.DataFrame({"bin": [0, 1], "stated": [0.2, 0.8], "observed": [0.25, 0.7], "rows": [50, 50]})
SEEN = pd.DataFrame({"at": [0.1, 0.6], "ms": [1.0, 2.0], "status": [200, 503], "version": [1, 2]})

MAKERS = {
    "rate_by_month": lambda: figures.rate_by_month(pd.Series([0.1, 0.3], index=[1, 7]), "late"),
    "leak_ranking": lambda: figures.leak_ranking(AUDIT),
    "scores_of_runs": lambda: figures.scores_of_runs(
        pd.DataFrame({"roc_auc": [0.68, 0.8]}, index=["honest", "random split"]), "roc_auc", "random split"
    ),
    "search_history": lambda: figures.search_history(TRIALS, "log_loss"),
    "ranked_bars": lambda: figures.ranked_bars({"a": 0.1, "b": 0.3}, "b matters most", "loss"),
    "search_slices": lambda: figures.search_slices(TRIALS[:2], ["logistic.C"], "log_loss"),
    "reliability_figure": lambda: figures.reliability_figure({"ours": BINS}, {"ours": 0.02}),
    "cost_figure": lambda: figures.cost_figure(pd.DataFrame({"threshold": [0.2, 0.3], "cost": [0.5, 0.4]}), 0.25),
    "scores_with_baselines": lambda: figures.scores_with_baselines(SCORES, "log_loss"),
    "slice_figure": lambda: figures.slice_figure(SLICES, "log_loss", 0.45),
    "reasons_figure": lambda: figures.reasons_figure(
        0.25, {"kind": -0.05, "amount": 0.3, "gate": 0.01}, {"kind": "u", "amount": 12.0, "gate": "A"}, "late", shown=2
    ),
    "swap_figure": lambda: figures.swap_figure(SEEN, [(0.5, 2)]),
    "latency_figure": lambda: figures.latency_figure({"floor": [0.5, 0.6, 0.7], "predict": [1.0, 1.2, 9.0]}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_figure_gives_the_same_bytes(name):
    first, again = (figures.to_png(MAKERS[name]()) for _ in range(2))
    assert first == again
    assert first.startswith(b"\x89PNG")
    assert b"tIME" not in first


def title(name):
    return MAKERS[name]().axes[0].get_title(loc="left")


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("rate_by_month", "10% in 1, 30% in 7"),
        ("leak_ranking", "Stand out: later"),
        ("scores_of_runs", "The honest best is honest; random split stands above it"),
        ("search_history", "3 trials gain 0.1000"),
        ("reliability_figure", "2.0% off on average (ours)"),
        ("cost_figure", "act from 0.25, the calibration rows say 0.30"),
        ("scores_with_baselines", "Ours has the lowest log loss on the test rows, by 0.1000"),
        ("slice_figure", "Hardest: gate B, log loss 0.600"),
        ("reasons_figure", "Most by amount: late 0.25 → 0.51"),
        ("swap_figure", "1 changes of the model under 2 requests, 1 failed"),
        ("latency_figure", "floor 0.6 ms, predict 1.2 ms"),
    ],
)
def test_a_title_states_what_was_found(name, finding):
    assert finding in title(name).replace("\n", " ")


def test_a_clean_audit_accuses_no_column():
    figure = figures.leak_ranking(AUDIT.assign(suspicious=False))
    assert figure.axes[0].get_title(loc="left") == "No single column predicts suspiciously well"


@pytest.mark.parametrize(
    ("values", "finding"),
    [([1.0, 2.0, 30.0, 40.0], "Half of y lies below 1.5 in train, 35 in calibrate"), (list("aaab"), "A is the most")],
)
def test_a_target_is_shown_in_the_parts_that_are_given(values, finding):
    figure = figures.target_by_split(
        pd.Series(values, name="y"), pd.Series(["train", "train", "calibrate", "calibrate"])
    )
    assert figure.axes[0].get_title(loc="left").startswith(finding)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["train", "calibrate"]


def test_a_pruned_trial_is_no_dot_in_the_history():
    dots = [collection.get_offsets() for collection in MAKERS["search_history"]().axes[0].collections]
    assert sorted(len(points) for points in dots) == [1, 1]


def test_bins_of_few_rows_are_not_drawn():
    figure = figures.reliability_figure({"ours": BINS.assign(rows=[5000, 29])}, {"ours": 0.02})
    (line,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert line.get_xdata().tolist() == [0.2]


def test_only_the_largest_bars_are_drawn_longest_on_top():
    figure = figures.ranked_bars({str(i): i for i in range(20)}, "t", "x", shown=3)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [17, 18, 19]


def test_a_shown_figure_carries_a_text_for_those_who_cannot_see_it(tmp_path):
    file = tmp_path / "figures/rate.png"
    image = figures.show(MAKERS["rate_by_month"](), "Late arrivals by month", file)
    data, metadata = image._repr_png_()
    assert metadata["alt"] == "Late arrivals by month"
    assert file.read_bytes() == figures.to_png(MAKERS["rate_by_month"]())
    assert data


def test_reasons_lead_from_the_base_to_the_answer_with_the_small_ones_joined():
    axes = MAKERS["reasons_figure"]().axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["amount = 12", "kind = u", "1 others"]
    assert axes.patches[0].get_x() == pytest.approx(0.25)
    assert ends == pytest.approx([0.55, 0.5, 0.51])


def test_a_table_of_texts_cuts_nothing_and_takes_nothing_for_markup():
    table = figures.text_table({"<b>": {"detail": "x" * 200, "unasked": 1}}, ["status", "detail"]).data
    assert "x" * 200 in table
    assert "&lt;b&gt;" in table
    assert "unasked" not in table
