"""`reports/index.html`: the run at a glance, pictures included, one file that needs no network."""

import base64

from jinja2 import Environment

from mlops_core.datasets import load_dataset
from mlops_core.params import Params
from mlops_core.paths import Paths
from mlops_core.pipeline.notebooks import NOTEBOOKS, replace_file
from mlops_core.registry.versions import Decision
from mlops_core.reports import read_metrics
from mlops_core.train.card import scores_with_spread

PICTURES = ("late_by_month", "baselines", "history", "test_scores", "reliability", "importance", "slices")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ spec.title }}</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0072b2 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { margin: 0 } .lead { font-size: 1.15rem; margin: .3rem 0 1.5rem; opacity: .8 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem }
.tile { border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; background: var(--soft) }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; color: var(--accent) } .tile small { opacity: .75 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; display: block; overflow-x: auto }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid var(--line); border-radius: .6rem; padding: .6rem; background: #fff }
img { width: 100%; height: auto } a { color: var(--accent) } @media (max-width: 30rem) { .pictures { grid-template-columns: 1fr } }
</style></head><body>
<h1>{{ spec.title }}</h1><p class="lead">{{ spec.question }}</p>
<div class="tiles">{% for value, text in tiles %}<div class="tile"><b>{{ value }}</b><small>{{ text }}</small></div>{% endfor %}</div>
<h2>On the test rows, beside every baseline</h2>
<p>With 95 % intervals over whole days.</p>
<table><tr><th></th>{% for name in scores.columns %}<th>{{ name.replace("_", " ") }}</th>{% endfor %}</tr>
{% for name, row in scores.iterrows() %}<tr><th>{{ name }}</th>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</table>
<h2>What was found</h2><div class="pictures">{% for alt, data in pictures %}<figure><img alt="{{ alt }}" src="data:image/png;base64,{{ data }}"></figure>{% endfor %}</div>
<h2>Read on</h2><ul>
{% for stage, file in notebooks %}<li><a href="notebooks/{{ file }}.html">{{ file }}</a></li>{% endfor %}
<li><a href="model_card.md">Model card</a></li><li><a href="profile.html">Profile of the source table</a></li></ul>
</body></html>
"""


def write_index(paths: Paths, params: Params, decision: Decision) -> None:
    """Writes the page from the metrics and pictures that the stages left."""
    spec = load_dataset(params.dataset, paths.root)
    metrics = read_metrics(paths, "train")
    test = metrics["test"]
    loss = "rmse" if spec.task == "regression" else "log_loss"
    tiles = [
        (f"v{decision.champion}", "champion"),
        (f"{test[loss]:.4f}", loss.replace("_", " ")),
        *([(f"{test['roc_auc']:.4f}", "ROC-AUC"), (f"{test['ece']:.4f}", "calibration error")] if "roc_auc" in test else [(f"{test['r2']:.3f}", "R²")]),
        (f"{metrics['coverage']:.1%}", f"coverage of the {params.train.coverage:.0%} sets"),
    ]
    folder = paths.reports / "figures"
    pictures = [
        (name.replace("_", " "), base64.b64encode(path.read_bytes()).decode())
        for name in PICTURES
        if (path := folder / f"{name}.png").is_file()
    ]
    page = Environment(autoescape=True).from_string(PAGE)
    html = page.render(
        spec=spec,
        tiles=tiles,
        scores=scores_with_spread({"this run": test, **metrics["baselines"]}),
        pictures=pictures,
        notebooks=NOTEBOOKS.items(),
    )
    replace_file(paths.reports / "index.html", html.encode())

