import json
import shutil
from pathlib import Path

import pytest
from tables import make_params

from mlops_core.paths import Paths
from mlops_core.pipeline.index import write_index
from mlops_core.registry.versions import Decision

CHECKOUT = Path(__file__).parents[1]
SCORES = {"log_loss": 0.5, "roc_auc": 0.7, "ece": 0.01}
METRICS = {"test": SCORES, "baselines": {"base rate": {"log_loss": 0.6}}, "coverage": 0.9}


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(2, 2, True, "better"), "champion"),
        (Decision(2, 1, False, "worse"), "this run, not promoted: v1 stays champion"),
    ],
)
def test_the_scores_stand_beside_the_version_that_has_them(tmp_path, decision, said):
    paths = Paths(tmp_path, "credit")
    (tmp_path / "data" / "datasets").mkdir(parents=True)
    shutil.copy(CHECKOUT / "data" / "datasets" / "credit.yaml", tmp_path / "data" / "datasets")
    (paths.reports / "metrics").mkdir(parents=True)
    (paths.reports / "metrics" / "train.json").write_text(json.dumps(METRICS))
    write_index(paths, make_params().model_copy(update={"dataset": "credit"}), decision)
    page = " ".join((paths.reports / "index.html").read_text().split())
    assert page.index("v2") < page.index(said) < page.index("0.5000")
