"""Experiment 1: raw tables from a declared source, hashed before they are parsed; bad rows set aside, none lost."""

import csv
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_core.contracts import build_contract, coerce, find_violations
from mlops_core.datasets import DatasetSpec, FieldSpec, TableSpec
from mlops_core.errors import MLOpsError, did_you_mean
from mlops_core.sources import SourceError, read_verified

MAX_CELLS = 500_000_000
MAX_COLUMNS = 10_000
BETWEEN_REASONS = "; "
LONGEST_REASON = 120  # as far as a message shows it: one may list all categories
# pandas would read integers with a gap as floats, and round those above 2**53.
EXACT_TYPES = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype()}


class QuarantineError(MLOpsError):
    """Too many bad rows to go on; `worst` is the reason that most of them have, with its column."""

    def __init__(self, table: str, share: float, limit: float, worst: str) -> None:
        self.table, self.share, self.limit, self.worst = table, share, limit, worst
        super().__init__(
            f"Table '{table}': {share:.1%} of the rows break the contract, "
            f"more than ingest.max_quarantined = {limit:.1%}; most often {worst}. "
            f"Look at data/quarantine/{table}.parquet, then mend the table, its contract "
            "(a text that stands for a missing value belongs into missing_marks) or the limit."
        )


class ColumnsError(SourceError):
    """A table whose columns are not those of its dataset file."""


@dataclass(frozen=True)
class Ingested:
    """One table, split: every row read is either accepted or quarantined (with a `reason` column)."""

    read: int
    accepted: pd.DataFrame
    quarantined: pd.DataFrame


