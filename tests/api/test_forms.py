"""The one file of a multipart form, however the form is cut, padded or broken."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.forms import FormFile
from api.problems import ProblemError

BOUNDARY = b"edge"


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="t.csv"', more: str = "") -> bytes:
    return b"--edge\r\nContent-Disposition: %b\r\n%b\r\n" % (disposition.encode(), more.encode()) + content + b"\r\n"


def read(body: bytes, *cuts: int) -> tuple[str, bytes]:
    """Kind and content, of a body that comes in pieces."""
    file, start = io.BytesIO(), 0
    form = FormFile(BOUNDARY, file)
    for cut in (*sorted(cuts), len(body)):
        form.feed(body[start:cut])
        start = cut
    return form.finish(), file.getvalue()


END = b"--edge--\r\n"


@given(st.binary(max_size=200), st.lists(st.integers(0, 320), max_size=4))
def test_the_content_is_the_same_however_it_comes(content: bytes, cuts: list[int]) -> None:
    if b"--edge" not in content:
        body = part(content) + END
        assert read(body, *(min(cut, len(body)) for cut in cuts)) == ("csv", content)


def test_a_content_that_looks_like_the_boundary_is_content() -> None:
    content = b"--edg\r\n--edgx\r\n\r\n--\r\n-"
    for cut in range(len(content) + 70):
        assert read(part(content) + END, cut) == ("csv", content)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("t.csv", "csv"),
        ("T.CSV", "csv"),
        ("a b.parquet", "parquet"),
        ("C:\\data\\t.csv", "csv"),
        ("t.csv.parquet", "parquet"),
    ],
)
def test_the_name_tells_the_kind(name: str, kind: str) -> None:
    assert read(part(b"x", f'form-data; name="file"; filename="{name}"') + END) == (kind, b"x")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"a,b\n1,2\n", 400),
        (END, 422),
        (part(b"x"), 400),
        (part(b"x")[:-2], 400),
        (part(b"x") + b"--edge", 400),
        (b"--other\r\n\r\nx\r\n--other--\r\n", 400),
        (part(b"x", more="X: " + "y" * 5000 + "\r\n") + END, 400),
        (part(b"x", more="X: y\r\n" * 20) + END, 400),
        (part(b"x", more="no header\r\n") + END, 400),
        (part(b"x") + part(b"y") + END, 422),
        (part(b"x") + part(b"y", 'form-data; name="more"') + END, 422),
        (part(b"x", 'form-data; name="table"; filename="t.csv"') + END, 422),
        (part(b"x", "form-data") + END, 422),
        (b"--edge\r\n\r\nx\r\n" + END, 422),
        (part(b"x", 'form-data; name="file"') + END, 415),
        (part(b"x", 'form-data; name="file"; filename="t.txt"') + END, 415),
        (part(b"x", 'form-data; name="file"; filename="csv"') + END, 415),
        (part(b"x", "form-data; name=\"file\"; filename*=UTF-8''t.csv") + END, 415),
    ],
)
def test_another_form_is_refused(body: bytes, status: int) -> None:
    for cuts in ([], range(len(body))):
        with pytest.raises(ProblemError) as caught:
            read(body, *cuts)
        assert caught.value.status_code == status


def test_a_boundary_without_measure_is_refused() -> None:
    with pytest.raises(ProblemError) as caught:
        FormFile(b"x" * 1000, io.BytesIO())
    assert caught.value.status_code == 400
