"""A file's texts as serving takes them: marks for what is missing, dates as the file writes them."""

import io
import math

import pytest

from mlops_core.features import Column, Schema, check_and_encode
from mlops_core.serve.cells import read_columns
from mlops_core.serve.tables import open_table

DAY = Column("day", "datetime", False, derive=["month"], formats=["%d.%m.%Y", "%m/%d/%Y"])
AMOUNT = Column("amount", "number", False)
SCHEMA = Schema("s", "binary", "y", ["no", "yes"], None, [DAY, AMOUNT], missing_marks=["", "?", "N/A"])


@pytest.mark.parametrize(
    ("day", "amount", "months", "amounts"),
    [
        ("24.12.2013", "1.5", 12, 1.5),
        ("12/24/2013", "?", 12, None),
        ("2013-05-06T07:08", "N/A", 5, None),
        ("?", "2", None, 2.0),
    ],
)
def test_a_file_is_read_as_the_one_that_was_learned_from(day, amount, months, amounts):
    (batch,) = open_table(io.BytesIO(f"day,amount\n{day},{amount}\n".encode()), "csv").batches
    problems, matrix = check_and_encode(SCHEMA, read_columns(SCHEMA, batch), 1)
    assert problems == []
    assert [None if math.isnan(value) else value for value in matrix[0].tolist()] == [months, amounts]


def test_a_date_that_no_format_fits_is_refused():
    (batch,) = open_table(io.BytesIO(b"day,amount\n32.12.2013,1\n"), "csv").batches
    problems, _ = check_and_encode(SCHEMA, read_columns(SCHEMA, batch), 1)
    assert [problem.column for problem in problems] == ["day"]
