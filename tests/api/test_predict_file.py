"""Files get the answers that single rows get; bad ones get one problem; and nothing of either stays behind."""

import asyncio
import contextlib
import csv
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pwdlib import PasswordHash
from pydantic import SecretStr
from server import FORM, PASSWORD, Running, Wire, running, serving, wire_request
from service import CHEAP, Folder, Service, problem, starting
from tables import make_table

from api import passwords, uploads
from api.accounts import create_user
from api.app import create_app
from api.outcomes import read_prediction
from api.prediction_log import LogFullError, PredictionLog
from api.routes import predict_file
from api.serving import ModelSlot
from api.settings import ApiSettings
from api.uploads import CSV_MEDIA, FORM_MEDIA, PARQUET_MEDIA
from mlops_core.database import open_engine
from mlops_core.serve.batch import UNUSUAL, score_file
from mlops_core.serve.predictor import load_predictor
from mlops_core.serve.scored import REASON
from mlops_core.serve.unpack import CHUNK_ROWS

PATH = predict_file.PATH
TASKS = ["binary", "multiclass", "regression"]
KINDS = {"csv": CSV_MEDIA, "parquet": PARQUET_MEDIA}


def good_table(rows: int = 30, task: str = "binary") -> pd.DataFrame:
    return make_table(task, rows).drop(columns=["outcome", "later"])


def spoiled(rows: int = 30) -> pd.DataFrame:
    """Rows 0, 3 and 4 cannot be answered."""
    table = good_table(rows).astype({"count": "object", "at": "str"})
    table.loc[0, "count"], table.loc[3, "gate"], table.loc[4, "at"] = 99, "C", "now"
    return table


def bytes_of(table: pd.DataFrame, kind: str) -> bytes:
    return table.to_csv(index=False).encode() if kind == "csv" else table.to_parquet(index=False)


def read_answer(data: bytes, kind: str) -> list[dict[str, Any]]:
    """A dictionary per row; None where nothing stands."""
    if kind == "parquet":
        return pq.read_table(io.BytesIO(data)).to_pylist()
    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    texts = {"prediction_id", "ticket", "label", "prediction_set", UNUSUAL, REASON}
    return [
        {name: (text if name in texts else float(text)) if text else None for name, text in row.items()} for row in rows
    ]


def send(service: Service, data: bytes, kind: str = "csv", **headers: str) -> Any:
    sent = {**service.bearer("ada"), "content-type": KINDS[kind], **headers}
    return service.client.post(PATH, content=data, headers=sent)


def answered(service: Service, data: bytes, kind: str = "csv") -> list[dict[str, Any]]:
    response = send(service, data, kind)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].partition(";")[0] == KINDS[kind]
    return read_answer(response.content, kind)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Iterator[dict[str, Service]]:
    """A service per task, with the account ada."""
    with pytest.MonkeyPatch.context() as patch, starting(tmp_path_factory.mktemp("files"), bundles) as start:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        found = {}
        for task in TASKS:
            found[task] = start(task, place=task)
            if task == TASKS[0]:  # they share a database
                found[task].account("ada", "predict")
        yield found


@pytest.fixture
def shared(services: dict[str, Service]) -> Service:
    return services["binary"]


@pytest.fixture
def ada(serve: Callable[..., Service]) -> Service:
    """A service of the test's own."""
    service = serve()
    service.account("ada", "predict")
    return service


def log_of(service: Service) -> PredictionLog:
    found: PredictionLog = service.client.app.state.api.log  # type: ignore[attr-defined]
    return found


def logged(service: Service) -> int:
    """How many entries the log's database has."""
    assert log_of(service).flush(10)
    return log_of(service).written


