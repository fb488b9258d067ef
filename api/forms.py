"""One file in a `multipart/form-data` body, as a browser or `curl -F file=@…` sends it; written while it comes."""

from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems import FieldError, ProblemError

FIELD = "file"
KINDS = {b".csv": "csv", b".parquet": "parquet"}


def _not_one() -> ProblemError:
    return ProblemError(422, "The form must hold one file.", [FieldError(f"/{FIELD}", "must be the only part")])


class FormFile:
    """Feed it the body; it writes the content of the one part `file`, and refuses any other."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self._file = file
        self._parts = 0
        self._field = self._name = self._header = self._value = b""
        self._complete = False
        self._parser = self._new_parser(boundary)

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        callbacks = {
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_part,
            "on_part_data": self._on_data,
            "on_end": self._on_end,
        }
        try:
            return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise ProblemError(400, "The form's boundary is too long.") from None

    def feed(self, data: bytes) -> None:
        """Raises ProblemError 400, 422, or OSError."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise ProblemError(400, "The body is not the form that its header announces.") from None

    def finish(self) -> str:
        """The kind of file, by its name. Raises ProblemError 400, 415, 422."""
        if not self._complete:
            raise ProblemError(400, "The form ends before its last boundary.")
        if not self._parts:
            raise _not_one()
        for suffix, kind in KINDS.items():
            if self._name.lower().endswith(suffix):
                return kind
        raise ProblemError(415, "The name of the file must end in .csv or .parquet.")

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._field, self._name = options.get(b"name", b""), options.get(b"filename", b"")
        self._header = self._value = b""

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > 1 or self._field != FIELD.encode():
            raise _not_one()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._file.write(data[start:end])

    def _on_end(self) -> None:
        self._complete = True
