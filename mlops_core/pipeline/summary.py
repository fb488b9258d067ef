"""What a person sees when a run is done: the champion, its numbers beside the baselines, what to do next."""

from datetime import UTC, datetime
from pathlib import Path

from mlops_core.params import Params, load_params
from mlops_core.paths import Paths, find_root
from mlops_core.pipeline.verify import Finding, verify_files
from mlops_core.reports import read_metrics
from mlops_core.serve.predictor import load_predictor
from mlops_core.settings import load_settings


def finish_run(root: Path, params: Params) -> str:
    """Makes sure that what was trained is registered, writes `reports/index.html`, and sums up.

    A training that DVC restored from its cache ran no notebook, so the store of this checkout may not know it.
    """
    from mlops_core.pipeline.index import write_index
    from mlops_core.pipeline.registration import ensure_registered

    paths = Paths(root, params.dataset)
    decision = ensure_registered(paths, params)
    write_index(paths, params, decision)
    return summarise(paths, params, decision.champion, decision.reason)


def summarise(paths: Paths, params: Params, champion: int, reason: str) -> str:
    """A few lines for the terminal."""
    metrics = read_metrics(paths, "train")
    names = ["rmse", "mae", "r2"] if "rmse" in metrics["test"] else ["log_loss", "roc_auc", "brier", "ece"]
    lines = [
        f"\nChampion: {params.dataset} version {champion} ({reason})\n",
        f"  {'on the test rows':<24}" + "".join(f"{name:>10}" for name in names),
    ]
    for name, scores in {"this run": metrics["test"], **metrics["baselines"]}.items():
        lines.append(f"  {name:<24}" + "".join(f"{scores[key]:>10.4f}" for key in names))
    lines += [
        "",
        "  look    reports/index.html, reports/model_card.md, reports/notebooks/",
        "  next    make lab   (JupyterLab)     make ui   (MLflow)     mlops score IN OUT",
    ]
    return "\n".join(lines)


def describe_models() -> str:
    """One line per version of every registered model, newest first."""
    from mlops_core.registry.champions import REASON, get_champion, list_models, list_versions
    from mlops_core.registry.store import open_store

    store = open_store(find_root(), load_settings())
    lines = []
    for name in list_models(store):
        champion = get_champion(store, name)
        for version in list_versions(store, name):
            mark = "champion" if champion and champion.version == version.version else ""
            made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
            loss = version.tags.get("test_loss", "")
            reason = version.tags.get(REASON, "")
            lines.append(f"{name:<16} {version.version:>4}  {made}  {loss:<22} {mark:<9} {reason}".rstrip())
    return "\n".join(lines) or "No model is registered yet. Train one with: mlops run"


def promote_version(model: str, version: int, reason: str) -> str:
    """Moves the champion alias by hand. Raises ModelNotFoundError, or BundleError for one that cannot be served."""
    from mlops_core.registry.champions import locate_bundle, promote
    from mlops_core.registry.store import open_store

    root = find_root()
    name, store = model or load_params(root=root).dataset, open_store(root, load_settings())
    load_predictor(locate_bundle(store, name, version))
    promote(store, name, version, reason)
    return f"Champion: {name} version {version} ({reason})"


def roll_back_champion(model: str, reason: str) -> str:
    """Gives the alias back. Raises ModelNotFoundError, NothingBeforeError."""
    from mlops_core.registry.champions import roll_back
    from mlops_core.registry.store import open_store

    root = find_root()
    name, store = model or load_params(root=root).dataset, open_store(root, load_settings())
    return f"Champion: {name} version {roll_back(store, name, reason)}"


def verify_all() -> list[Finding]:
    """Files on disk, then the registered champion's copy."""
    from mlops_core.pipeline.registration import check_champion

    root = find_root()
    paths = Paths(root, load_params(root=root).dataset)
    return [*verify_files(paths), *check_champion(paths)]
