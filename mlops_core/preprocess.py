"""Experiment 2: one table of the raw ones, split by time, with the schema that training and serving share."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_core.contracts import build_contract, find_violations
from mlops_core.datasets import ColumnSpec, DatasetSpec, FieldSpec, minutes_from_event
from mlops_core.errors import MLOpsError, RequestError
from mlops_core.evaluation import ranking
from mlops_core.features import Column, Floats, Schema, Values, encode
from mlops_core.params import Params
from mlops_core.splits import SPLITS, Split, split_at_random, split_by_group, split_by_time

AUDIT_BINS = 50
MAX_CATEGORIES = 1000
FEW_TO_CALIBRATE = 1000


class JoinError(RequestError):
    """The dataset file names a join that does not exist."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"There is no join '{name}': mlops_core/joins/{name}.py is missing.")


class TableError(MLOpsError):
    """The joined table is not what the dataset file says."""


class SuspicionError(MLOpsError):
    """A feature predicts so well alone that it may be the answer under another name."""

    def __init__(self, dataset: str, column: str, roc_auc: float) -> None:
        self.dataset, self.column, self.roc_auc = dataset, column, roc_auc
        super().__init__(
            f"Column '{column}' alone ranks the target with an AUC of {roc_auc:.3f}: is it known in time? If so, say "
            f"`trusted: true` in data/datasets/{dataset}.yaml, if not `role: ignore`. (The limit: preprocess.audit_auc)"
        )


def read_raw(spec: DatasetSpec, raw: Path) -> dict[str, pd.DataFrame]:
    """The accepted rows of every table, as experiment 1 wrote them."""
    return {name: pd.read_parquet(raw / f"{name}.parquet") for name in spec.tables()}


def load_join(name: str) -> Any:
    """The module of a join: `join` makes one table of several, `SHOWN` is what is worth reading. Raises JoinError."""
    try:
        return importlib.import_module(f"mlops_core.joins.{name}")
    except ModuleNotFoundError:
        raise JoinError(name) from None


