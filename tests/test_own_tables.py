"""Unlike tables, from `mlops init` to a bundle that answers, by the notebooks' functions; no edit between."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mlops_core.datasets import DatasetSpec, load_dataset
from mlops_core.draft.command import Wish, init_table
from mlops_core.errors import RequestError
from mlops_core.evaluation import large_slices, metric_of, score, score_slices
from mlops_core.figures import slice_figure, target_by_split
from mlops_core.ingest import ingest_source, write_tables
from mlops_core.params import Params, load_params
from mlops_core.paths import Paths
from mlops_core.preprocess import (
    audit_leaks,
    build_schema,
    build_table,
    columns_of,
    encode_table,
    encode_target,
    keep_known_outcomes,
    read_raw,
    split_rows,
)
from mlops_core.serve.predictor import Predictor, load_predictor
from mlops_core.track import run_baselines
from mlops_core.train import calibration, export, final, package
from mlops_core.tune.objective import build_folds, count_folds, first_settings

CHECKOUT = Path(__file__).parents[1]
CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}


def tiny(random: np.random.Generator) -> pd.DataFrame:
    """100 rows, a number to be told."""
    size = random.normal(100, 20, 100)
    return pd.DataFrame({"size": size.round(1), "kind": random.choice(["u", "v"], 100), "y": (size * 3).round(1)})


def wide(random: np.random.Generator) -> pd.DataFrame:
    """500 columns, most of them noise."""
    values = random.normal(size=(400, 500)).round(3)
    label = np.where(values[:, 0] + values[:, 1] + random.normal(0, 0.5, 400) > 0, "yes", "no")
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(500)]).assign(y=label)


def rare(random: np.random.Generator) -> pd.DataFrame:
    """One row in a hundred is the event."""
    value = random.normal(size=4000)
    label = np.where(value + random.normal(0, 0.3, 4000) > np.quantile(value, 0.99), "1", "0")
    return pd.DataFrame({"value": value.round(4), "other": random.normal(size=4000).round(3), "y": label})


def many_categories(random: np.random.Generator) -> pd.DataFrame:
    """A category of 10,000 values, so that the test rows hold unseen ones; three classes; a group."""
    shop = random.integers(0, 10_000, 24_000)
    label = np.array(["a", "b", "c"])[(shop % 3 + (random.random(24_000) < 0.1)) % 3]
    return pd.DataFrame(
        {
            "shop": [f"s{i:05d}" for i in shop],
            "region": random.choice(["n", "s"], 24_000),
            "visitor": random.integers(0, 500, 24_000),
            "spent": random.normal(size=24_000).round(3) + (label == "a"),
            "y": label,
        }
    )


def messy(random: np.random.Generator) -> pd.DataFrame:
    """A column that is all missing, words for booleans, marks for gaps, dates as people write them, ids, free text."""
    rows = 600
    days = pd.Series(pd.date_range("2019-01-01", periods=rows, freq="D"))
    paid = random.choice(["Yes", "No"], rows)
    amount = random.normal(50, 10, rows).round(2)
    label = np.where((paid == "Yes") & (amount + random.normal(0, 10, rows) > 50), "yes", "no")
    return pd.DataFrame(
        {
            "order_id": [f"{i:06d}" for i in range(rows)],
            "day": np.where(random.random(rows) < 0.5, days.dt.strftime("%d.%m.%Y"), days.dt.strftime("%Y-%m-%d")),
            "paid": paid,
            "amount": np.where(random.random(rows) < 0.1, "N/A", amount.astype(str)),
            "empty": "",
            "same": "x",
            "note": [f"a remark about order {i} that nobody will ever read again" for i in range(rows)],
            "y": label,
        }
    )


@dataclass(frozen=True)
class Series:
    """What came of a table."""

    spec: DatasetSpec
    params: Params
    predictor: Predictor
    test: pd.DataFrame
    truth: npt.NDArray[np.generic]
    scores: dict[str, float]
    base: dict[str, float]


def run_series(root: Path, frame: pd.DataFrame, **wish: str) -> Series:
    """Experiments 1, 2, 4, 6 (its folds) and 5, without what draws, writes reports or registers."""
    (root / "params.yaml").write_bytes((CHECKOUT / "params.yaml").read_bytes())
    frame.to_csv(root / "own.csv", index=False)
    init_table(root, Wish(str(root / "own.csv"), "y", **wish))
    params, spec, paths = load_params({"dataset": "own"}, root), load_dataset("own", root), Paths(root, "own")
    tables = ingest_source(spec, root)
    assert sum(len(item.quarantined) for item in tables.values()) == 0
    write_tables(tables, paths.raw)
    known = keep_known_outcomes(spec, build_table(spec, read_raw(spec, paths.raw)))
    split = split_rows(spec, known, params)
    target_by_split(known[spec.target], split)
    train, held_out, test = (known[split == part].reset_index(drop=True) for part in ("train", "calibrate", "test"))
    audit = audit_leaks(spec, train, params.preprocess.audit_auc)
    assert not (audit["suspicious"] & (audit["role"] == "feature") & ~audit["trusted"]).any()
    schema = build_schema(spec, train)
    base = run_baselines(spec, schema, train, params.tune.folds, params.train.bins, params.seed)["base rate"].scores
    assert len(build_folds(params, schema, train, spec)) == count_folds(params, spec, len(train))
    matrix, target = encode_table(schema, train), encode_target(schema, train)
    best = {"family": "boosting", "settings": first_settings("boosting", len(train))}
    model = final.fit_final(schema, best, matrix, target, params.seed)
    graph = export.export_onnx(model, matrix.shape[1])
    raw = export.raw_answer(model, encode_table(schema, held_out))
    constants = calibration.fit_constants(schema.task, encode_target(schema, held_out), raw, 0.9, 3.0)
    package.write_bundle(paths.bundle, graph, schema, constants, held_out, 20, params.seed)
    predictor = load_predictor(paths.bundle)
    answer, problems = predictor.predict_columns(columns_of(test, [item.name for item in schema.columns]), len(test))
    assert problems == []
    truth = encode_target(schema, test)
    slices = score_slices(
        schema.task, final.slices_of(spec, test, dict.fromkeys(spec.features, 1.0)), truth, answer, 10
    )
    slice_figure(large_slices(slices, len(test)), metric_of(schema.task), 0.0)
    return Series(spec, params, predictor, test, truth, score(schema.task, truth, answer), base)


MAKERS: dict[str, tuple[Callable[[np.random.Generator], pd.DataFrame], str, dict[str, str]]] = {
    "tiny": (tiny, "regression", {}),
    "wide": (wide, "binary", {}),
    "rare": (rare, "binary", {}),
    "many categories": (many_categories, "multiclass", {"group": "visitor"}),
    "messy": (messy, "binary", {}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_unlike_table_becomes_a_model_that_beats_the_base_rate(name, tmp_path):
    make, task, wish = MAKERS[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        done = run_series(tmp_path, make(np.random.default_rng(1)), **wish)
    assert done.spec.task == task
    metric = metric_of(task)
    assert done.scores[metric] < done.base[metric]


def test_of_a_messy_table_each_column_has_its_place(tmp_path):
    spec = run_series(tmp_path, messy(np.random.default_rng(1))).spec
    roles = {name: column.role for name, column in spec.columns.items()}
    assert roles == {
        "order_id": "id",
        "day": "time",
        "paid": "feature",
        "amount": "feature",
        "empty": "ignore",
        "same": "ignore",
        "note": "ignore",
        "y": "target",
    }
    assert spec.columns["paid"].type == "boolean"


def test_a_group_never_lies_on_both_sides(tmp_path):
    done = run_series(tmp_path, many_categories(np.random.default_rng(1)).head(6000), group="visitor")
    raw = pd.read_parquet(Paths(tmp_path, "own").raw / "own.parquet")
    assert 0 < done.test["visitor"].nunique() < raw["visitor"].nunique()
    split = split_rows(done.spec, keep_known_outcomes(done.spec, raw), done.params)
    assert not set(raw["visitor"][split == "train"]) & set(raw["visitor"][split == "test"])


def test_a_table_of_nothing_but_ids_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "params.yaml").write_bytes((CHECKOUT / "params.yaml").read_bytes())
    pd.DataFrame({"id": range(100), "y": ["a", "b"] * 50}).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(RequestError, match="No column is left to predict from"):
        init_table(tmp_path, Wish(str(tmp_path / "own.csv"), "y"))
