"""`reports/index.html`: the run at a glance, pictures included, one file that needs no network."""

import base64
from pathlib import Path

from jinja2 import Environment

from mlops_core.datasets import load_dataset
from mlops_core.evaluation import metric_label, metric_of, spoken, verdict
from mlops_core.params import Params
from mlops_core.paths import Paths
from mlops_core.pipeline.notebooks import NOTEBOOKS
from mlops_core.pipeline.verify import read_lock
from mlops_core.registry.versions import Decision
from mlops_core.reports import read_metrics, replace_file
from mlops_core.train.card import drawn_of, scores_with_spread, sets_of

PICTURES = (
    "target",
    "baselines",
    "history",
    "test_scores",
    "reliability",
    "importance",
    "slices",
    "reasons",
    "swap",
    "latency",
    "images",
    "release",
)

PAGE = "page/ask.png"

TEMPLATE = Path(__file__).with_name("index.html.j2")


def _beside(decision: Decision) -> str:
    return f"this run, not promoted: v{decision.champion} stays champion"


def write_index(paths: Paths, params: Params, decision: Decision) -> None:
    """Writes the page from the metrics and pictures that the stages left, those that last ran for this dataset."""
    spec = load_dataset(params.dataset, paths.root)
    metrics = read_metrics(paths, "train")
    test = metrics["test"]
    loss, unit = metric_of(spec.task), spec.columns[spec.target].unit
    tiles = [
        (f"v{decision.version}", "champion" if decision.champion == decision.version else _beside(decision)),
        (spoken(test[loss]), metric_label(loss, unit)),
        *(
            [(f"{test['roc_auc']:.4f}", "ROC-AUC"), (f"{test['ece']:.4f}", "calibration error")]
            if "roc_auc" in test
            else [(f"{test['r2']:.3f}", "R²")]
        ),
        (f"{metrics['coverage']:.1%}", f"coverage of the {params.train.coverage:.0%} {sets_of(spec)}"),
    ]
    files = {name.replace("_", " "): paths.figure(name) for name in PICTURES} | {"the page": paths.reports / PAGE}
    ours = {name for outputs in read_lock(paths.root, paths.dataset).values() for name in outputs}
    pictures = [
        (name, base64.b64encode(path.read_bytes()).decode())
        for name, path in files.items()
        if path.is_file() and not ours.isdisjoint({paths.relative(path), paths.relative(path.parent)})
    ]
    page = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    html = page.render(
        spec=spec,
        tiles=tiles,
        scores=scores_with_spread({"this run": test, **metrics["baselines"]}, unit),
        drawn=drawn_of(spec),
        verdict=f"By {metric_label(loss)} this run is {verdict(metrics['beats'])}.",
        pictures=pictures,
        notebooks=[file for file in NOTEBOOKS.values() if f"reports/notebooks/{file}.html" in ours],
    )
    replace_file(paths.reports / "index.html", html.encode())
