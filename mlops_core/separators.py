"""CSV files that are not separated by commas: recognised by their first lines, with the command that converts them."""

import csv
import io
import json
import re
import shlex
from itertools import islice
from pathlib import Path

NAMES = {";": "';'", "\t": "tabs", "|": "'|'"}
FIRST = 10  # rows that tell the separator
LOOKED_AT = 200  # rows in which a decimal comma would be seen
DECIMAL_COMMA = r"^([+-]?\d*),(\d+)$"


def find_separator(data: bytes) -> str:
    """What separates the values of a table that is none with commas, or nothing."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""  # to be converted first, which is said by who parses it
    if _fits(_first_rows(text, ",")):
        return ""
    return next((other for other in NAMES if _fits(_first_rows(text, other))), "")


def separates(header: str) -> str:
    """What seems to separate the names in a header that is a single one, or nothing."""
    return next((other for other in NAMES if other in header), "")


def explain_separator(path: Path, data: bytes, separator: str) -> str:
    """What is wrong with the file, and a command that writes it anew, with commas, beside itself."""
    cells = (cell for row in _first_rows(data.decode("utf-8-sig"), separator) for cell in row)
    decimal = any(re.match(DECIMAL_COMMA, cell) for cell in cells)
    # Every value stays text: read as numbers, a code such as 007 would lose its zeros.
    mend = rf'.replace(r"{DECIMAL_COMMA}", r"\1.\2", regex=True)' if decimal else ""
    source, target, sign = (
        json.dumps(str(part), ensure_ascii=False) for part in (path, path.with_stem(f"{path.stem}_comma"), separator)
    )
    code = (
        f"import pandas; pandas.read_csv({source}, sep={sign}, dtype=str, keep_default_na=False)"
        f"{mend}.to_csv({target}, index=False)"
    )
    commas = " and has decimal commas" if decimal else ""
    return f"is separated by {NAMES[separator]} instead of commas{commas}; convert it: python -c {shlex.quote(code)}"


def _first_rows(text: str, separator: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [row for row in islice(reader, LOOKED_AT) if row]
    except csv.Error:
        return []


def _fits(rows: list[list[str]]) -> bool:
    """Several columns, and in each row a value for each: what a table looks like with the right separator."""
    return bool(rows) and len(rows[0]) > 1 and len({len(row) for row in rows[:FIRST]}) == 1
