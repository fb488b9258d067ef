"""The document says what the service does: of the served model, of every route, of every error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from jsonschema import Draft202012Validator
from service import Service, example

from api.app import routes_of
from api.operations import OPERATIONS

HIDDEN = {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs/{name}")}
TASKS = ["binary", "multiclass", "regression"]


def document(service: Service) -> dict[str, Any]:
    response = service.client.get("/openapi.json")
    assert response.status_code == 200
    tree: dict[str, Any] = response.json()
    return tree


def validator(tree: dict[str, Any], name: str) -> Any:
    return Draft202012Validator({**tree, "$ref": f"#/components/schemas/{name}"})


def operations(tree: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method.upper(), path, item) for path, methods in tree["paths"].items() for method, item in methods.items()]


@pytest.mark.parametrize("task", [*TASKS, None])
def test_the_document_is_valid_with_every_kind_of_model_and_without_one(
    serve: Callable[..., Service], task: str | None
) -> None:
    service = serve(task) if task else serve(loaded=False, alias=None)
    tree = document(service)
    for flow in tree["components"]["securitySchemes"]["OAuth2"]["flows"].values():
        flow |= dict.fromkeys(
            ("tokenUrl", "refreshUrl"), "https://example.org/auth/token"
        )  # may be relative, says 3.1.1
    schemathesis.openapi.from_dict(tree).validate()
    for name in tree["components"]["schemas"]:
        Draft202012Validator.check_schema(tree["components"]["schemas"][name])
        list(validator(tree, name).iter_errors({}))  # every reference leads somewhere


def test_every_route_is_in_the_document_or_hidden_on_purpose(service: Service) -> None:
    routes = routes_of(service.client.app)  # type: ignore[arg-type]
    documented = {(method, path) for method, path, _ in operations(document(service))}
    assert routes - documented == HIDDEN
    assert documented == set(OPERATIONS)


def test_operations_are_named_once_tagged_and_summarised(service: Service) -> None:
    found = operations(document(service))
    assert len({item["operationId"] for _, _, item in found}) == len(found)
    assert all(item["tags"] and item["summary"] for _, _, item in found)


def test_every_error_is_a_problem(service: Service) -> None:
    tree = document(service)
    for method, path, item in operations(tree):
        for status, response in item["responses"].items():
            if status >= "400":
                found = tree["components"]["responses"][status] if "$ref" in response else response
                assert list(found["content"]) == ["application/problem+json"], (method, path, status)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("path", "request_name", "answer_name"),
    [
        ("/v1/predict", "PredictBody", "PredictAnswer"),
        ("/v1/explain", "ExplainBody", "ExplainAnswer"),
        ("/invocations", "InvocationsBody", "InvocationsAnswer"),
    ],
)
def test_examples_are_what_the_service_really_answers(
    serve: Callable[..., Service], task: str, path: str, request_name: str, answer_name: str
) -> None:
    service = serve(task)
    service.account("ada", "predict")
    headers = service.bearer("ada")
    tree = document(service)
    operation = tree["paths"][path]["post"]
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    validator(tree, answer_name).validate(shown)
    for sent in operation["requestBody"]["content"]["application/json"]["examples"].values():
        validator(tree, request_name).validate(sent["value"])
        got = service.client.post(path, json=sent["value"], headers=headers).json()
        validator(tree, answer_name).validate(got)
        for entry in (*got["predictions"], *shown["predictions"]):
            entry.pop("id", None)
        assert got == shown


@pytest.mark.parametrize("task", TASKS)
def test_what_a_form_needs_has_the_declared_form(serve: Callable[..., Service], task: str) -> None:
    service = serve(task)
    service.account("ada", "predict")
    answer = service.client.get("/v1/model", headers=service.bearer("ada")).json()
    tree = document(service)
    validator(tree, "ModelFacts").validate(answer)
    validator(tree, "Instance").validate(answer["example"])


@pytest.mark.parametrize("task", TASKS)
def test_what_a_page_about_the_model_shows_has_the_declared_form(serve: Callable[..., Service], task: str) -> None:
    service = serve(task)
    service.account("ada", "predict")
    answer = service.client.get("/v1/model/evaluation", headers=service.bearer("ada"))
    assert answer.status_code == 200
    validator(document(service), "ModelEvaluation").validate(answer.json())


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"amount": None}, True),
        ({"amount": 100}, True),
        ({"amount": 100.5}, False),
        ({"amount": "1"}, False),
        ({"count": 3.5}, False),
        ({"count": None}, False),
        ({"kind": "never seen"}, True),
        ({"gate": "Z"}, False),
        ({"open": 1}, False),
        ({"at": "yesterday"}, False),
        ({"at": "2013-01-01"}, True),
        ({"nobody": 1}, False),
    ],
)
def test_the_declared_instance_and_the_service_agree(service: Service, change: dict[str, Any], valid: bool) -> None:
    headers = service.bearer("ada")
    row = {**example(service, headers), **change}
    assert validator(document(service), "Instance").is_valid(row) is valid
    response = service.client.post("/v1/predict", json={"instances": [row]}, headers=headers)
    assert response.status_code == (200 if valid else 422)


def test_columns_carry_titles_units_and_known_values(service: Service) -> None:
    columns = document(service)["components"]["schemas"]["Instance"]["properties"]
    assert columns["amount"]["title"].endswith("(kg)")
    assert "u, v, w" in columns["kind"]["description"]
    assert "enum" not in columns["kind"]
    assert columns["gate"]["enum"] == ["A", "B"]


def test_the_document_follows_the_model(serve: Callable[..., Service], bundles: dict[str, Path]) -> None:
    service = serve(bundles={2: bundles["regression"]})
    first, again = (service.client.get("/openapi.json").content for _ in range(2))
    assert first == again
    service.registry.alias = 2
    assert service.slot.refresh()
    tree = document(service)
    assert "interval" in tree["components"]["schemas"]["Prediction"]["properties"]
    assert "version 2" in tree["info"]["description"]


def test_the_document_is_not_made_again_for_the_same_version(service: Service) -> None:
    documents = service.client.app.state.api.documents  # type: ignore[attr-defined]
    assert documents.content(service.slot.current) is documents.content(service.slot.current)
