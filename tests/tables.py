"""Small tables, their dataset files and their models, shared by the tests."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mlops_core.datasets import DatasetSpec, FieldSpec, TableSpec, build_dataset
from mlops_core.estimators import build_estimator
from mlops_core.evaluation import reliability_table, score_slices
from mlops_core.features import Schema
from mlops_core.ingest import read_table
from mlops_core.params import Params, check_params
from mlops_core.preprocess import build_schema, encode_table, encode_target
from mlops_core.serve.predictor import Predictor, load_predictor
from mlops_core.train import final
from mlops_core.train.calibration import fit_constants
from mlops_core.train.evaluation_record import build_record
from mlops_core.train.export import export_onnx, raw_answer
from mlops_core.train.package import write_bundle

TASKS = ("binary", "multiclass", "regression")
CLASSES = {"binary": ["no", "yes"], "multiclass": ["low", "middle", "high"]}
NO_HASH = "0" * 64


def dataset_tree(task: str = "binary", **changes: Any) -> dict[str, Any]:
    """A dataset file as YAML would give it."""
    target = {"type": "number"} if task == "regression" else {"type": "category", "categories": CLASSES[task]}
    return {
        "name": "small",
        "title": "A small table",
        "question": "What comes?",
        "origin": "made up",
        "task": task,
        "target": "outcome",
        "source": {"kind": "csv", "path": "data/source/small.csv", "sha256": NO_HASH},
        "columns": {
            "ticket": {"type": "text", "role": "id"},
            "at": {"type": "datetime", "role": "time", "derive": ["minute_of_day", "day_of_week"]},
            "amount": {"type": "number", "range": [-100, 100], "missing": True, "unit": "kg"},
            "count": {"type": "integer", "range": [0, 50]},
            "kind": {"type": "category", "missing": True},
            "gate": {"type": "category", "categories": ["A", "B"], "unseen": "refuse"},
            "open": {"type": "boolean", "missing": True},
            "outcome": {"role": "target", "missing": True, **target},
            "later": {"type": "number", "role": "ignore", "missing": True, "known_at": "after"},
        },
        **changes,
    }


def tree_with_names(**changes: Any) -> dict[str, Any]:
    """The same from a folder whose table `kinds` knows what the kinds are called; `changes` are that table's."""
    tree = dataset_tree()
    tree["columns"]["kind"]["names"] = "kinds"
    plain = {name: {"type": column["type"]} for name, column in tree["columns"].items()}
    kinds = {"key": ["code"], "columns": {"code": {"type": "text"}, "name": {"type": "text"}}, **changes}
    tables = {"small": {"columns": plain}, "kinds": kinds}
    files = {name: {"file": f"{name}.csv", "sha256": NO_HASH, **table} for name, table in tables.items()}
    return {**tree, "source": {"kind": "folder", "path": "data/source", "tables": files}}


def make_spec(task: str = "binary", **changes: Any) -> DatasetSpec:
    return build_dataset("small", dataset_tree(task, **changes))


