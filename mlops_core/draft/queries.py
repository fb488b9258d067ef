"""What a query returns as a file of the project; apart, as SQLAlchemy is slow to import."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mlops_core.draft.tables import TakeError, Taken, read_frame


def take_query(url: str, query: str, name: str) -> Taken:
    """The rows of a query as a Parquet file. Raises TakeError; nothing of the address but its place is ever shown."""
    try:
        place = make_url(url)
        shown = place.set(password=None, query={}).render_as_string()
        engine = create_engine(place, hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError):
        raise TakeError("--sql is no address of a database, such as postgresql://user@host/name.") from None
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        raise TakeError(f"There is no database file '{place.database}'.")
    try:
        with _database_errors(shown), engine.connect() as connection:
            frame = pd.read_sql_query(text(query), connection)
            connection.rollback()  # a query only reads
    finally:
        engine.dispose()
    if frame.empty:
        raise TakeError("The query returns no rows.")
    for column in frame:
        if frame[column].map(lambda value: isinstance(value, Decimal)).any():
            frame[column] = frame[column].astype("float64")
    path = Path("data", "source", name, f"{name}.parquet")
    data = io.BytesIO()
    try:
        frame.to_parquet(data, index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise TakeError(f"What the query returns is no plain table: {str(error).splitlines()[0][:120]}.") from None
    return Taken(data.getvalue(), read_frame(data.getvalue(), path), path, f"{shown}: {' '.join(query.split())}")


@contextmanager
def _database_errors(shown: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, pd.errors.DatabaseError) as error:
        cause = error.__cause__ if isinstance(error, pd.errors.DatabaseError) else error
        reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0][:200]
        raise TakeError(f"The query on {shown} failed: {reason}.") from None