def parse_csv(
    path: Path, data: bytes, fields: Mapping[str, FieldSpec] | None, missing_marks: list[str]
) -> pd.DataFrame:
    """Every value as text, exactly as it stands in the file. Raises SourceError, with the line if there is one.

    Without `fields` any columns will do, as for `parse_parquet`.
    """
    if data[:2] == b"\x1f\x8b" or data[:4] == b"PK\x03\x04":
        raise SourceError(path, "is compressed; unpack it first")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        encoding = "utf16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
        source, target = (shlex.quote(str(name)) for name in (path, path.with_stem(f"{path.stem}_utf8")))
        command = f"iconv -f {encoding} -t utf8 {source} > {target}"
        raise SourceError(path, f"line {line} is not UTF-8; convert it, for example: {command}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if not (header := next(reader, [])):
            raise SourceError(path, "holds no columns; its first line must name them")
        _check_columns(path, header, fields)
        rows = 0
        for row in reader:
            rows += bool(row)
            if row and len(row) != len(header):
                raise SourceError(path, f"line {reader.line_num} has {len(row)} values for {len(header)} columns")
    except csv.Error as error:
        raise SourceError(path, f"line {reader.line_num} cannot be parsed: {error}") from None
    frame = pd.read_csv(
        io.StringIO(text),
        dtype="str",
        keep_default_na=False,
        na_values=missing_marks,
        index_col=False,
    )
    if len(frame) != rows:
        raise SourceError(path, f"has {rows:,} rows, of which {len(frame):,} can be read; look for lines of spaces")
    return frame


def parse_parquet(path: Path, data: bytes, fields: Mapping[str, FieldSpec] | None) -> pd.DataFrame:
    """The table after a look at its footer. Raises SourceError for nested columns or more cells than fit."""
    try:
        meta = pq.read_metadata(io.BytesIO(data))
        schema = meta.schema.to_arrow_schema()
        _check_columns(path, schema.names, fields)
        nested = [field.name for field in schema if pa.types.is_nested(field.type)]
        if nested:
            raise SourceError(path, f"column '{nested[0]}' is nested; flatten it first")
        if meta.num_rows * max(meta.num_columns, 1) > MAX_CELLS:
            raise SourceError(path, f"holds {meta.num_rows:,} rows of {meta.num_columns} columns, more than fits")
        # Metadata would make an index of columns that the contract asks for.
        return pq.read_table(io.BytesIO(data)).to_pandas(ignore_metadata=True, types_mapper=EXACT_TYPES.get)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(path, f"is not a readable Parquet file: {str(error).splitlines()[0]}") from None


def mark_missing(frame: pd.DataFrame, missing_marks: list[str]) -> pd.DataFrame:
    """`frame` without the texts that stand for nothing; CSV files are parsed that way."""
    texts = [name for name in frame if frame[name].dtype in ("str", "object")]
    return frame.assign(**{name: frame[name].where(~frame[name].isin(missing_marks)) for name in texts})


def _check_columns(path: Path, found: list[str], fields: Mapping[str, FieldSpec] | None) -> None:
    if len(found) > MAX_COLUMNS:
        raise SourceError(path, f"has {len(found):,} columns, more than {MAX_COLUMNS:,}")
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise SourceError(path, f"has the column '{twice[0]}' twice; rename one")
    if not all(name.strip() for name in found):
        raise SourceError(path, "has a column without a name; name it in the first line")
    if fields is None:
        return
    extra = [name for name in found if name not in fields]
    if missing := [name for name in fields if name not in found]:
        near = did_you_mean(missing[0], extra or found)
        raise ColumnsError(path, f"lacks the column '{missing[0]}' that the dataset file declares. {near}")
    if extra:
        raise ColumnsError(path, f"has the column '{extra[0]}' that the dataset file does not declare.")


def read_table(path: Path, table: TableSpec, missing_marks: list[str]) -> pd.DataFrame:
    """One source table, unchecked but for its hash and columns. Raises SourceError."""
    data = read_verified(path, table.sha256)
    if path.suffix == ".csv":
        frame = parse_csv(path, data, table.columns, missing_marks)
    elif path.suffix == ".parquet":
        frame = mark_missing(parse_parquet(path, data, table.columns), missing_marks)
    else:
        raise SourceError(path, "is neither .csv nor .parquet")
    if frame.empty:
        raise SourceError(path, "holds no rows")
    return frame[list(table.columns)]


def enforce_contract(raw: pd.DataFrame, table: TableSpec, time: str | None = None) -> Ingested:
    """Splits `raw` into rows that keep the contract, typed, and rows that do not, as they came."""
    typed, failures = coerce(raw, table.columns)
    reasons = [failures, find_violations(typed, build_contract(table.columns, table.key))]
    if time in table.columns:
        late = (typed[time] > pd.Timestamp.now()).to_numpy().nonzero()[0]
        reasons.append(pd.DataFrame({"row": late, "reason": f"{time}: lies in the future"}))
    bad = pd.concat(reasons, ignore_index=True)
    # A value that failed to convert is missing by now: the first reason is the true one.
    bad = bad.assign(column=bad["reason"].str.split(":").str[0]).drop_duplicates(["row", "column"])
    reason = bad.groupby("row")["reason"].agg(BETWEEN_REASONS.join)
    quarantined = raw.iloc[reason.index].assign(reason=reason.to_numpy())
    accepted = typed.drop(index=typed.index[reason.index]).reset_index(drop=True)
    return Ingested(len(raw), accepted, quarantined)


def ingest_source(spec: DatasetSpec, root: Path) -> dict[str, Ingested]:
    """Every table of the declared source. Raises SourceError for a file that cannot be taken."""
    folder = root / spec.folder()
    try:
        return {
            name: enforce_contract(read_table(folder / table.file, table, spec.source.missing_marks), table, spec.time)
            for name, table in spec.tables().items()
        }
    except ColumnsError as error:
        again = "" if spec.source.kind == "folder" else ", or run mlops init again"  # which knows single tables only
        raise ColumnsError(error.path, f"{error.problem} Mend it in data/datasets/{spec.name}.yaml{again}") from None


def check_quarantined(tables: Mapping[str, Ingested], limit: float) -> None:
    """Raises QuarantineError when a table lost too much, or any row twice."""
    for name, table in tables.items():
        if len(table.accepted) + len(table.quarantined) != table.read:
            raise MLOpsError(f"Table '{name}': rows read are not rows accepted plus rows quarantined.")
        share = len(table.quarantined) / table.read
        if share > limit:
            raise QuarantineError(name, share, limit, worst_reason(table.quarantined["reason"]))


def worst_reason(reasons: pd.Series) -> str:
    """The most frequent one of reasons that stand side by side, and in how many rows."""
    counts = reasons.str.split(BETWEEN_REASONS).explode().value_counts(sort=False)
    reason, rows = " ".join(counts.idxmax().split()), int(counts.max())
    shown = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
    return f"{shown} ({rows:,} row{'s' * (rows > 1)})"


def count_rows(tables: Mapping[str, Ingested]) -> pd.DataFrame:
    """One line per table: rows read = accepted + quarantined."""
    rows = {name: (table.read, len(table.accepted), len(table.quarantined)) for name, table in tables.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["read", "accepted", "quarantined"])


def write_tables(tables: Mapping[str, Ingested], raw: Path) -> None:
    """Accepted rows by table."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.accepted.to_parquet(raw / f"{name}.parquet", index=False)


def write_quarantine(tables: Mapping[str, Ingested], quarantine: Path) -> None:
    """A file for each table, empty ones included; before `check_quarantined`, which sends people there."""
    quarantine.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.quarantined.to_parquet(quarantine / f"{name}.parquet", index=False)