# The same answers, however one asks


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=6)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.sampled_from(["2013-05-06 07:08", "2013-12-24T18:30:15", "1800-01-01", "2300-01-01", "now", None]),
            "amount": st.floats(-110, 110).map(lambda value: round(value, 3)) | st.none(),
            "count": st.integers(-2, 52) | st.none(),
            "kind": st.sampled_from(["u", "v", "w", "never seen", "=1+1", '"', "a,b\nc"]) | TEXTS | st.none(),
            "gate": st.sampled_from(["A", "B", "A", "B", "C", "a"]) | st.none(),
            "open": st.booleans() | st.none(),
        }
    ),
    min_size=1,
    max_size=25,
)
SCHEMA = pa.schema(
    [
        ("at", pa.string()),
        ("amount", pa.float64()),
        ("count", pa.int64()),
        ("kind", pa.string()),
        ("gate", pa.string()),
        ("open", pa.bool_()),
    ]
)


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, SCHEMA.names)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer, **options)
    return buffer.getvalue()


def single(service: Service, headers: dict[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """What /v1/predict says of a row, in the columns of a file."""
    response = service.client.post("/v1/predict", json={"instances": [row]}, headers=headers)
    if response.status_code == 422:
        said = [f"{error['pointer'].rpartition('/')[2]} {error['detail']}" for error in response.json()["errors"]]
        return {REASON: "; ".join(said)}
    (entry,) = response.json()["predictions"]
    unusual = " | ".join(entry.get("unusual", [])) or None
    if "value" in entry:
        low, high = entry["interval"]
        return {"value": entry["value"], "low": low, "high": high, UNUSUAL: unusual, REASON: None}
    probabilities = {f"probability_{name}": value for name, value in entry["probabilities"].items()}
    sets = " | ".join(entry["prediction_set"])
    said = {"label": entry["label"], "confidence": entry["confidence"], "prediction_set": sets}
    return {**said, **probabilities, UNUSUAL: unusual, REASON: None}


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(rows=ROWS)
def test_a_file_gets_the_answers_that_its_rows_get_alone(
    services: dict[str, Service], task: str, rows: list[dict[str, Any]]
) -> None:
    service, found = services[task], {}
    headers = service.bearer("ada")
    expected = [single(service, headers, row) for row in rows]
    for kind, data in (("csv", as_csv(rows)), ("parquet", as_parquet(rows, row_group_size=3))):
        found[kind] = answered(service, data, kind)
        assert len(found[kind]) == len(rows)
        for line, wanted in zip(found[kind], expected, strict=True):
            assert (line.pop("prediction_id") is None) == (line[REASON] is not None)
            assert {name: value for name, value in line.items() if value is not None} == {
                name: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
                for name, value in wanted.items()
                if value is not None
            }


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_file_gets_the_answers_of_mlops_score(
    shared: Service, bundles: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    table = pd.concat([spoiled(2 * CHUNK_ROWS + 7).assign(count=lambda rows: rows["count"].astype(str))] * 2)
    (tmp_path / f"in.{kind}").write_bytes(bytes_of(table, kind))
    before = logged(shared)
    lines = pd.DataFrame(answered(shared, (tmp_path / f"in.{kind}").read_bytes(), kind))
    done = score_file(load_predictor(bundles["binary"]), tmp_path / f"in.{kind}", tmp_path / "out.parquet", [].append)
    assert (done.rows, done.rejected) == (len(table) - 6, 6)
    assert lines["ticket"].tolist() == table["ticket"].tolist()
    good, scored = lines[lines[REASON].isna()].reset_index(drop=True), pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(good[scored.columns], scored, atol=1e-6)
    rejected = pd.read_parquet(tmp_path / "out.rejected.parquet")
    assert lines.loc[lines[REASON].notna(), ["ticket", REASON]].to_numpy().tolist() == (
        rejected[["ticket", REASON]].to_numpy().tolist()
    )
    assert good["prediction_id"].is_unique
    assert logged(shared) - before >= len(table) // CHUNK_ROWS


def test_a_form_and_a_plain_body_get_the_same_answer(shared: Service) -> None:
    table, headers = spoiled(), shared.bearer("ada")
    for kind in KINDS:
        data = bytes_of(table, kind)
        response = shared.client.post(PATH, files={"file": (f"T.{kind.upper()}", data)}, headers=headers)
        assert response.headers["content-type"].partition(";")[0] == KINDS[kind]
        assert response.headers["content-disposition"] == f'attachment; filename="answers.{kind}"'
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-model"] == "models:/small/1"
        pair = read_answer(response.content, kind), answered(shared, data, kind)
        for lines in pair:
            assert all(line.pop("prediction_id", None) or line[REASON] for line in lines)
        assert pair[0] == pair[1]


def test_a_file_of_bad_rows_alone_is_answered_and_not_logged(shared: Service) -> None:
    before = logged(shared)
    for kind in KINDS:
        lines = answered(shared, bytes_of(good_table(3).assign(gate="C"), kind), kind)
        assert [line[REASON] for line in lines] == ["gate must be one of A, B"] * 3
        assert {value for line in lines for name, value in line.items() if name not in ("ticket", REASON)} == {None}
    assert logged(shared) == before


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_an_answer_is_a_formula(shared: Service, sign: str) -> None:
    table = good_table(3).assign(ticket=["plain", f"{sign}cmd()", "x"])
    text = table.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
    assert [line["ticket"] for line in answered(shared, text)] == ["plain", f"'{sign}cmd()", "x"]
    lines = answered(shared, bytes_of(table, "parquet"), "parquet")
    assert [line["ticket"] for line in lines] == ["plain", f"{sign}cmd()", "x"]


def test_a_text_with_a_nul_is_refused_as_everywhere(shared: Service) -> None:
    for kind in KINDS:
        lines = answered(shared, bytes_of(good_table(2).assign(kind=["u", "u\x00"]), kind), kind)
        assert [line[REASON] for line in lines] == [None, "kind must not hold a NUL"]


def test_a_byte_order_mark_and_unknown_columns_are_passed_over(shared: Service) -> None:
    table = good_table(3)
    plain = answered(shared, bytes_of(table, "csv"))
    more = answered(shared, b"\xef\xbb\xbf" + bytes_of(table.assign(more="é", x=1)[["more", *table, "x"]], "csv"))
    assert [line | {"prediction_id": ""} for line in plain] == [line | {"prediction_id": ""} for line in more]


# What is kept


@pytest.mark.parametrize("task", TASKS)
def test_every_answered_row_is_in_the_log_under_its_id(services: dict[str, Service], task: str) -> None:
    service = services[task]
    table = good_table(5, task)
    table.loc[1, "gate"] = "C"
    for kind in KINDS:
        lines = answered(service, bytes_of(table, kind), kind)
        logged(service)
        for line, row in zip(lines, table.to_dict("records"), strict=True):
            if line[REASON]:
                continue
            kept = read_prediction(log_of(service).engine, line["prediction_id"])
            assert kept is not None
            assert (kept.kind, kept.model, kept.version, kept.label) == ("file", "small", 1, line.get("label"))
            assert kept.inputs["count"] in (row["count"], str(row["count"]))
            assert kept.inputs["gate"] == row["gate"]
            expected = line["value"] if task == "regression" else max(v for k, v in line.items() if "probability" in k)
            assert np.max(kept.answer) == pytest.approx(expected)
        truth = 1.5 if task == "regression" else lines[0]["label"]
        told = [{"id": lines[0]["prediction_id"], "outcome": truth}]
        stored = service.client.post("/v1/outcomes", json=told, headers=service.bearer("ada"))
        assert (stored.status_code, stored.json()) == (200, {"stored": 1})


def test_answered_rows_are_counted(ada: Service) -> None:
    ada.account("watch", "monitor")
    answered(ada, bytes_of(spoiled(), "csv"))
    text = ada.client.get("/metrics", headers=ada.bearer("watch")).text
    assert 'mlops_predictions_total{model="small",version="1"} 27.0' in text
    assert f'mlops_http_requests_total{{method="POST",route="{PATH}",status="200"}} 1.0' in text


def fill(log: PredictionLog, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Makes the log refuse what comes after so many entries."""
    append, seen = log.append, []

    def bounded(entry: Any) -> None:
        if len(seen) >= after:
            raise LogFullError
        seen.append(entry)
        append(entry)

    monkeypatch.setattr(log, "append", bounded)


def test_nothing_is_answered_when_the_log_is_full(ada: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log_of(ada), monkeypatch, after=0)
    refused = problem(send(ada, bytes_of(good_table(), "csv")), 503)
    assert "log has no room" in refused["detail"]
    assert send(ada, bytes_of(good_table(), "csv")).headers["retry-after"] == "5"
    assert logged(ada) == 0


def test_a_crowded_log_is_waited_for_and_not_for_ever(ada: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [True] * 3
    monkeypatch.setattr(PredictionLog, "crowded", property(lambda _: bool(left and left.pop())))
    assert len(answered(ada, bytes_of(good_table(), "csv"))) == 30
    assert not left
    monkeypatch.setattr(PredictionLog, "crowded", property(lambda _: True))
    monkeypatch.setattr(predict_file, "PATIENCE_SECONDS", 0.2)
    problem(send(ada, bytes_of(good_table(), "csv")), 503)


def test_a_log_that_others_need_is_crowded(ada: Service) -> None:
    log = log_of(ada)
    assert not log.crowded
    log.spool.bytes = log.spool.max_bytes // 2
    assert log.crowded
    assert not log.spool.full
    log.spool.bytes = 0


def test_a_full_queue_is_waited_for_and_not_for_ever(ada: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    admission = ada.client.app.state.api.admission  # type: ignore[attr-defined]
    monkeypatch.setattr(predict_file, "PATIENCE_SECONDS", 0.3)
    admission.admitted = admission.room
    refused = send(ada, bytes_of(good_table(), "csv"))
    assert problem(refused, 503)["detail"].startswith("Too many predictions")
    admission.admitted = 0
    assert len(answered(ada, bytes_of(good_table(), "csv"))) == 30
    assert admission.admitted == 0


# What is refused


HEAD = b"ticket,at,amount,count,kind,gate,open\n"
LINE = b"t1,2013-05-06 07:08,1.5,3,u,A,True\n"


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({**good_table(1).to_dict("list"), **columns}), buffer)
    return buffer.getvalue()


def one_long_text() -> bytes:
    """Two thousand rows that share one text of two megabytes: four gigabytes in some thousand bytes."""
    ones = pa.array(np.zeros(2000, dtype=np.int32))
    texts = pa.DictionaryArray.from_arrays(ones, pa.array(["x" * 2_000_000]))
    others = {name: [value] * 2000 for name, (value,) in good_table(1).to_dict("list").items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table({**others, "kind": texts}), buffer, store_schema=False)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    columns = {name: pa.repeat(value, 5_000_000) for name, (value,) in good_table(1).to_dict("list").items()}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str, int, str]] = {
    "empty": (lambda: b"", "csv", 422, "it is empty"),
    "header only": (lambda: HEAD, "csv", 422, "holds no rows"),
    "blank lines": (lambda: HEAD + b"\n" * 100, "csv", 422, "holds no rows"),
    "missing column": (lambda: HEAD.replace(b"gate", b"door") + LINE, "csv", 422, "lacks the column 'gate'"),
    "semicolons": (lambda: (HEAD + LINE).replace(b",", b";"), "csv", 422, "separated by ';' instead of commas"),
    "a column twice": (lambda: HEAD.replace(b"kind", b"gate") + LINE, "csv", 422, "column 'gate' twice"),
    "longer row": (lambda: HEAD + LINE + b"s3cret," + LINE, "csv", 422, "row 3 has not as many cells (8)"),
    "open quote": (lambda: HEAD + LINE.replace(b"True", b'"True') + LINE, "csv", 422, "quote is never closed"),
    "latin-1": (lambda: HEAD + LINE.replace(b",u,", ",é,".encode("latin-1")), "csv", 422, "not UTF-8"),
    "utf-16": (lambda: (HEAD + LINE).decode().encode("utf-16"), "csv", 422, "not UTF-8"),
    "nul in names": (lambda: (HEAD + LINE).decode().encode("utf-16-be"), "csv", 422, "NUL bytes"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(50), "csv", 422, "is compressed, not CSV"),
    "workbook": (lambda: b"PK\x03\x04" + bytes(50), "csv", 422, "a zip archive or a workbook"),
    "parquet as csv": (parquet, "csv", 422, "is Parquet, not CSV"),
    "huge cell": (lambda: HEAD + LINE.replace(b",u,", b"," + b"u" * 40_000 + b","), "csv", 413, "more than 32 KiB"),
    "huge row": (lambda: HEAD + LINE.replace(b",u,", b"," + b"u" * (4 << 20) + b","), "csv", 422, "longer than a"),
    "many columns": (lambda: b",".join(b"c%d" % i for i in range(9999)) + b"\n", "csv", 413, "9,999 columns"),
    "many rows": (lambda: HEAD + LINE * 5001, "csv", 413, "more than 5,000 rows"),
    "large": (lambda: HEAD + LINE * 600_000, "csv", 413, "larger than 16,777,216 bytes"),
    "csv as parquet": (lambda: HEAD + LINE, "parquet", 422, "no Parquet file"),
    "no parquet": (lambda: b"", "parquet", 422, "no Parquet file"),
    "truncated": (lambda: parquet()[:-9], "parquet", 422, "no Parquet file"),
    "garbage": (lambda: b"PAR1" + os.urandom(2000) + b"PAR1", "parquet", 422, "cannot be read"),
    "nested": (lambda: parquet(kind=[["u"]]), "parquet", 422, "'kind' with values that are no plain ones"),
    "bomb of rows": (bomb, "parquet", 413, "more than 5,000 rows"),
    "bomb of text": (one_long_text, "parquet", 413, "MiB of memory"),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Iterator[Service]:
    """A service with small limits."""
    with pytest.MonkeyPatch.context() as patch, starting(tmp_path_factory.mktemp("guarded"), bundles) as start:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        service = start(settings={"max_file_rows": 5000, "max_file_bytes": 16 << 20})
        service.account("ada", "predict")
        yield service


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_file_gets_one_problem_that_says_why(guarded: Service, name: str) -> None:
    make, kind, status, detail = HOSTILE[name]
    found = problem(send(guarded, make(), kind), status)
    assert detail in found["detail"]
    assert "s3cret" not in json.dumps(found)
    assert logged(guarded) == 0
    assert not guarded.client.app.state.uploads.taken  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "media",
    [
        "",
        "application/json",
        "text/plain",
        "text/csv; charset=latin-1",
        "application/octet-stream",
        "\xff/csv",
        FORM_MEDIA,
    ],
)
def test_another_content_type_is_refused(shared: Service, media: str) -> None:
    problem(send(shared, HEAD + LINE, **{"content-type": media.encode("latin-1")}), 415)


def test_a_compressed_body_is_refused(shared: Service) -> None:
    problem(send(shared, HEAD + LINE, **{"content-encoding": "gzip"}), 415)


@pytest.mark.parametrize("media", ["text/csv", "TEXT/CSV", "text/csv; charset=UTF-8", "text/csv;header=present"])
def test_csv_may_be_named_in_these_ways(shared: Service, media: str) -> None:
    assert send(shared, HEAD + LINE, **{"content-type": media}).status_code == 200


def test_no_more_files_than_allowed_are_at_work(ada: Service) -> None:
    found = ada.client.app.state.uploads  # type: ignore[attr-defined]
    found.taken = found.at_once
    response = send(ada, HEAD + LINE)
    assert "Too many files" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"
    found.taken = 0
    assert send(ada, HEAD + LINE).status_code == 200


def readers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "mlops_core.serve.unpack" in child.cmdline()]


def test_a_reader_that_takes_too_long_is_ended(ada: Service) -> None:
    ada.client.app.state.uploads.seconds = 0.01  # type: ignore[attr-defined]
    assert "took too long" in problem(send(ada, HEAD + LINE * 100_000), 503)["detail"]
    assert not readers()


def test_a_reader_that_dies_costs_no_more_than_the_file(
    ada: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spend = (
        "import time\nwhile time.process_time() < 0.99: pass\n"  # of the second that is the least that can be allowed
    )
    (tmp_path / "sitecustomize.py").write_text(spend)
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "FRUGAL", {**uploads.FRUGAL, "PYTHONPATH": str(tmp_path)})
        patch.setattr(uploads, "CPU_SECONDS", 0)
        assert "memory and time" in problem(send(ada, HEAD + LINE * 200_000), 413)["detail"]
    assert send(ada, HEAD + LINE).status_code == 200


def test_a_disk_without_room_is_not_the_callers_fault(ada: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads.tempfile, "TemporaryFile", full)
    assert "no room" in problem(send(ada, HEAD + LINE), 503)["detail"]


# In a process of its own


def file_request(server: Running, data: bytes, length: int | None = None) -> bytes:
    headers = {**server.bearer(), "content-type": CSV_MEDIA, "content-length": str(length or len(data))}
    return wire_request("POST", PATH, data, headers)


def held_files(server: Running) -> list[str]:
    """What the server and its children have open below `.mlops/uploads`, with a name or without."""
    folder, found = str(server.root / ".mlops" / "uploads"), []
    for process in server.family():
        with contextlib.suppress(FileNotFoundError):  # one that has ended meanwhile holds nothing
            found += [_target(descriptor) for descriptor in Path(f"/proc/{process.pid}/fd").iterdir()]
    return [target for target in found if target.startswith(folder)]


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def wait_until(true: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def long_csv(rows: int) -> bytes:
    lines = good_table(1000).to_csv(index=False).encode().partition(b"\n")[2]
    return HEAD + lines * (rows // 1000)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are read from /proc")


@needs_proc
def test_nothing_is_left_of_a_client_that_leaves(served: Running) -> None:
    for received in (100, 3 << 20):
        with served.wire() as wire:
            wire.send(file_request(served, long_csv(100_000)[:received], length=5 << 20))
            wait_until(lambda: bool(held_files(served)))
        wait_until(lambda: not held_files(served))
    with served.wire(receive_buffer=1 << 14) as wire:
        wire.send(file_request(served, long_csv(300_000)))
        assert wire.socket.recv(9) == b"HTTP/1.1 "
        assert held_files(served)
    wait_until(lambda: not held_files(served))
    assert not list((served.root / ".mlops" / "uploads").iterdir())
    assert served.predict().status == 200
    assert "Traceback" not in served.said()


@needs_proc
def test_nothing_is_left_of_a_server_that_was_killed(project: Path) -> None:
    with running(project, "/readyz") as server, server.wire() as wire:
        wire.send(file_request(server, long_csv(20_000), length=5 << 20))
        wait_until(lambda: bool(held_files(server)))
        assert not list((project / ".mlops" / "uploads").iterdir())
        server.end()
    assert not list((project / ".mlops" / "uploads").iterdir())


def test_a_file_at_work_is_answered_before_the_server_ends(project: Path) -> None:
    with running(project, "/readyz") as server, server.wire(30) as wire:
        wire.send(file_request(server, long_csv(100_000)))
        head = wire.socket.recv(64)
        server.process.send_signal(signal.SIGTERM)
        rest = wire.rest()
        assert server.process.wait(20) == 0
    assert head.startswith(b"HTTP/1.1 200")
    assert rest.endswith(b"\r\n0\r\n\r\n")
    engine = open_engine(f"sqlite:///{project / '.mlops' / 'predictions.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT sum(rows) FROM mlops_predictions").scalar() == 100_000
    engine.dispose()


def test_a_long_file_takes_little_memory_and_holds_up_nobody(served: Running) -> None:
    small = served.request("POST", PATH, HEAD + LINE, **{**served.bearer(), "content-type": CSV_MEDIA})
    assert small.status == 200
    before, peak, others, done = served.memory_mb(), 0.0, 0, threading.Event()

    def watch() -> None:
        nonlocal peak, others
        while not done.is_set():
            assert served.predict().status == 200
            others += 1
            peak = max(peak, served.memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with served.wire(60) as wire:
        answer = wire.ask(file_request(served, long_csv(200_000)))
    done.set()
    watcher.join()
    assert answer.status == 200
    assert answer.body.count(b"\n") == 200_001
    assert peak < before + 80
    assert others > 20, "they were answered while the file was at work"


def test_pyarrow_waits_for_the_first_file() -> None:
    code = "import sys, api.server; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_reader_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch, ada: Service) -> None:
    seen = {}
    real = asyncio.create_subprocess_exec

    async def spied(*arguments: Any, **options: Any) -> Any:
        seen.update(options["env"])
        return await real(*arguments, **options)

    monkeypatch.setenv("MLOPS_JWT_SECRET", "canary")
    monkeypatch.setenv("PGPASSWORD", "canary")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", spied)
    assert send(ada, HEAD + LINE).status_code == 200
    assert seen
    assert "canary" not in seen.values()


# On a socket of its own


@contextlib.contextmanager
def wired(folder: Path, bundle: Path, **settings: Any) -> Iterator[tuple[int, Any, dict[str, str]]]:
    """A service behind the product's server, in this process: its port, its app, and ada's headers."""
    slot = ModelSlot("small", "champion", folder / "serving", Folder({1: bundle}))
    slot.refresh()
    machine = ApiSettings(jwt_secret=SecretStr(secrets.token_urlsafe(48)), **settings)
    app = create_app(machine, folder, slot)
    engine = open_engine(machine.database(folder))
    asyncio.run(create_user(engine, "ada", PASSWORD, ["predict"]))
    engine.dispose()
    with serving(app) as port:
        form = urlencode({"grant_type": "password", "username": "ada", "password": PASSWORD}).encode()
        with Wire(port) as wire:
            answer = wire.request("POST", "/auth/token", form, **FORM)
        yield port, app, {"authorization": f"Bearer {answer.json['access_token']}", "content-type": CSV_MEDIA}


def ask(port: int, headers: dict[str, str], data: bytes) -> tuple[int, bytes, bool]:
    """Status, what came of the body, and whether that is all of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", PATH, data, headers)
    response = connection.getresponse()
    try:
        return response.status, response.read(), True
    except IncompleteRead as error:
        return response.status, error.partial, False
    finally:
        connection.close()


@pytest.mark.usefixtures("cheap_hashing")
def test_an_answer_that_cannot_be_kept_to_its_end_is_cut(
    tmp_path: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with wired(tmp_path, bundles["binary"]) as (port, app, headers):
        log: PredictionLog = app.state.api.log
        fill(log, monkeypatch, after=2)
        status, body, complete = ask(port, headers, long_csv(5 * CHUNK_ROWS))
        assert (status, complete) == (200, False)
        assert log.flush(10)
        assert log.written == 2
        lines = read_answer(body.rpartition(b"\n")[0] + b"\n", "csv")
        assert CHUNK_ROWS < len(lines) <= 2 * CHUNK_ROWS
        for line in (lines[0], lines[-1]):
            assert read_prediction(log.engine, line["prediction_id"]) is not None
        assert not app.state.uploads.taken
        assert not app.state.api.admission.admitted


@pytest.mark.usefixtures("cheap_hashing")
def test_who_sends_or_reads_a_file_too_slowly_is_cut(tmp_path: Path, bundles: dict[str, Path]) -> None:
    with wired(tmp_path, bundles["binary"], file_seconds=0.7, body_seconds=0.1) as (port, app, headers):
        with Wire(port) as wire:
            wire.send(wire_request("POST", PATH, HEAD, {**headers, "content-length": "5000"}))
            time.sleep(0.3)  # longer than other bodies may take
            wire.send(LINE)
            assert wire.answer().status == 408
        with Wire(port, receive_buffer=1 << 14) as wire:
            wire.send(wire_request("POST", PATH, long_csv(200_000), headers))
            assert wire.socket.recv(9) == b"HTTP/1.1 "
            time.sleep(1.5)
            assert not wire.rest().endswith(b"0\r\n\r\n")
        wait_until(lambda: not app.state.uploads.taken)
