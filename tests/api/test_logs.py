"""The stream of the service's own log, when it cannot be written."""

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.logs import WholeLines


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process may be larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", range(4, 13))
def test_lines_are_dropped_and_none_is_cut_however_much_room_there_was(tmp_path: Path, room: int) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    out = WholeLines(descriptor)
    out.write("one\n")
    with limited(room):
        for line in ("two\n", "three\n", "four\n"):
            out.write(line)
    with limited(room + 1):
        out.write("five\n")
    out.write("sÿx\n")
    os.close(descriptor)
    lines = (tmp_path / "log").read_text().splitlines()
    assert set(lines) <= {"one", "two", "three", "four", "five", "sÿx"}
    assert (lines[0], lines[-1], len(set(lines))) == ("one", "sÿx", len(lines))


def test_a_closed_pipe_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = WholeLines(writer)
    assert out.write("gone\n") == 5
    out.flush()
    os.close(writer)


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    out = WholeLines(descriptor)
    texts = [f"{number}" * 500 for number in range(8)]
    threads = [threading.Thread(target=lambda text=text: [out.write(text + "\n") for _ in range(50)]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(descriptor)
    assert sorted((tmp_path / "log").read_text().splitlines()) == sorted(texts * 50)
