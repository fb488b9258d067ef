import base64
import json
import shutil
from pathlib import Path

import pytest
import yaml
from tables import dataset_tree, make_params

from mlops_core.paths import Paths
from mlops_core.pipeline.index import write_index
from mlops_core.registry.versions import Decision

CHECKOUT = Path(__file__).parents[1]
SCORES = {"log_loss": 0.5, "roc_auc": 0.7, "ece": 0.01}
BEATS = {"baseline": "default boosting", "difference": -0.0014, "low": -0.03, "high": 0.02}
METRICS = {"test": SCORES, "baselines": {"base rate": {"log_loss": 0.6}}, "coverage": 0.9, "beats": BEATS}
NUMBER = {"rmse": 3.66, "rmse_low": 3.1, "rmse_high": 4.2, "mae": 2.0, "r2": 0.5}


STAGES = {"train": ("ours", "reports/notebooks/05_train.html"), "serve": ("theirs", "reports/notebooks/07_serve.html")}
FIGURE = {"train": "importance", "serve": "latency"}


def page_of(root, dataset, metrics, decision):
    paths = Paths(root, dataset)
    (paths.reports / "metrics").mkdir(parents=True)
    (paths.reports / "metrics" / "train.json").write_text(json.dumps(metrics))
    (paths.reports / "figures").mkdir()
    for stage, (of, _) in STAGES.items():
        (paths.reports / "figures" / f"{FIGURE[stage]}.png").write_bytes(of.encode())
    stages = {
        stage: {
            "cmd": "c",
            "deps": [],
            "params": {"params.yaml": {"dataset": dataset if of == "ours" else "another"}},
            "outs": [{"path": name, "md5": "0"} for name in (file, f"reports/figures/{FIGURE[stage]}.png")],
        }
        for stage, (of, file) in STAGES.items()
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    write_index(paths, make_params(dataset=dataset), decision)
    return " ".join((paths.reports / "index.html").read_text(encoding="utf-8").split())


@pytest.fixture
def datasets(tmp_path):
    folder = tmp_path / "data" / "datasets"
    folder.mkdir(parents=True)
    shutil.copy(CHECKOUT / "data" / "datasets" / "credit.yaml", folder)
    return folder


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(2, 2, True, "better"), "champion"),
        (Decision(2, 1, False, "worse"), "this run, not promoted: v1 stays champion"),
    ],
)
def test_the_scores_stand_beside_the_version_that_has_them(datasets, decision, said):
    page = page_of(datasets.parents[1], "credit", METRICS, decision)
    assert page.index("v2") < page.index(said) < page.index("0.5000")


@pytest.mark.parametrize(
    ("high", "said"), [(0.02, "By log loss this run is not certainly better"), (-0.001, "is certainly better")]
)
def test_the_page_claims_no_more_than_the_interval_of_the_difference(datasets, high, said):
    metrics = {**METRICS, "beats": {**BEATS, "high": high}}
    page = page_of(datasets.parents[1], "credit", metrics, Decision(1, 1, True, "first"))
    assert f"{said} than the best baseline, default boosting (difference -0.0014, -0.0300 to" in page
    assert "intervals from resamples of rows." in page


def test_of_a_number_the_page_has_a_unit_and_intervals(datasets):
    tree = dataset_tree("regression")
    tree["columns"]["outcome"]["unit"] = "kg"
    (datasets / "small.yaml").write_text(yaml.safe_dump(tree))
    metrics = {**METRICS, "test": NUMBER, "baselines": {"base rate": NUMBER}}
    page = page_of(datasets.parents[1], "small", metrics, Decision(1, 1, True, "first"))
    assert "<b>3.6600</b><small>rmse (kg)</small>" in page
    assert "<th>rmse (kg)</th>" in page
    assert "coverage of the 90% intervals" in page
    assert "intervals from resamples of whole days." in page


def test_what_another_dataset_left_is_not_on_the_page(datasets):
    page = page_of(datasets.parents[1], "credit", METRICS, Decision(1, 1, True, "first"))
    assert 'href="notebooks/05_train.html"' in page
    assert "07_serve" not in page
    assert base64.b64encode(b"ours").decode() in page
    assert base64.b64encode(b"theirs").decode() not in page
