"""Tables that callers send: received into files without a name, unpacked by a process of limited memory.

A file without a name is gone when it is closed, and the kernel closes it however this process ends: nothing is left to
be cleaned up, after `kill -9` neither.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.admission import busy
from api.forms import FormFile
from api.problems import ProblemError
from mlops_core.features import Schema

CSV_MEDIA, PARQUET_MEDIA, FORM_MEDIA = "text/csv", "application/vnd.apache.parquet", "multipart/form-data"
KINDS = {CSV_MEDIA: "csv", PARQUET_MEDIA: "parquet"}
MEDIA = {kind: media for media, kind in KINDS.items()}
PIECE_BYTES = 1 << 20
EXPANSION = 8  # times its own size: what a file may unpack to
MEMORY_BYTES = 512 << 20
CPU_SECONDS = 10
# Secrets are none of the reader's business. What follows keeps its memory for the file.
INHERITED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}

log = structlog.get_logger("api.uploads")


class Uploads:
    """At most `at_once` files at work, of which one is being unpacked."""

    def __init__(self, folder: Path, at_once: int, max_bytes: int, max_rows: int, seconds: float) -> None:
        self.folder, self.at_once, self.seconds = folder, at_once, seconds
        self.limits = {"max_bytes": EXPANSION * max_bytes, "max_rows": max_rows}
        self.taken = 0
        self._turn = asyncio.Semaphore()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Room for one file for the time of the block. Raises ProblemError 503 when there is none."""
        if self.taken >= self.at_once:
            raise busy("Too many files are at work. Try again.")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def open(self) -> BinaryIO:
        """A new file that has no name."""
        with no_room():
            return tempfile.TemporaryFile(dir=self.folder)

    async def unpack(self, upload: BinaryIO, unpacked: BinaryIO, kind: str, schema: Schema) -> None:
        """Checks the whole upload and leaves its rows in `unpacked`. Raises ProblemError 413, 422, or 503."""
        upload.seek(0)  # the reader shares the position
        names = {column.name for column in schema.columns} | ({schema.id} if schema.id else set())
        order = {
            "upload": upload.fileno(),
            "unpacked": unpacked.fileno(),
            "kind": kind,
            "columns": sorted(names),
            "required": [column.name for column in schema.columns if column.required],
            "memory_bytes": MEMORY_BYTES,
            "cpu_seconds": CPU_SECONDS,
            **self.limits,
        }
        try:
            async with asyncio.timeout(self.seconds), self._turn:
                reply = await _ask_reader(order)
        except TimeoutError:
            raise busy("Reading this file took too long.") from None
        unpacked.seek(0)
        if reply.get("error"):
            log.warning("upload not readable", error=reply["error"])
        if problem := reply["problem"]:
            raise ProblemError(413 if reply["too_large"] else 422, f"The file {problem}.")


async def _ask_reader(order: dict[str, Any]) -> dict[str, Any]:
    """What `mlops_core.serve.unpack` replies; a signal that ended it is the file's doing."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mlops_core.serve.unpack",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(order["upload"], order["unpacked"]),
        env=kept | FRUGAL,
        start_new_session=True,  # a Ctrl-C is for the server
    )
    try:
        out, complaint = await process.communicate(json.dumps(order).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        reply: dict[str, Any] = json.loads(out)
        return reply
    if process.returncode and process.returncode > 0:
        raise RuntimeError(f"the reader of uploads does not work: {complaint[-500:].decode(errors='replace')}")
    return {"problem": "cannot be read within the memory and time that are allowed", "too_large": True}


async def receive_table(request: Request, file: BinaryIO) -> str:
    """Writes the upload into `file`, and says of what kind it is. Raises ProblemError 400, 415, 422 or 503."""
    given, options = parse_options_header(request.headers.get("content-type", ""))
    media, charset = given.decode("latin-1"), options.get(b"charset", b"utf-8").lower()
    if media == FORM_MEDIA and options.get(b"boundary"):
        form = FormFile(options[b"boundary"], file)
        await _receive(request, form.feed)
        return form.finish()
    if media not in KINDS or charset not in (b"utf-8", b"utf8"):
        raise ProblemError(415, f"Send the file as {CSV_MEDIA} in UTF-8, {PARQUET_MEDIA}, or in {FORM_MEDIA}.")
    await _receive(request, file.write)
    return KINDS[media]


async def _receive(request: Request, take: Callable[[bytes], Any]) -> None:
    """Hands over the body by megabytes, in threads: a disk may be slow."""
    held = bytearray()
    with no_room():
        async for piece in request.stream():
            held += piece
            if len(held) >= PIECE_BYTES:
                await run_in_threadpool(take, bytes(held))
                held.clear()
        await run_in_threadpool(take, bytes(held))


@contextmanager
def no_room() -> Iterator[None]:
    """A disk that is full is nothing that the caller did."""
    try:
        yield
    except OSError as error:
        log.error("upload not kept", reason=str(error))
        raise busy("There is no room for the file now. Try again later.") from None