def make_table(task: str = "binary", rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Rows whose outcome depends on `amount`, `kind` and the hour; with gaps, in the order of their time."""
    random = np.random.default_rng(seed)
    minutes = np.sort(random.integers(0, 300 * 1440, rows))
    amount = random.normal(0, 20, rows).clip(-100, 100).round(3)
    kind = random.choice(["u", "v", "w"], rows)
    signal = amount / 20 + (kind == "u") + random.normal(0, 1, rows)
    if task == "regression":
        outcome: Any = signal * 10
    else:
        labels = np.array(CLASSES[task], dtype=object)
        edges = [0.3] if task == "binary" else [-0.5, 1.0]
        outcome = pd.Series(labels[np.digitize(signal, edges)], dtype="str")
    return pd.DataFrame(
        {
            "ticket": [f"t{i:05d}" for i in range(rows)],
            "at": pd.Series(pd.Timestamp("2013-01-01") + pd.to_timedelta(minutes, unit="min")).astype("datetime64[s]"),
            "amount": np.where(random.random(rows) < 0.1, np.nan, amount),
            "count": pd.array(random.integers(0, 51, rows), dtype="Int64"),
            "kind": pd.Series(kind, dtype="str").where(random.random(rows) > 0.1),
            "gate": pd.Series(random.choice(["A", "B"], rows), dtype="str"),
            "open": pd.array(random.random(rows) < 0.5, dtype="boolean"),
            "outcome": outcome,
            "later": signal,
        }
    )


def make_params(**changes: Any) -> Params:
    """`changes` replace keys of sections: `preprocess={"test_months": 0}`."""
    tree: dict[str, Any] = {
        "dataset": "small",
        "seed": 7,
        "ingest": {"max_quarantined": 0.01},
        "preprocess": {"test_months": 2, "test_share": 0.2, "calibrate_every": 5, "audit_auc": 0.85},
        "version": {"changed_rows": 10},
        "track": {"experiment": "small"},
        "tune": {"trials": 2, "seconds": 10, "workers": 1, "folds": 3, "rows": 1000, "families": ["logistic"]},
        "train": {
            "coverage": 0.9,
            "miss_cost": 3.0,
            "bins": 10,
            "bootstrap": 20,
            "parity_tolerance": 1e-5,
            "background_rows": 20,
        },
        "serve": {"rows": 20, "swaps": 1, "requests": 10},
        "package": {"build": False},
        "deploy": {"rehearse": True, "callers": 2, "answers": 10, "errors": 0.0, "ms": 500.0},
        "frontend": {"changes": 10, "pictures": False},
    }
    for section, values in changes.items():
        tree[section] = {**tree[section], **values} if isinstance(values, dict) else values
    return check_params(tree)


def make_schema(task: str = "binary") -> Schema:
    return build_schema(make_spec(task), make_table(task))


def fit(task: str, family: str = "logistic", rows: int = 400) -> tuple[Schema, Pipeline, pd.DataFrame]:
    """A model on the small table, with its schema and the rows it was fitted on."""
    table = make_table(task, rows)
    schema = build_schema(make_spec(task), table)
    settings = {"max_iter": 20} if family == "boosting" else {}
    model = build_estimator(family, schema, settings, seed=1)
    return schema, model.fit(encode_table(schema, table), encode_target(schema, table)), table


def make_bundle(task: str, folder: Path) -> Path:
    """A sealed bundle of a logistic (ridge) model of the small table."""
    schema, model, table = fit(task)
    matrix = encode_table(schema, table)
    constants = fit_constants(task, encode_target(schema, table), raw_answer(model, matrix), 0.9, 3.0)
    graph = export_onnx(model, len(schema.inputs))
    write_bundle(folder, graph, schema, constants, table, background=20, seed=1)
    return folder


@cache
def make_evaluation(task: str = "binary", rows: int = 400) -> dict[str, Any]:
    """The record of such a model's scores, beside those of the mean answer."""
    spec, (schema, model, table) = make_spec(task), fit(task, rows=rows)
    truth, answer = encode_target(schema, table), raw_answer(model, encode_table(schema, table))
    answers = {"this model": answer, "base rate": np.broadcast_to(answer.mean(axis=0), answer.shape)}
    scores = final.score_all(task, truth, answers, final.test_groups(table, spec), make_params())
    metrics = {"test": scores.pop("this model"), "baselines": scores, "stated_coverage": 0.9, "coverage": 0.91}
    nothing = pd.DataFrame(columns=["stated", "observed", "rows"])
    curve = reliability_table(truth, answer, 10) if schema.classes else nothing
    slices = score_slices(task, table[["kind", "gate", "count"]], truth, answer, 10)
    return build_record(spec, table, metrics, curve, slices, "# Model card")


def make_predictor(bundle: Path) -> Predictor:
    return load_predictor(bundle)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def table_spec(fields: dict[str, dict[str, Any]], data: bytes = b"", file: str = "t.csv", **rest: Any) -> TableSpec:
    columns = {name: FieldSpec(**field) for name, field in fields.items()}
    return TableSpec(file=file, sha256=sha256(data), columns=columns, **rest)


def read_bytes(folder: Path, data: bytes, fields: dict[str, dict[str, Any]], file: str = "t.csv") -> pd.DataFrame:
    """`data` as a source file, read as ingest reads it."""
    (folder / file).write_bytes(data)
    return read_table(folder / file, table_spec(fields, data, file), [""])
