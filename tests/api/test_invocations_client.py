"""`POST /invocations` of a real server, driven by the code that MLflow's own clients are made of."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from server import Running
from tables import make_predictor, make_table

from mlops_core.preprocess import columns_of
from mlops_core.registry.versions import example_of
from mlops_core.serve.predictor import Predictor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's, of its own type hints
    from mlflow.models import convert_input_example_to_serving_input
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.proto_json_utils import dump_input_data
    from mlflow.utils.rest_utils import http_request


@pytest.fixture(scope="module")
def predictor(bundles: dict[str, Path]) -> Predictor:
    return make_predictor(bundles["binary"])


@pytest.fixture
def table() -> pd.DataFrame:
    """Numbers, integers, texts, flags and moments; amount, kind and open are missing here and there."""
    found = make_table("binary", 60, seed=4).drop(columns=["ticket", "outcome", "later"])
    found.loc[[1, 5], "open"] = pd.NA
    assert found.isna().any().to_dict() == {
        "at": False, "amount": True, "count": False, "kind": True, "gate": False, "open": True,
    }  # fmt: skip
    return found


@pytest.fixture
def client(served: Running, monkeypatch: pytest.MonkeyPatch) -> ScoringServerClient:
    """MLflow's client, which cannot be told a header: it opens a new `requests.Session` for every call."""
    token = served.bearer()["authorization"]

    class Authorized(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            self.headers["Authorization"] = token

    monkeypatch.setattr(requests.sessions, "Session", Authorized)
    return ScoringServerClient("127.0.0.1", served.port)


def expected(predictor: Predictor, table: pd.DataFrame) -> list[dict[str, float]]:
    columns = columns_of(table, [column.name for column in predictor.schema.columns])
    answers, problems = predictor.predict_columns(columns, len(table))
    assert not problems, problems[0]
    return [dict(zip(predictor.schema.classes, row, strict=True)) for row in answers.tolist()]


def check(answer: Any, predictor: Predictor, table: pd.DataFrame) -> None:
    """The client's frame holds the predictor's answers."""
    frame = answer.get_predictions()
    assert frame["probabilities"].to_list() == expected(predictor, table)
    chosen = predictor.labels(np.array([list(row.values()) for row in frame["probabilities"]]))
    assert frame["label"].to_list() == [predictor.schema.classes[number] for number in chosen]
    assert frame["id"].is_unique


def whole(table: pd.DataFrame) -> pd.DataFrame:
    return table.dropna()


def as_nullable(table: pd.DataFrame) -> pd.DataFrame:
    """Missing is pd.NA, which the client writes as null."""
    return table.convert_dtypes()


def as_objects(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(object).where(table.notna(), None)


def as_numpy(table: pd.DataFrame) -> pd.DataFrame:
    """Integers have become floats, flags objects, as after a merge; missing is NaN, which the client writes as NaN."""
    return table.astype({"count": "float64", "amount": "float64", "open": object, "kind": object}).where(
        table.notna(), np.nan
    )


def with_other_order_and_index(table: pd.DataFrame) -> pd.DataFrame:
    return table[list(reversed(table.columns))].set_axis([f"r{row}" for row in table.index])


@pytest.mark.parametrize("form", [whole, as_nullable, as_objects, as_numpy, with_other_order_and_index])
def test_a_frame_gets_the_predictors_answers(
    client: ScoringServerClient,
    predictor: Predictor,
    table: pd.DataFrame,
    form: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    frame = form(table)
    original = table.index if len(frame) == len(table) else frame.index
    check(client.invoke(frame), predictor, table.loc[original])


@pytest.mark.parametrize("rows", [1, 2, 5000])
def test_frames_of_any_length(
    client: ScoringServerClient, predictor: Predictor, table: pd.DataFrame, rows: int
) -> None:
    frame = pd.concat([table] * (rows // len(table) + 1), ignore_index=True).head(rows)
    check(client.invoke(frame), predictor, frame)


def test_a_serving_example_of_mlflow_is_answered(served: Running, predictor: Predictor) -> None:
    """What `mlflow models` keeps beside a model as its serving example."""
    example = example_of(predictor.schema)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, about MLflow
        body = convert_input_example_to_serving_input(example)
    answer = served.request("POST", "/invocations", body.encode(), **served.bearer())
    assert answer.json["predictions"][0]["probabilities"] == expected(predictor, example)[0]


def test_mlflows_http_code_carries_its_own_token(
    served: Running, predictor: Predictor, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`MLFLOW_TRACKING_TOKEN` is what its clients that do authenticate send as a bearer token."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", served.token())
    host = get_default_host_creds(f"http://127.0.0.1:{served.port}")
    records = {"dataframe_records": as_objects(table.drop(columns="at")).to_dict(orient="records")}
    for row, moment in zip(records["dataframe_records"], table["at"], strict=True):
        row["at"] = moment.isoformat()
    answer = http_request(host, "/invocations", "POST", json=records).json()
    assert [item["probabilities"] for item in answer["predictions"]] == expected(predictor, table)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 51}, "/instances/0/count"),
        ({"gate": "C"}, "/instances/0/gate"),
        ({"amount": float("inf")}, "Infinity"),
        ({"count": np.nan}, "/instances/0/count"),
        ({"at": pd.NaT}, "/instances/0/at.*is required"),
    ],
)
def test_a_frame_that_cannot_be_answered_is_refused_with_the_reason(
    client: ScoringServerClient, table: pd.DataFrame, wrong: dict[str, Any], said: str
) -> None:
    frame = whole(table).head(1).astype(object).assign(**wrong)
    with pytest.raises(Exception, match=rf"error code 422, .*{said}"):
        client.invoke(frame)


def test_without_a_token_it_is_refused(served: Running, table: pd.DataFrame) -> None:
    with pytest.raises(Exception, match="error code 401"):
        ScoringServerClient("127.0.0.1", served.port).invoke(table)


def test_what_this_client_sends_holds_nan(table: pd.DataFrame) -> None:
    """Or the tests above prove nothing."""
    assert "NaN" in dump_input_data(table)
    assert "NaN" in dump_input_data(as_numpy(table))
    assert "NaN" not in dump_input_data(as_nullable(table))
