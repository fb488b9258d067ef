"""A table from a file or an address as a file of the project, with its hash; queries lie in `queries`."""

import hashlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from mlops_core.errors import RequestError
from mlops_core.ingest import parse_csv, parse_parquet
from mlops_core.reports import replace_file
from mlops_core.separators import explain_separator, find_separator
from mlops_core.sources import MAX_BYTES, SourceError

KINDS = {".csv": "csv", ".parquet": "parquet"}
SECONDS = 30
CHUNK = 1 << 20


class TakeError(RequestError):
    """A table that cannot be had."""


@dataclass(frozen=True)
class Taken:
    """The bytes of a table, what they hold unchecked, and where they are going to lie (in the project)."""

    data: bytes
    frame: pd.DataFrame
    path: Path
    origin: str

    @property
    def kind(self) -> str:
        return KINDS[self.path.suffix]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def keep(self, root: Path) -> None:
        """Writes the file, whole or not at all, unless it is there."""
        target = root / self.path
        if target.is_file() and target.read_bytes() == self.data:
            return
        replace_file(target, self.data)


def name_of(table: str) -> str:
    """A dataset's name made of a file's: lower case letters, digits and underscores."""
    stem = Path(urlsplit(table).path).stem if "://" in table else Path(table).stem
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if re.match("[a-z]", name) else f"table_{name}".rstrip("_")


def take_file(table: str, name: str, root: Path) -> Taken:
    """A CSV or Parquet file; one that lies outside data/ is going to be copied there. Raises RequestError."""
    source = Path(table)
    suffix = _suffix_of(source.name)
    if not source.exists():
        raise TakeError(f"There is no file '{table}'.")
    if not source.is_file():
        raise TakeError(f"'{table}' is not a file.")
    if source.stat().st_size > MAX_BYTES:
        raise SourceError(source, f"is larger than {MAX_BYTES:,} bytes; split it or store it as Parquet")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise TakeError(f"'{table}' cannot be read: {error.strerror}.") from None
    place = source.resolve()
    inside = place.is_relative_to(root / "data")
    path = place.relative_to(root) if inside else Path("data", "source", name, f"{name}{suffix}")
    return Taken(data, read_frame(data, source), path, source.name)


def take_url(url: str, name: str, sha256: str) -> Taken:
    """A file behind http or https, whose hash must be the given one. Raises RequestError."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise TakeError(f"'{url}' is no address that is read from: it must start with http:// or https://.")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise TakeError("A table from an address needs --sha256, the 64 hex digits of the file's hash.")
    suffix = _suffix_of(Path(urlsplit(url).path).name)
    data = _download(url)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise TakeError(f"What '{url}' holds is not the declared file: sha256 {found[:12]}… instead of {sha256[:12]}….")
    path = Path("data", "source", name, f"{name}{suffix}")
    return Taken(data, read_frame(data, Path(Path(urlsplit(url).path).name)), path, url)


def read_frame(data: bytes, path: Path) -> pd.DataFrame:
    """Every value as it stands in the file, nothing marked as missing yet. Raises SourceError.

    `path` is where somebody has the file: what is said of it can be typed.
    """
    if path.suffix.lower() == ".parquet":
        frame = parse_parquet(path, data, None)
    elif separator := find_separator(data):
        raise SourceError(path, explain_separator(path, data, separator))
    else:
        frame = parse_csv(path, data, None, [])
    if frame.empty:
        raise SourceError(path, "holds no rows")
    return frame


def _suffix_of(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix not in KINDS:
        raise TakeError(f"'{name}' is neither .csv nor .parquet; save it as one of these.")
    return suffix


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310  http or https, as was checked
            data = bytearray()
            while chunk := answer.read(CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise TakeError(f"What '{url}' holds is larger than {MAX_BYTES:,} bytes.")
    except urllib.error.HTTPError as error:
        raise TakeError(f"'{url}' answers {error.code}.") from None
    except (OSError, ValueError) as error:
        raise TakeError(f"'{url}' cannot be read: {getattr(error, 'reason', error)}.") from None
    return bytes(data)
