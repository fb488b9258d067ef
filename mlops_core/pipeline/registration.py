"""From a sealed bundle on disk to a version in the registry and, if it is better, the champion."""

import numpy as np
import pandas as pd

from mlops_core.datasets import load_dataset
from mlops_core.evaluation import metric_of, score
from mlops_core.params import Params
from mlops_core.paths import Paths
from mlops_core.pipeline.verify import Finding, file_md5
from mlops_core.registry.champions import DIGEST, REASON, WITHDRAWN, find_tag, get_champion, locate_bundle, promote
from mlops_core.registry.runs import DataRecord, RunRecord, git_commit
from mlops_core.registry.store import Store, open_store
from mlops_core.registry.versions import Decision, Registration, find_version, register
from mlops_core.reports import read_metrics
from mlops_core.serve.bundle import BundleError
from mlops_core.serve.predictor import load_predictor
from mlops_core.settings import load_settings
from mlops_core.train.identity import pipeline_run_id, read_best


def data_record(paths: Paths, split: str, table: pd.DataFrame, target: str, context: str) -> DataRecord:
    """Lineage of one split: its path in the project and the digest that DVC knows it by."""
    path = paths.processed / f"{split}.parquet"
    return DataRecord(f"{paths.dataset}-{split}", paths.relative(path), file_md5(path), table.head(50), target, context)


def test_loss(store: Store, paths: Paths, version: int) -> float:
    """A version's loss on the test rows; infinite when it cannot answer them, as after a change of columns."""
    from mlops_core.preprocess import columns_of, encode_target, read_schema, read_split

    try:
        predictor = load_predictor(locate_bundle(store, paths.dataset, version), threads=0)
    except BundleError:
        return float("inf")
    table = read_split(paths.processed, "test")
    answer, problems = predictor.predict_columns(
        columns_of(table, [column.name for column in predictor.schema.columns]), len(table)
    )
    if problems or predictor.schema.classes != read_schema(paths.processed).classes:
        return float("inf")
    truth = encode_target(predictor.schema, table)
    return score(predictor.schema.task, truth, np.asarray(answer))[metric_of(predictor.schema.task)]


def _answers_alike(store: Store, name: str, version: int, other: int) -> bool:
    """Whether graph and constants are the same bytes: then only names, labels or help differ."""
    try:
        first, second = (locate_bundle(store, name, item) for item in (version, other))
    except BundleError:
        return False
    return all(file_md5(first / part) == file_md5(second / part) for part in ("model.onnx", "constants.json"))


def decide(store: Store, paths: Paths, version: int) -> Decision:
    """Promotes the first version, and a later one that beats the champion on the test rows or only has other words."""
    champion = get_champion(store, paths.dataset)
    if champion is None:
        reason = "the first version"
        promote(store, paths.dataset, version, reason)
        return Decision(version, version, True, reason)
    current = int(champion.version)
    if current == version:
        return Decision(version, version, False, champion.tags.get(REASON, "unchanged"))
    withdrawn = find_tag(store, paths.dataset, version, WITHDRAWN)
    if withdrawn:
        return Decision(version, current, False, f"version {version} was withdrawn: {withdrawn}")
    if _answers_alike(store, paths.dataset, version, current):
        reason = f"the same answers, described anew (as version {current})"
        promote(store, paths.dataset, version, reason)
        return Decision(version, version, True, reason)
    metric = metric_of(load_dataset(paths.dataset, paths.root).task).replace("_", " ")
    ours, theirs = (test_loss(store, paths, item) for item in (version, current))
    other = f"has {theirs:.5f}" if np.isfinite(theirs) else "cannot answer these rows"
    comparison = f"test {metric} {ours:.5f}, version {current} {other}"
    if not ours < theirs:
        return Decision(version, current, False, f"version {version} is not better: {comparison}")
    promote(store, paths.dataset, version, comparison)
    return Decision(version, version, True, comparison)


def register_bundle(paths: Paths, params: Params, metrics: dict[str, float], store: Store) -> int:
    """The version of the bundle on disk; made once per pipeline run, however often this is called."""
    best = read_best(paths.best_params)
    spec = load_dataset(paths.dataset, paths.root)
    file = paths.processed / "train.parquet"
    run_id = pipeline_run_id(params, [file_md5(file), file_md5(paths.processed / "schema.json")], best)
    known = find_version(store, paths.dataset, run_id)
    if known:
        return int(known.version)
    data = data_record(paths, "train", pd.read_parquet(file), spec.target, "training")
    loss = metric_of(spec.task)
    tags = {
        "data_md5": data.digest,
        "git_commit": git_commit(paths.root),
        "test_loss": f"test {loss} {metrics[loss]:.5f}",
    }
    record = RunRecord(
        "train",
        {**params.flat(), "family": best["family"], **best["settings"]},
        metrics,
        {"stage": "train", "notebook": "05_train", "pipeline_run_id": run_id},
    )
    return register(store, params.experiment, Registration(paths.dataset, paths.bundle, run_id, tags), record, data)


def ensure_registered(paths: Paths, params: Params, store: Store | None = None) -> Decision:
    """Registers and decides, with the scores that training wrote; does nothing when both are done already."""
    store = store or open_store(paths.root, load_settings())
    metrics = read_metrics(paths, "train")["test"]
    plain = {name: value for name, value in metrics.items() if not name.endswith(("_low", "_high"))}
    return decide(store, paths, register_bundle(paths, params, plain, store))


def check_champion(paths: Paths) -> list[Finding]:
    """The registered champion's files against their manifest and the digest in the registry."""
    store = open_store(paths.root, load_settings())
    champion = get_champion(store, paths.dataset)
    if champion is None:
        return []
    name = f"{paths.dataset} version {champion.version}"
    try:
        folder = locate_bundle(store, paths.dataset, int(champion.version))
        digest = load_predictor(folder).digest
    except BundleError as error:
        return [Finding(name, error.problem, "mlops run --force")]
    if digest != champion.tags.get(DIGEST):
        return [Finding(name, "is not the bundle that was registered", "mlops run --force")]
    return []
