"""Predictions for a file: checked as a whole, then answered while it is scored, a few thousand rows at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.admission import busy
from api.callers import Caller
from api.dependencies import PredictCaller, ServedDep, State, StateDep
from api.entries import Answered, new_batch
from api.prediction_log import LogFullError
from api.problems import ProblemError
from api.serving import Served
from api.uploads import MEDIA, Uploads, receive_table
from mlops_core.errors import MLOpsError

if TYPE_CHECKING:
    from mlops_core.serve.batch import Chunk
    from mlops_core.serve.scored import ScoredTable

T = TypeVar("T")
PATH = "/v1/predict/file"
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 0.05

router = APIRouter(tags=["predict"])

log = structlog.get_logger("api")


@dataclass(frozen=True)
class FileWork:
    """One file that is being answered; all of it by the version that was served when it came."""

    request: Request
    state: State
    caller: Caller
    served: Served
    kind: str

    async def pieces(self, unpacked: BinaryIO) -> AsyncGenerator[bytes, None]:
        """The answer, piece by piece. Raises ProblemError or LogFullError, perhaps in the middle."""
        scored = await self._turn(self._open, unpacked)
        while piece := await self._turn(self._answer_next, scored):
            yield piece
        yield await self._turn(scored.finish)

    async def _turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """One step in the queue of the predictions. A file is in no hurry, so single ones come first.

        It waits while the queue has no place, or the log much to do, and gives up after PATIENCE_SECONDS.
        """
        admission, clock = self.state.admission, asyncio.get_running_loop().time
        deadline = clock() + PATIENCE_SECONDS
        while (admission.full or self.state.log.crowded) and clock() < deadline:
            if await self.request.is_disconnected():
                raise busy("The client has gone.")
            await asyncio.sleep(PAUSE_SECONDS)
        if self.state.log.crowded:
            raise LogFullError
        with admission.place():
            return await admission.run(self.request, work, *arguments)

    def _open(self, unpacked: BinaryIO) -> "ScoredTable":
        from mlops_core.serve.scored import ScoredTable  # pyarrow is for those who send files

        return ScoredTable(self.served.predictor, unpacked, self.kind)

    def _answer_next(self, scored: "ScoredTable") -> bytes:
        """The next rows, which are in the log now; nothing when there are none left. Raises LogFullError."""
        chunk = scored.score()
        if chunk is None:
            return b""
        batch = new_batch()
        if len(chunk.good):
            self._keep(batch, chunk)
        return scored.render(chunk, batch)

    def _keep(self, batch: str, chunk: "Chunk") -> None:
        served, schema = self.served, self.served.predictor.schema
        labels = None
        if schema.task != "regression":
            labels = [schema.classes[place] for place in served.predictor.labels(chunk.answer)]
        who = self.caller.user.id
        self.state.log.append(
            Answered(batch, who, served.name, served.version, "file", chunk.columns, chunk.answer, labels)
        )
        self.state.metrics.count_rows(served, chunk.answer, labels)


class FileAnswer(StreamingResponse):
    """Sends the pieces as they come. One that fails ends the connection before the answer is complete.

    So nobody takes a part for the whole: HTTP/1.1's last chunk is missing, and a client reports a broken transfer.
    """

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], held: ExitStack, work: FileWork) -> None:
        headers = {
            "Content-Disposition": f'attachment; filename="answers.{work.kind}"',
            "X-Model": f"models:/{quote(work.served.name)}/{work.served.version}",
        }
        super().__init__(rest, headers=headers, media_type=MEDIA[work.kind])
        self.first, self.rest, self.held = first, rest, held
        self.seconds_left = work.state.settings.file_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        with self.held:
            async with aclosing(self.rest) as rest:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                try:
                    await self._send(send, self.first)
                    async for piece in rest:
                        await self._send(send, piece)
                    await send({"type": "http.response.body", "body": b""})
                except (MLOpsError, ProblemError, TimeoutError) as error:
                    reason = error.detail if isinstance(error, ProblemError) else str(error) or "read too slowly"
                    log.warning("file cut", request_id=scope["state"].get("request_id", "-"), reason=reason)

    async def _send(self, send: Send, piece: bytes) -> None:
        """Raises TimeoutError for a client that takes longer over all pieces than it may: others wait for its place."""
        clock = asyncio.get_running_loop().time
        started = clock()
        async with asyncio.timeout(self.seconds_left):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self.seconds_left -= clock() - started


@router.post(PATH)
async def predict_file(request: Request, caller: PredictCaller, state: StateDep, served: ServedDep) -> Response:
    """The answers to a CSV or Parquet file, in the same format: a row for each of its rows, in its order.

    The whole upload is read before anything is said, so what is wrong with the file is one problem. What is wrong with
    a row stands in its `reason`, and the others are answered. Every row that leaves is in the prediction log: when that
    has no room, the file waits; when it stays full, the answer is 503, or is cut once it has begun (see FileAnswer).
    What came before the cut is kept and valid; the file may be sent again.
    """
    uploads: Uploads = request.app.state.uploads
    with ExitStack() as stack:
        stack.enter_context(uploads.place())
        upload, unpacked = (stack.enter_context(uploads.open()) for _ in range(2))
        kind = await receive_table(request, upload)
        await uploads.unpack(upload, unpacked, kind, served.predictor.schema)
        upload.close()
        work = FileWork(request, state, caller, served, kind)
        pieces = work.pieces(unpacked)
        first = await anext(pieces)
        return FileAnswer(first, pieces, stack.pop_all(), work)