def build_table(spec: DatasetSpec, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per prediction: the declared columns in their order. Raises JoinError, TableError."""
    table = load_join(spec.join).join(tables) if spec.join else next(iter(tables.values()))
    missing = [name for name in spec.columns if name not in table]
    if missing:
        raise TableError(f"The joined table lacks the column '{missing[0]}' that the dataset file declares.")
    table = table[list(spec.columns)]
    fields: dict[str, FieldSpec] = {name: column for name, column in spec.columns.items() if name != spec.target}
    violations = find_violations(table[list(fields)], build_contract(fields, [spec.id] if spec.id else None))
    if len(violations):
        row, reason = violations.iloc[0]
        raise TableError(
            f"The joined table breaks its contract in {len(violations):,} places, first in row {row}: {reason}."
        )
    return table


def keep_known_outcomes(spec: DatasetSpec, table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose outcome is known, sorted by time. Raises TableError when there is nothing to learn."""
    known = table[table[spec.target].notna()]
    if spec.time:
        known = known.sort_values(spec.time, kind="stable")
    if known.empty:
        raise TableError(f"The target '{spec.target}' is missing in every row.")
    if known[spec.target].nunique() < 2:
        raise TableError(
            f"The target '{spec.target}' has a single value, '{known[spec.target].iloc[0]}': nothing to learn."
        )
    return known.reset_index(drop=True)


def split_rows(spec: DatasetSpec, table: pd.DataFrame, params: Params) -> pd.Series:
    """`train`, `calibrate` or `test` for every row: by time where there is a time column. Raises TableError."""
    if spec.time:
        split = split_by_time(table[spec.time], params.preprocess)
    elif spec.group:
        split = split_by_group(table[spec.group], params.preprocess, params.seed)
    else:
        labels = table[spec.target] if spec.task != "regression" else pd.Series(0, index=table.index)
        split = split_at_random(labels, params.preprocess, params.seed)
    if empty := [name for name in SPLITS if not (split == name).any()]:
        raise TableError(
            f"No rows are left to {empty[0]}: the table has too few days, groups or rows for the splits asked for."
        )
    if spec.task != "regression":
        _check_classes(spec, table[spec.target].astype("str"), split)
    return split


def _check_classes(spec: DatasetSpec, labels: pd.Series, split: pd.Series) -> None:
    """Raises TableError for a class that no training row has: a model could never name it."""
    counts, learned = labels.value_counts(), set(labels[split == "train"])
    if unknown := [label for label in counts.index if label not in learned]:
        by = spec.time or spec.group
        raise TableError(
            f"Class '{unknown[0]}' of '{spec.target}' is in {counts[unknown[0]]:,} rows, none of which trains, as rows "
            f"are split by '{by}'. Merge it with another class, drop its rows, or give '{by}' another role in "
            f"data/datasets/{spec.name}.yaml."
        )


def columns_of(table: pd.DataFrame, names: list[str]) -> dict[str, Values]:
    """A frame as plain columns, for `encode` and `find_problems`; missing texts become None."""
    columns: dict[str, Values] = {}
    for name in names:
        if name in table:
            series = table[name]
            if pd.api.types.is_bool_dtype(series.dtype) or not (
                pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_datetime64_any_dtype(series.dtype)
            ):
                columns[name] = series.astype(object).where(series.notna(), None).to_list()
            elif pd.api.types.is_datetime64_any_dtype(series.dtype):
                columns[name] = series.to_numpy().astype("datetime64[s]")
            else:
                columns[name] = series.to_numpy(dtype="float64", na_value=np.nan)
    return columns


def encode_table(schema: Schema, table: pd.DataFrame) -> Floats:
    """The matrix that a model sees, by the same `encode` that serving calls."""
    return encode(schema, columns_of(table, [column.name for column in schema.columns]), len(table))


def encode_target(schema: Schema, table: pd.DataFrame) -> np.ndarray:
    """Class positions (int64) for classification, float64 values for regression."""
    target = table[schema.target]
    if schema.task == "regression":
        return target.to_numpy(dtype="float64")
    codes = pd.Index(schema.classes).get_indexer(target.astype("str")).astype("int64")
    if (codes < 0).any():
        raise TableError(f"The target '{schema.target}' has the unknown class '{target[codes < 0].iloc[0]}'.")
    return codes


def readable_names(spec: DatasetSpec, column: ColumnSpec, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Category to readable name, as the table says that the column's `names` points to."""
    if not column.names:
        return {}
    (key,) = spec.tables()[column.names].key
    table = tables[column.names].dropna(subset=[key, "name"])
    return dict(zip(table[key].astype("str"), table["name"].astype("str"), strict=True))


def _short(value: float, series: pd.Series) -> float:
    """As somebody would type it, where that is still a value that training has seen the like of."""
    short = float(f"{value:.4g}")
    return short if series.min() <= short <= series.max() else value


def _schema_column(name: str, column: ColumnSpec, train: pd.DataFrame, names: Mapping[str, str]) -> Column:
    series = train[name]
    text = column.type == "category"
    seen = None if text or column.type in ("datetime", "boolean") else series.astype("float64")
    common = series.mode() if text else series.dropna()
    example = None if common.empty else common.iloc[0] if text else common.sort_values().iloc[len(common) // 2]
    if isinstance(example, pd.Timestamp):
        example = example.isoformat(timespec="minutes")
    if column.type == "number" and example is not None:
        example = _short(float(example), series)
    categories = sorted(series.dropna().value_counts().index[:MAX_CATEGORIES]) if text else []
    return Column(
        name=name,
        type=column.type,
        required=not column.missing,
        categories=categories,
        names={category: names[category] for category in categories if category in names},
        low=column.range[0] if column.range else None,
        high=column.range[1] if column.range else None,
        seen_low=None if seen is None or seen.isna().all() else float(seen.min()),
        seen_high=None if seen is None or seen.isna().all() else float(seen.max()),
        derive=list(column.derive),
        formats=list(column.formats),
        unseen=column.unseen,
        label=column.label or name,
        unit=column.unit,
        help=column.help,
        example=example.item() if isinstance(example, np.generic) else example,
    )


def classes_of(spec: DatasetSpec, table: pd.DataFrame) -> list[str]:
    """The labels in order: as declared, or the sorted ones of `table`. Empty for regression."""
    if spec.task == "regression":
        return []
    return spec.classes or sorted(table[spec.target].astype("str").unique())


def build_schema(spec: DatasetSpec, train: pd.DataFrame, tables: Mapping[str, pd.DataFrame] | None = None) -> Schema:
    """What the model asks for: types from the dataset file, categories and ranges from the training rows.

    The readable names of categories come from `tables`, the raw ones.
    """
    classes = classes_of(spec, train)
    if empty := [name for name in spec.features if train[name].isna().all()]:
        raise TableError(f"Column '{empty[0]}' is missing in every training row: give it the role 'ignore'.")
    columns = [
        _schema_column(name, spec.columns[name], train, readable_names(spec, spec.columns[name], tables or {}))
        for name in spec.features
    ]
    target = spec.columns[spec.target]
    label = target.label or spec.target
    names = spec.title, spec.question, label, target.unit
    marks, limits = [*spec.source.missing_marks], [*target.range] if target.range else None
    return Schema(spec.name, spec.task, spec.target, classes, spec.id, columns, *names, marks, limits)


def _single_column_score(values: pd.Series, truth: np.ndarray) -> float:
    """How well one column alone ranks the truth: bins fitted on one half of the rows, scored on the other.

    The halves are drawn at random: rows may come in pairs.
    """
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        # Quantiles of the distinct values: those of all values put a column of zeros and ones into one bin.
        rank = values.astype("float64").rank(method="dense")
        bins = ((rank - 1) * AUDIT_BINS // rank.max()).fillna(-1).to_numpy()
    else:
        bins = pd.factorize(values)[0]
    fitted = np.random.default_rng(0).permutation(len(bins)) % 2 == 0
    means = pd.Series(truth[fitted]).groupby(bins[fitted]).mean()
    score = pd.Series(bins[~fitted]).map(means).fillna(truth[fitted].mean())
    return ranking(truth[~fitted] == 1, score.to_numpy()).area(np.ones(len(score)))


def audit_leaks(spec: DatasetSpec, table: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Every column, ignored ones included, ranked by how well it alone predicts; `suspicious` above `limit`.

    The score is a ROC-AUC: for the last of two classes, averaged over more of them (each against the rest), and in
    regression for values above the median.
    """
    target = table[spec.target]
    classes = classes_of(spec, table)
    if classes:
        events = classes[-1:] if len(classes) == 2 else classes
        truths = [(target.astype("str") == event).to_numpy(dtype=int) for event in events]
    else:
        truths = [(target > target.median()).to_numpy(dtype=int)]
    names = [name for name, column in spec.columns.items() if column.role in ("feature", "ignore")]
    audit = pd.DataFrame(
        {
            "column": names,
            "roc_auc": [np.mean([_single_column_score(table[name], truth) for truth in truths]) for name in names],
            "known_at": [spec.columns[name].known_at for name in names],
            "role": [spec.columns[name].role for name in names],
            "trusted": [spec.columns[name].trusted for name in names],
        }
    )
    horizon = minutes_from_event(spec.predict_at)
    audit["too_late"] = [minutes_from_event(moment) > horizon for moment in audit["known_at"]]
    audit["suspicious"] = (audit["roc_auc"] > limit) | (audit["too_late"] & (audit["roc_auc"] > 0.55))
    return audit.sort_values("roc_auc", ascending=False, ignore_index=True)


def require_no_leaks(spec: DatasetSpec, audit: pd.DataFrame) -> None:
    """Raises SuspicionError for a feature that the audit suspects and nobody has vouched for."""
    suspected = audit[audit["suspicious"] & (audit["role"] == "feature") & ~audit["trusted"]]
    if len(suspected):
        raise SuspicionError(spec.name, str(suspected["column"].iloc[0]), float(suspected["roc_auc"].iloc[0]))


def summarise_target(spec: DatasetSpec, rows: pd.DataFrame) -> dict[str, float]:
    """The share of the last class, or the mean of a number, under a name that says which."""
    target = rows[spec.target]
    if spec.classes:
        return {f"share {spec.classes[-1]}": round(float((target == spec.classes[-1]).mean()), 4)}
    return {f"mean {spec.target}": float(f"{target.mean():.5g}")} if spec.task == "regression" else {}


def count_splits(spec: DatasetSpec, table: pd.DataFrame, split: pd.Series, closed: Sequence[str] = ()) -> pd.DataFrame:
    """Rows, span in time and the target's share or mean in every part; not in those that are still `closed`."""
    lines = {}
    for name in SPLITS:
        part = table[split == name]
        line: dict[str, object] = {"rows": len(part)}
        if spec.time:
            line |= {"first day": str(part[spec.time].min().date()), "last day": str(part[spec.time].max().date())}
        told = summarise_target(spec, part)
        line |= dict.fromkeys(told, "closed") if name in closed else told
        lines[name] = line
    return pd.DataFrame.from_dict(lines, orient="index")


def write_splits(table: pd.DataFrame, split: pd.Series, schema: Schema, folder: Path) -> None:
    """One file per part, so that a stage that must not see the test rows cannot: it does not depend on them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        table[split == name].to_parquet(folder / f"{name}.parquet", index=False)
    text = json.dumps(schema.to_dict(), indent=1, ensure_ascii=False)
    (folder / "schema.json").write_text(text + "\n", encoding="utf-8")


def read_split(folder: Path, split: Split) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{split}.parquet")


def read_fitted(folder: Path) -> pd.DataFrame:
    """The rows that are searched and fitted: those that train. A small table can't spare those that calibrate."""
    train, calibrate = read_split(folder, "train"), read_split(folder, "calibrate")
    return train if len(calibrate) >= FEW_TO_CALIBRATE else pd.concat([train, calibrate], ignore_index=True)


def read_schema(folder: Path) -> Schema:
    return Schema.from_dict(json.loads((folder / "schema.json").read_text(encoding="utf-8")))
