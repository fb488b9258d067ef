import plotly.graph_objects as go
from models import make_model
from visits import run

from mlops_core.frontend.about import MOST_SLICES, About, hardest, score_rows
from mlops_core.frontend.client import ApiError

SCORES = {
    "this model": {"log_loss": 0.4958, "log_loss_low": 0.469, "log_loss_high": 0.527, "roc_auc": 0.7},
    "base rate": {"log_loss": 0.57, "roc_auc": 0.5},
}
FOUND = {
    "rows": 1000,
    "first_day": "2013-11-01",
    "last_day": "2013-12-31",
    "metric": "log_loss",
    "scores": SCORES,
    "coverage": {"stated": 0.9, "observed": 0.898},
    "reliability": [{"stated": 0.1, "observed": 0.2, "rows": 9}],
    "slices": [{"slice": "kind", "value": str(i), "rows": 300, "score": i / 10} for i in range(20)],
    "limits": ["One year of one <city>."],
    "card": "# Card",
}


class Known:
    async def evaluation(self):
        return FOUND


class Unknown:
    async def evaluation(self):
        raise ApiError("missing")


def test_scores_stand_beside_baselines_with_their_intervals():
    head, lines = score_rows(SCORES)
    assert head == ["Model", "ROC-AUC", "log-loss"]
    assert lines == [["this model", "0.700", "0.496 (0.469 to 0.527)"], ["base rate", "0.500", "0.570"]]


def test_the_weakest_parts_come_first():
    worst = hardest(make_model(), [*FOUND["slices"], {"slice": "kind", "value": "u", "rows": 300, "score": 9.0}])
    assert list(worst)[:2] == ["kind u · Upper", "kind 19"]
    assert len(worst) == MOST_SLICES


def test_what_the_service_knows_is_shown_once_it_is_looked_at():
    async def work():
        about = About(Known(), make_model())
        await about.show()
        assert "1,000 rows" in about.state.value
        assert "2013-11-01 to 2013-12-31" in about.state.value
        assert "&lt;city&gt;" in about.limits.value
        assert about.card.data == b"# Card"
        for plot in (about.importance, about.reliability, about.slices):
            go.Figure({"data": plot.chart["data"], "layout": plot.chart["layout"]})

    run(work())


def test_a_version_without_an_evaluation_says_so():
    async def work():
        about = About(Unknown(), make_model())
        await about.show()
        assert "without an evaluation" in about.state.value
        assert about.importance.chart["data"]

    run(work())
