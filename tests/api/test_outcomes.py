"""The truth, told later: through the service on both databases, all or nothing."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from service import JSON, Service, example, problem
from sqlalchemy import text

from api.outcomes import Outcome, Prediction, parse_id, read_prediction, store_outcomes
from api.prediction_log import FLUSH_SECONDS, PredictionLog
from api.routes import outcomes
from mlops_core import database

UNKNOWN = f"{7:032x}-0"


@pytest.fixture
def logged(serve: Callable[..., Service], database_url: str) -> Service:
    """A service whose log is on each database in turn, with the accounts ada, eve (predict) and root (admin)."""
    service = serve(settings={"prediction_log_url": SecretStr(database_url)})
    for name, scopes in {"ada": ["predict"], "eve": ["predict"], "root": ["admin", "predict"]}.items():
        service.account(name, *scopes)
    return service


def log_of(service: Service) -> PredictionLog:
    return service.client.app.state.api.log  # type: ignore[attr-defined]


def predict(service: Service, headers: dict[str, str], rows: int = 1, path: str = "/v1/predict") -> list[Any]:
    body = {"instances": [example(service, headers)] * rows}
    response = service.client.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["predictions"]
    return found


def ids(service: Service, headers: dict[str, str], rows: int = 1) -> list[str]:
    return [entry["id"] for entry in predict(service, headers, rows)]


def tell(service: Service, headers: dict[str, str], *told: tuple[Any, Any]) -> Any:
    body = [{"id": key, "outcome": value} for key, value in told]
    return service.client.post("/v1/outcomes", json=body, headers=headers)


def read(service: Service, key: str) -> Prediction:
    assert log_of(service).flush(10)
    found = read_prediction(log_of(service).engine, key)
    assert found
    return found


def count(service: Service) -> int:
    with database.reading(log_of(service).engine).connect() as connection:
        found: int = connection.execute(text("SELECT count(*) FROM mlops_outcomes")).scalar_one()
    return found


def test_an_outcome_finds_the_prediction_that_was_answered_a_moment_ago(logged: Service) -> None:
    ada = logged.bearer("ada")
    first, second = ids(logged, ada, 2)
    response = tell(logged, ada, (first, "yes"), (second, "no"))
    assert (response.status_code, response.json()) == (200, {"stored": 2})
    assert [read(logged, key).outcome for key in (first, second)] == ["yes", "no"]


def test_an_outcome_that_is_told_again_replaces_the_one_before(logged: Service) -> None:
    ada = logged.bearer("ada")
    (key,) = ids(logged, ada)
    for outcome in ("yes", "no"):
        assert tell(logged, ada, (key, outcome)).status_code == 200
    assert (read(logged, key).outcome, count(logged)) == ("no", 1)


def test_one_unknown_id_and_nothing_is_stored(logged: Service) -> None:
    ada = logged.bearer("ada")
    (key,) = ids(logged, ada)
    batch = key.partition("-")[0]
    body = problem(tell(logged, ada, (key, "yes"), (UNKNOWN, "no"), (f"{batch}-1", "no")), 404)
    assert [error["pointer"] for error in body["errors"]] == ["/1/id", "/2/id"]
    assert (read(logged, key).outcome, count(logged)) == (None, 0)


def test_another_callers_prediction_is_as_unknown_as_none_and_admins_know_all(logged: Service) -> None:
    (key,) = ids(logged, logged.bearer("ada"))
    eve = logged.bearer("eve")
    foreign, nobodys = (problem(tell(logged, eve, (item, "yes")), 404) for item in (key, UNKNOWN))
    assert foreign["errors"] == nobodys["errors"]
    assert count(logged) == 0
    assert tell(logged, logged.bearer("root"), (key, "yes")).status_code == 200
    assert read(logged, key).outcome == "yes"


def test_at_most_twenty_unknown_ids_are_named(logged: Service) -> None:
    told = [(f"{number:032x}-0", "yes") for number in range(30)]
    body = problem(tell(logged, logged.bearer("ada"), *told), 404)
    assert (len(body["errors"]), body["error_count"]) == (20, 30)


def test_a_thousand_outcomes_are_taken_at_a_time(logged: Service) -> None:
    ada = logged.bearer("ada")
    keys = ids(logged, ada, 1001)
    problem(tell(logged, ada, *((key, "yes") for key in keys)), 413)
    assert tell(logged, ada, *((key, "yes") for key in keys[:1000])).json() == {"stored": 1000}
    assert count(logged) == 1000


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"[]", 422, None),
        (b"{}", 422, None),
        (b"[", 400, None),
        (b'[{"id": "%s", "outcome": NaN}]', 422, None),
        (b"[1]", 422, "/0"),
        (b'[{"id": "%s"}]', 422, "/0"),
        (b'[{"id": "%s", "outcome": "yes", "at": 1}]', 422, "/0"),
        (b'[{"id": "canary", "outcome": "yes"}]', 422, "/0/id"),
        (b'[{"id": 1, "outcome": "yes"}]', 422, "/0/id"),
        (b'[{"id": "%s-0", "outcome": "yes"}]', 422, "/0/id"),
        (b'[{"id": "%s", "outcome": "canary"}]', 422, "/0/outcome"),
        (b'[{"id": "%s", "outcome": null}]', 422, "/0/outcome"),
        (b'[{"id": "%s", "outcome": 1}]', 422, "/0/outcome"),
        (b'[{"id": "%s", "outcome": true}]', 422, "/0/outcome"),
        (b'[{"id": "%s", "outcome": ["yes"]}]', 422, "/0/outcome"),
        (b'[{"id": "%s", "outcome": "yes"}, {"id": "%s", "outcome": "no"}]', 422, "/1/id"),
    ],
)
def test_what_is_no_outcome_is_refused_and_never_repeated(
    service: Service, body: bytes, status: int, pointer: str | None
) -> None:
    ada = service.bearer("ada")
    key = ids(service, ada)[0].encode()
    response = service.client.post("/v1/outcomes", content=body.replace(b"%s", key), headers={**ada, **JSON})
    found = problem(response, status)
    assert [error["pointer"] for error in found.get("errors", [])] == ([pointer] if pointer else [])
    assert "canary" not in response.text
    assert count(service) == 0


@pytest.mark.parametrize("outcome", [0, -1.5, 10**30, 1e-300])
def test_the_outcome_of_a_regression_is_a_number(serve: Callable[..., Service], outcome: float) -> None:
    service = serve("regression")
    service.account("ada", "predict")
    ada = service.bearer("ada")
    (entry,) = predict(service, ada)
    assert tell(service, ada, (entry["id"], outcome)).status_code == 200
    found = read(service, entry["id"])
    assert (found.outcome, found.answer, found.label) == (outcome, entry["value"], None)


@pytest.mark.parametrize("outcome", [b"true", b'"1"', b"null", b"1e400", b"1" + b"0" * 400])
def test_what_is_no_finite_number_is_no_outcome_of_a_regression(serve: Callable[..., Service], outcome: bytes) -> None:
    service = serve("regression")
    service.account("ada", "predict")
    body = b'[{"id": "%b", "outcome": %b}]' % (UNKNOWN.encode(), outcome)
    headers = {**service.bearer("ada"), **JSON}
    found = problem(service.client.post("/v1/outcomes", content=body, headers=headers), 422)
    assert found["errors"][0]["pointer"] == "/0/outcome"


def test_outcomes_need_the_predict_scope(service: Service) -> None:
    service.account("mon", "monitor")
    problem(tell(service, service.bearer("mon"), (UNKNOWN, "yes")), 403)
    problem(tell(service, {}, (UNKNOWN, "yes")), 401)


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain", "/invocations"])
def test_every_answer_is_in_the_log_as_it_was_given(logged: Service, path: str) -> None:
    ada = logged.bearer("ada")
    user = logged.client.get("/auth/me", headers=ada).json()["id"]
    for position, entry in enumerate(predict(logged, ada, 3, path)):
        found = read(logged, entry["id"])
        assert entry["id"].endswith(f"-{position}")
        assert (found.user_id, found.model, found.version, found.outcome) == (user, "small", 1, None)
        assert found.kind == path.rpartition("/")[2]
        assert found.answer == list(entry["probabilities"].values())
        assert found.label == entry["label"]
        given = example(logged, ada)
        assert {name: value for name, value in found.inputs.items() if value is not None} == given


def test_a_restart_keeps_every_prediction(serve: Callable[..., Service]) -> None:
    first = serve()
    first.account("ada", "predict")
    keys = ids(first, first.bearer("ada"), 3)
    first.client.__exit__(None, None, None)
    assert [read(serve(), key).id for key in keys] == keys


def test_a_full_log_is_503_with_a_time_to_come_back(serve: Callable[..., Service], tmp_path: Path) -> None:
    service = serve()
    service.account("ada", "predict")
    ada = service.bearer("ada")
    row = example(service, ada)
    file = tmp_path / ".mlops" / "predictions.db"
    aside = file.rename(tmp_path / "aside.db")
    log_of(service).spool.max_bytes = 2000
    answered = []
    for _ in range(10_000):
        response = service.client.post("/v1/predict", json={"instances": [row]}, headers=ada)
        if response.status_code != 200:
            break
        answered.append(response.json()["predictions"][0]["id"])
    problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    outage = tell(service, ada, (answered[0], "yes"))
    problem(outage, 503)
    assert int(outage.headers["retry-after"]) > 0
    aside.rename(file)
    answered += ids(service, ada) if log_of(service).flush(20) else []
    assert log_of(service).flush(20)
    with sqlite3.connect(file) as connection:
        found = [batch for (batch,) in connection.execute("SELECT batch FROM mlops_predictions ORDER BY batch")]
    connection.close()
    assert found == sorted(key.partition("-")[0] for key in answered)


def test_outcomes_are_503_while_answers_still_wait_to_be_written(
    logged: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(logged).flush_seconds = 60
    time.sleep(2 * FLUSH_SECONDS)  # the pause that had begun
    ada = logged.bearer("ada")
    (key,) = ids(logged, ada)
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "FLUSH_WAIT_SECONDS", 0.0)
        problem(tell(logged, ada, (key, "yes")), 503)
    assert tell(logged, ada, (key, "yes")).status_code == 200
    assert tell(logged, ada, (UNKNOWN, "yes")).status_code == 404


@pytest.mark.parametrize("key", ["", "x", UNKNOWN, UNKNOWN.upper() + "0", "a" * 32 + "-01", "a" * 32 + "--1"])
def test_an_id_that_the_log_does_not_know_reads_as_nothing(service: Service, key: str) -> None:
    assert read_prediction(log_of(service).engine, key) is None


@given(st.text() | st.from_regex(r"[0-9a-f]{31,33}-[0-9]{0,12}") | st.none() | st.integers())
def test_only_one_spelling_is_an_id(key: Any) -> None:
    found = parse_id(key)
    assert found is None or f"{found[0]}-{found[1]}" == key


def test_told_at_the_same_time_both_ways_round_nobody_waits_for_ever(logged: Service) -> None:
    ada = logged.bearer("ada")
    keys = [key for _ in range(20) for key in ids(logged, ada)]
    assert log_of(logged).flush(10)
    told = [Outcome(key.partition("-")[0], 0, "yes") for key in keys]

    def work(step: int) -> list[list[int]]:
        engine = log_of(logged).engine
        return [store_outcomes(engine, "user", told[::step], anyones=True) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, [1, -1, 1, -1])) == [[[]] * 20] * 4
    assert count(logged) == 20
