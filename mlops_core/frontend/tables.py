"""Tables as they were given and came back: read for a look at them, never to compute anything that the API computes."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlops_core.errors import MLOpsError
from mlops_core.frontend.charts import ACCENT, Chart, Tree, bars_chart
from mlops_core.frontend.facts import Model
from mlops_core.separators import NAMES, separates

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
MAGIC = b"PAR1"
BINS = 20
FEW_ROWS = 10


class TableError(MLOpsError):
    """A file that is no table."""


@dataclass(frozen=True)
class Table:
    """All cells as text."""

    head: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        place = self.head.index(name)
        return [row[place] for row in self.rows]


def media_of(content: bytes) -> str:
    """By its content: a name can be anything."""
    return PARQUET if content.startswith(MAGIC) else CSV


def read_table(content: bytes) -> Table:
    """Raises TableError."""
    return _read_parquet(content) if media_of(content) == PARQUET else _read_csv(content)


def _read_csv(content: bytes) -> Table:
    try:
        lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError:
        raise TableError("The file is not UTF-8. Save it as CSV in UTF-8, or as Parquet.") from None
    except csv.Error as error:
        raise TableError(f"The file is not a CSV table: {error}.") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise TableError("The file holds no rows.")
    uneven = next((place for place, line in enumerate(lines, 1) if len(line) != len(lines[0])), None)
    if uneven:
        raise TableError(
            separated(lines[0]) or f"Line {uneven} has {len(lines[uneven - 1])} cells, the header {len(lines[0])}."
        )
    return Table(lines[0], lines[1:])


def _read_parquet(content: bytes) -> Table:
    import pyarrow as pa  # 40 MB that a visitor without a Parquet file need not pay for
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowInvalid, OSError):
        raise TableError("The file is damaged, or no Parquet table.") from None
    columns = [["" if value is None else _text(value) for value in column.to_pylist()] for column in found.columns]
    return Table(list(found.column_names), [list(row) for row in zip(*columns, strict=True)])


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def separated(head: Sequence[str]) -> str:
    """What is wrong with a header that seems to be separated by something else than commas; else nothing."""
    separator = separates(head[0]) if len(head) == 1 else ""
    return f"The file is separated by {NAMES[separator]} instead of commas. Save it with commas." if separator else ""


def missing_columns(model: Model, head: Sequence[str]) -> list[str]:
    """What the model needs and the table lacks."""
    return [column.name for column in model.columns if column.required and column.name not in head]


def sample_csv(model: Model) -> bytes:
    """A small table that can be given: the example, and the same with one column after the other unknown."""
    optional = [column.name for column in model.columns if not column.required and column.name in model.example]
    rows = [model.example, *({**model.example, name: None} for name in optional[:3])]
    names = [column.name for column in model.columns]
    return to_csv(Table(names, [[_cell(row.get(name)) for name in names] for row in rows]))


def to_csv(table: Table) -> bytes:
    """A blank cell that is alone in its row is quoted: an empty line would be no row."""
    text = io.StringIO()
    csv.writer(text).writerows([table.head, *table.rows])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def rejected_rows(scored: Table) -> list[tuple[int, str]]:
    """Line in the table (the first one after the header is 1) and why it has no answer."""
    return [(place, reason) for place, reason in enumerate(scored.column("reason"), 1) if reason]


def distribution_chart(model: Model, scored: Table) -> Chart:
    """How the answers are spread: rows by class, or a histogram of values."""
    if model.classes:
        counts = Counter(filter(None, scored.column("label")))
        shares = {name: float(counts[name]) for name in model.classes}
        most = max(shares, key=lambda name: shares[name])
        alt = f"Bars: most rows, {counts[most]:,} of {sum(counts.values()):,}, are '{most}'."
        chart = bars_chart(shares, "rows", alt, ("Answer", "Rows"))
        if shares[most] < FEW_ROWS:
            chart.layout["xaxis"]["dtick"] = 1  # there is no half a row
        return chart
    values = [float(text) for text in scored.column("value") if text]
    trace: Tree = {"type": "histogram", "x": values, "nbinsx": BINS, "marker": {"color": ACCENT}}
    what = f"{model.target.label} {f'({model.target.unit})' if model.target.unit else ''}".strip()
    layout = {"xaxis": {"title": {"text": what}}, "yaxis": {"title": {"text": "rows"}}, "height": 300}
    rows = (
        [
            ("lowest", f"{min(values):,.4g}"),
            ("mean", f"{sum(values) / len(values):,.4g}"),
            ("highest", f"{max(values):,.4g}"),
        ]
        if values
        else []
    )
    alt = f"Histogram of {len(values):,} answers." if values else "No row has an answer."
    return Chart([trace], layout, alt, ("Answers", "Value"), rows)
