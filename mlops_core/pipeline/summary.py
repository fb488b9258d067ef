"""What a person sees when a run is done: the champion, its numbers beside the baselines, what to do next."""

from pathlib import Path

from mlops_core.params import Params, load_params
from mlops_core.paths import Paths, find_root
from mlops_core.pipeline.verify import Finding, check_declared, read_lock, verify_files
from mlops_core.reports import read_metrics


def finish_run(root: Path, params: Params, stage: str | None) -> str:
    """Makes sure that what was trained is registered, writes `reports/index.html`, and sums up.

    A run up to a stage before the training has nothing to sum up.
    A training that DVC restored from its cache ran no notebook, so the store of this checkout may not know it.
    """
    from mlops_core.pipeline.index import write_index
    from mlops_core.pipeline.notebooks import NOTEBOOKS
    from mlops_core.pipeline.registration import ensure_registered

    stages = list(NOTEBOOKS)
    early = stage and stages.index(stage) < stages.index("train")
    if early or "train" not in read_lock(root, params.dataset):
        return f"\nDone up to {stage}; the rest: mlops run"
    paths = Paths(root, params.dataset)
    decision = ensure_registered(paths, params)
    write_index(paths, params, decision)
    return summarise(paths, params, decision.champion, decision.reason)


def summarise(paths: Paths, params: Params, champion: int, reason: str) -> str:
    """A few lines for the terminal."""
    from mlops_core.evaluation import spoken, verdict

    metrics = read_metrics(paths, "train")
    names = ["rmse", "mae", "r2"] if "rmse" in metrics["test"] else ["log_loss", "roc_auc", "brier", "ece"]
    lines = [
        f"\nChampion: {params.dataset} version {champion} ({reason})\n",
        f"  {'on the test rows':<24}" + "".join(f"{name:>10}" for name in names),
    ]
    for name, scores in {"this run": metrics["test"], **metrics["baselines"]}.items():
        lines.append(f"  {name:<24}" + "".join(f"{spoken(scores[key]):>10}" for key in names))
    lines += [
        f"  by {names[0].replace('_', ' ')} {verdict(metrics['beats'])}",
        "",
        "  look    reports/index.html, reports/model_card.md, reports/notebooks/",
        "  next    make app (the page)     make serve (the API)     make lab (JupyterLab)     mlops score IN OUT",
    ]
    return "\n".join(lines)


def verify_all() -> list[Finding]:
    """The source and what was made of it on disk, then the registered champion's copy."""
    from mlops_core.pipeline.registration import check_champion

    root = find_root()
    paths = Paths(root, load_params(root=root).dataset)
    return [*check_declared(paths), *verify_files(paths), *check_champion(paths)]
