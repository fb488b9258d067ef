"""Source files: there, plain, of a sane size, and the declared ones; checked without a table library, so at once."""

import hashlib
from pathlib import Path

from mlops_core.datasets import DatasetSpec
from mlops_core.errors import RequestError

MAX_BYTES = 2**31


class SourceError(RequestError):
    """A source file that cannot be taken as it is."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path.name}: {problem}")


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of `path`, whose hash is the declared one.

    What is hashed is what is parsed: a file that changes meanwhile cannot slip through.
    Raises SourceError for a file that is missing, too large, no plain file, or not the declared one.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SourceError(path, "is not a plain file; copy the table itself there")
    if not path.exists():
        raise SourceError(
            path, f"is missing from {path.parent.name}/; restore it with: git checkout data/source, or mlops init again"
        )
    if path.stat().st_size > MAX_BYTES:
        raise SourceError(path, f"is larger than {MAX_BYTES:,} bytes; split it or store it as Parquet")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SourceError(
            path,
            f"is not the declared file: its sha256 is {found}, not {sha256[:12]}…. "
            "Restore it, or take it as it is now: declare that hash, or run mlops init again",
        )
    return data


def check_sources(spec: DatasetSpec, root: Path) -> None:
    """Raises SourceError unless every source file is there and is the declared one."""
    for table in spec.tables().values():
        read_verified(root / spec.folder() / table.file, table.sha256)
