"""One schema: the contract, the bundle, the API, the scorer of files and the form judge a row alike."""

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from service import Service
from tables import make_spec, make_table
from traitlets import TraitError

from mlops_core.frontend.facts import Model, read_model
from mlops_core.frontend.form import Form
from mlops_core.ingest import enforce_contract, parse_csv
from mlops_core.serve.batch import score_batch
from mlops_core.serve.predictor import Predictor
from mlops_core.serve.tables import open_table

SPEC = make_spec()
TABLE = SPEC.tables()["small"]
OUTCOME = make_table(rows=1)[["ticket", "outcome", "later"]].iloc[0].to_dict()
MOMENTS = [
    "2013-05-06T07:08",
    "2013-05-06",
    "2013-05-06 07:08:09",
    "2013-02-30",
    "1500-01-01",
    "2400-01-01",
    "now",
    "2013",
]
NUMBERS = st.floats(-150, 150).map(lambda value: round(value, 3)) | st.sampled_from([1e39, -1e39, 0.0, 100.0, -100.0])
ROWS = st.fixed_dictionaries(
    {
        "at": st.sampled_from(MOMENTS[:3]) | st.sampled_from(MOMENTS) | st.none(),
        "amount": NUMBERS | st.none() | st.just("abc"),
        "count": st.integers(0, 50) | st.integers(-5, 60) | st.sampled_from([2.5, 7.0]) | st.none(),
        "kind": st.sampled_from(["u", "v", "never seen", "=1+1", "NA"]) | st.none(),
        "gate": st.sampled_from(["A", "B"]) | st.sampled_from(["C", "a"]) | st.none(),
        "open": st.booleans() | st.none(),
    }
)
GOOD = {"at": "2013-05-06T07:08", "amount": 1.5, "count": 3, "kind": "u", "gate": "A", "open": True}


def csv_of(row: dict[str, Any]) -> bytes:
    return pd.DataFrame([row]).to_csv(index=False).encode()


def by_contract(row: dict[str, Any]) -> bool:
    order = {name: {**row, **OUTCOME}[name] for name in SPEC.columns}
    raw = parse_csv(Path("small.csv"), csv_of(order), TABLE.columns, [""])
    return len(enforce_contract(raw, TABLE, SPEC.time).accepted) == 1


def by_bundle(predictor: Predictor, row: dict[str, Any]) -> bool:
    _, problems = predictor.predict_columns({name: [value] for name, value in row.items()}, 1)
    return not problems


def by_api(service: Service, row: dict[str, Any]) -> bool:
    body = json.dumps({"instances": [row]})
    headers = {**service.bearer("ada"), "Content-Type": "application/json"}
    answer = service.client.post("/v1/predict", content=body, headers=headers)
    assert answer.status_code in (200, 422), answer.text
    return answer.status_code == 200


def by_scorer(predictor: Predictor, row: dict[str, Any]) -> bool:
    (batch,) = open_table(io.BytesIO(csv_of(row)), "csv").batches
    return not score_batch(predictor, batch).reasons


def by_form(model: Model, row: dict[str, Any]) -> bool | None:
    """What a person can enter there: a date picker holds dates; None for what a menu does not offer."""
    form = Form(model, lambda: None)
    for name, value in row.items():
        field = form.fields[name]
        try:
            if name in ("amount", "count"):
                field.control.value = "" if value is None else str(value)
            elif name == "at":
                field.control.value = None if value is None else datetime.strptime(value[:10], "%Y-%m-%d")
            else:
                field.set(value)
        except TraitError:
            if field.column.unseen != "refuse" and field.column.type == "category":
                return None
            return False
        except ValueError:
            return False
    return not any(field.read().problem for field in form.fields.values())


@pytest.fixture
def judges(service: Service) -> Any:
    predictor = service.slot.require().predictor
    model = read_model(service.client.get("/v1/model", headers=service.bearer("ada")).json())

    def judge(row: dict[str, Any]) -> dict[str, bool]:
        found = {
            "contract": by_contract(row),
            "bundle": by_bundle(predictor, row),
            "api": by_api(service, row),
            "scorer": by_scorer(predictor, row),
            "form": by_form(model, row),
        }
        return {name: verdict for name, verdict in found.items() if verdict is not None}

    return judge


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(row=ROWS)
@example(row=GOOD)
@example(row={**GOOD, "amount": None, "kind": None, "open": None})
@example(row={**GOOD, "kind": "never seen"})
@example(row={**GOOD, "gate": "C"})
@example(row={**GOOD, "at": "1500-01-01"})
@example(row={**GOOD, "count": 7.0})
@example(row={**GOOD, "count": None})
def test_a_row_gets_one_verdict_wherever_it_is_given(judges, row):
    found = judges(row)
    assert len(set(found.values())) == 1, f"{row} {found}"


def test_the_judges_say_both_yes_and_no(judges):
    assert set(judges(GOOD).values()) == {True}
    assert set(judges({**GOOD, "count": 51}).values()) == {False}
