import csv
import io

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import ROW, make_model

from mlops_core.frontend import tables

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_cells_come_out_as_they_were_written(rows):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["a", "b"])
    writer.writerows(rows)
    assert tables.read_table(text.getvalue().encode()) == tables.Table(["a", "b"], rows)


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_what_is_written_is_read_again_blank_rows_of_one_column_too(rows):
    table = tables.Table([f"c{place}" for place in range(len(rows[0]))], rows)
    assert tables.read_table(tables.to_csv(table)) == table


def test_a_parquet_table_is_known_by_its_content():
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, None], "sets": [["x", "y"], []]}), sink)
    table = tables.read_table(sink.getvalue())
    assert table == tables.Table(["a", "sets"], [["1", "x, y"], ["", ""]])
    assert tables.media_of(sink.getvalue()) == tables.PARQUET


def test_the_sample_can_be_read_and_lacks_nothing():
    model = make_model()
    table = tables.read_table(tables.sample_csv(model))
    assert tables.missing_columns(model, table.head) == []
    assert table.rows[0] == [str(value).lower() if value is True else str(value) for value in ROW.values()]
    assert [row.count("") for row in table.rows] == [0, 1, 1, 1]


def test_rejected_rows_are_counted_from_one():
    table = tables.Table(["label", "reason"], [["no", ""], ["", "count is missing"]])
    assert tables.rejected_rows(table) == [(2, "count is missing")]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_spread_of_the_answers_is_a_chart(task):
    model = make_model(task)
    answers = (
        [["1.5", ""], ["2.5", ""], ["", "wrong"]] if task == "regression" else [[model.classes[0], ""], ["", "wrong"]]
    )
    head = ["value" if task == "regression" else "label", "reason"]
    chart = tables.distribution_chart(model, tables.Table(head, answers))
    go.Figure({"data": chart.data, "layout": chart.layout})
    assert chart.alt
    assert chart.rows


def test_a_table_without_a_single_answer_still_has_a_chart():
    chart = tables.distribution_chart(make_model("regression"), tables.Table(["value", "reason"], [["", "wrong"]]))
    assert chart.alt == "No row has an answer."
