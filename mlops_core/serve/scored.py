"""A scored table as bytes, to be sent while it is scored: every row in its place, with an answer or why not."""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops_core.serve.batch import Chunk, Output, answered_columns, score_batch
from mlops_core.serve.predictor import Predictor

ID, REASON = "prediction_id", "reason"


class _Pieces(io.RawIOBase):
    """A file that forgets what was taken from it."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data, self._held = b"".join(self._held), []
        return data


class ScoredTable:
    """Chunk by chunk: `score` the next one, keep it, `render` it; `finish` in the end."""

    def __init__(self, predictor: Predictor, unpacked: BinaryIO, kind: str) -> None:
        self.predictor = predictor
        self._batches = iter(pa.ipc.open_stream(unpacked))
        self._sink = _Pieces()
        self._output = Output(self._sink, kind)

    def score(self) -> Chunk | None:
        """None when there is none left."""
        batch = next(self._batches, None)
        return None if batch is None else score_batch(self.predictor, batch)

    def render(self, chunk: Chunk, batch: str) -> bytes:
        """The chunk's rows; `batch` and the number of an answered row make the id that its outcome is told with."""
        answers = answered_columns(self.predictor, chunk)
        answers = {ID: pa.array([f"{batch}-{row}" for row in range(len(chunk.good))], type=pa.string()), **answers}
        columns = _in_place(answers, chunk.good, chunk.batch.num_rows)
        name = self.predictor.schema.id
        if name and name in chunk.batch.schema.names:
            columns = {ID: columns.pop(ID), name: chunk.batch.column(name), **columns}
        columns[REASON] = pa.array([chunk.reasons.get(row) for row in range(chunk.batch.num_rows)], type=pa.string())
        self._output.write(pa.RecordBatch.from_pydict(columns))
        return self._sink.take()

    def finish(self) -> bytes:
        """What a file ends with."""
        self._output.close()
        return self._sink.take()


def _in_place(columns: Mapping[str, pa.Array], good: npt.NDArray[np.int64], rows: int) -> dict[str, pa.Array]:
    places = np.full(rows, -1)
    places[good] = np.arange(len(good))
    indices = pa.array(places, mask=places < 0)
    return {name: array.take(indices) for name, array in columns.items()}
