"""Schemathesis reads the document and tries to prove it wrong: by a 5xx, or a status, type or shape not declared."""

import asyncio
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from pwdlib import PasswordHash
from pydantic import SecretStr
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi
from service import CHEAP, PASSWORD, Folder
from tables import make_table

from api import passwords
from api.accounts import create_user
from api.app import create_app
from api.operations import OPERATIONS
from api.serving import ModelSlot
from api.settings import ApiSettings
from api.uploads import CSV_MEDIA, PARQUET_MEDIA
from mlops_core.database import open_engine

EXAMPLES = 20
# More can be wrong with these than a JSON Schema says: the grant, a password's words, a split frame's rows, an id, and
# with nearly all of a file.
UNDECLARABLE = [
    "create_token",
    "create_user",
    "change_user",
    "change_password",
    "invoke",
    "add_outcomes",
    "predict_file",
]
CONFIG: dict[str, Any] = {
    "checks": {
        "negative_data_rejection": {
            "expected-statuses": ["400", "401", "403", "404", "409", "413", "415", "422", "429"]
        }
    },
    "operations": [
        {"include-operation-id": UNDECLARABLE, "checks": {"positive_data_acceptance": {"enabled": False}}},
    ],
}
MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2200, 12, 31)).map(
    lambda moment: moment.isoformat("T", "seconds")
)
schemathesis.openapi.format("date-time-local", MOMENTS)
TABLE = make_table("binary", 5).drop(columns=["outcome", "later"])
for media, file in ((CSV_MEDIA, TABLE.to_csv(index=False).encode()), (PARQUET_MEDIA, TABLE.to_parquet(index=False))):
    schemathesis.openapi.media_type(media, st.sampled_from([file, file[:-1]]) | st.binary(max_size=100))


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Iterator[Any]:
    """The schema of a running service whose admin calls; ids are random, so nobody hits the admin's own account."""
    folder = tmp_path_factory.mktemp("fuzz")
    slot = ModelSlot("small", "champion", folder / "serving", Folder({1: bundles["binary"], 2: bundles["binary"]}))
    machine = ApiSettings(jwt_secret=SecretStr(secrets.token_urlsafe(48)), allowed_hosts=["testserver"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        app = create_app(machine, folder, slot)
        engine = open_engine(machine.database(folder))
        asyncio.run(create_user(engine, "root", PASSWORD, ["predict", "monitor", "admin"]))
        engine.dispose()
        slot.refresh()
        config = SchemathesisConfig.from_dict(CONFIG)
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
        with asgi.get_client(app) as client:
            form = {"grant_type": "password", "username": "root", "password": PASSWORD}
            token = client.post("http://testserver/auth/token", data=form).json()["access_token"]
        schema.config.update(headers={"Authorization": f"Bearer {token}"})
        yield schema
        asgi.shutdown_lifespans()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_corner_cases_of_the_document_are_answered_as_it_says(contract: Any, method: str, path: str) -> None:
    operation, modes = contract[path][method], list(GenerationMode)
    wanted = contract.config.generation_for(operation=operation)
    for case in contract.iter_coverage_cases(operation, generation_modes=modes, generation_config=wanted):
        case.call_and_validate(headers=contract.config.headers)  # these cases are made without the configured ones


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_random_requests_are_answered_as_the_document_says(
    contract: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = contract[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    def answer(case: Any) -> None:
        case.call_and_validate()

    try:
        answer()
    except Unsatisfiable:  # nothing can be wrong where there is neither a body nor a query
        assert mode is GenerationMode.NEGATIVE
        assert not [*operation.body, *operation.query]
