"""What administrators see of the registry, and how they move the champion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from service import Service, problem
from tables import make_evaluation

from api.registry import RegistryError

SECRET = "postgresql://user:canary@10.0.0.7/mlflow"


@pytest.fixture
def two(serve: Callable[..., Service], bundles: dict[str, Path]) -> Service:
    """Version 1 is served; 2 is registered too."""
    service = serve(bundles={2: bundles["multiclass"]})
    service.account("root", "admin", "predict")
    return service


def failing(kind: str, detail: str) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise RegistryError(kind, detail)

    return fail


def test_all_versions_are_listed_with_the_served_one(two: Service) -> None:
    body = two.client.get("/v1/models", headers=two.bearer("root")).json()
    assert (body["name"], body["alias"], body["served"]) == ("small", "champion", 1)
    assert [item["version"] for item in body["versions"]] == [2, 1]


def test_a_reload_picks_up_the_champion_now(two: Service) -> None:
    root = two.bearer("root")
    unchanged = two.client.post("/admin/model/reload", headers=root)
    assert unchanged.json() == {"changed": False, "model": {"name": "small", "version": 1}, "refused": {}}
    two.registry.alias = 2
    changed = two.client.post("/admin/model/reload", headers=root)
    assert changed.json() == {"changed": True, "model": {"name": "small", "version": 2}, "refused": {}}


def test_a_reload_tries_a_refused_version_again_at_once(two: Service, bundles: dict[str, Path]) -> None:
    root = two.bearer("root")
    good = two.registry.bundles.pop(2)
    two.registry.alias = 2
    first = two.client.post("/admin/model/reload", headers=root).json()
    assert (first["changed"], first["model"]["version"], list(first["refused"])) == (False, 1, ["2"])
    two.registry.bundles[2] = good
    assert not two.slot.refresh(), "the pause of the watcher was not kept"
    second = two.client.post("/admin/model/reload", headers=root).json()
    assert second == {"changed": True, "model": {"name": "small", "version": 2}, "refused": {}}


def test_a_rollback_serves_the_version_before(two: Service) -> None:
    root = two.bearer("root")
    two.registry.alias = 2
    two.slot.refresh()
    response = two.client.post("/admin/model/rollback", json={"reason": "worse since Monday"}, headers=root)
    assert response.json() == {"changed": True, "model": {"name": "small", "version": 1}, "refused": {}}
    assert two.client.get("/readyz").json()["model"]["version"] == 1


def test_there_may_be_nothing_to_go_back_to(two: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Version 1 of 'small' is the first champion: there is nothing to go back to."
    monkeypatch.setattr(two.registry, "roll_back", failing("NothingBeforeError", text))
    response = two.client.post("/admin/model/rollback", json={"reason": "x"}, headers=two.bearer("root"))
    assert problem(response, 409)["detail"] == text


def test_only_the_champion_can_be_rolled_back(two: Service) -> None:
    two.slot.alias = "challenger"
    response = two.client.post("/admin/model/rollback", json={"reason": "x"}, headers=two.bearer("root"))
    assert "challenger" in problem(response, 409)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/v1/models", "versions"),
        ("POST", "/admin/model/reload", "champion"),
        ("POST", "/admin/model/rollback", "roll_back"),
    ],
)
def test_a_registry_that_is_away_is_a_503_without_its_address(
    two: Service, monkeypatch: pytest.MonkeyPatch, method: str, path: str, operation: str
) -> None:
    root = two.bearer("root")
    monkeypatch.setattr(two.registry, operation, failing("StoreError", f"The store at {SECRET} does not answer"))
    response = two.client.request(method, path, json={"reason": "x"}, headers=root)
    problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert not any(part in response.text for part in ("canary", "10.0.0.7", "postgresql"))
    assert two.client.get("/v1/model", headers=root).status_code == 200, "predictions must not notice"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"reason": "x", "more": 1}', "application/json", 422),
        (b'{"reason": "x", "reason": "y"}', "application/json", 422),
        (b'{"reason": ""}', "application/json", 422),
        (b'{"reason": 1}', "application/json", 422),
        (b'{"reason": "\\ud800"}', "application/json", 422),
        (b"{}", "application/json", 422),
        (b"", "application/json", 400),
        ('{"reason": "x"}'.encode("utf-16"), "application/json", 400),
        (b'{"reason": "x"}', "text/plain", 415),
        (b"reason=x", "application/x-www-form-urlencoded", 415),
    ],
)
def test_the_reason_comes_in_strict_json(two: Service, content: bytes, kind: str, status: int) -> None:
    headers = {**two.bearer("root"), "content-type": kind}
    problem(two.client.post("/admin/model/rollback", content=content, headers=headers), status)
    assert two.registry.alias == 1


def test_the_served_model_says_what_it_is_asked_and_since_when(two: Service) -> None:
    root = two.bearer("root")
    facts = two.client.get("/v1/model", headers=root).json()
    assert (facts["title"], facts["question"]) == ("A small table", "What comes?")
    assert facts["target"] == {"name": "outcome", "label": "outcome", "unit": ""}
    assert (facts["registered_at"], facts["promoted_at"]) == ("", "")
    moments = {"registered_at": "2013-12-24T18:30:00+00:00", "promoted_at": "2013-12-25T08:00:00+00:00"}
    two.slot.current = replace(two.slot.require(), facts=moments)
    facts = two.client.get("/v1/model", headers=root).json()
    assert {name: facts[name] for name in moments} == moments


def test_a_column_says_what_its_categories_are_called(two: Service) -> None:
    served = two.slot.require()
    schema = served.predictor.schema
    columns = [replace(item, names={"u": "Used"}) if item.name == "kind" else item for item in schema.columns]
    predictor = replace(served.predictor, schema=replace(schema, columns=columns))
    two.slot.current = replace(served, predictor=predictor)
    found = {item["name"]: item for item in two.client.get("/v1/model", headers=two.bearer("root")).json()["columns"]}
    assert (found["kind"]["categories"], found["kind"]["names"]) == (["u", "v", "w"], {"u": "Used"})
    assert found["gate"]["names"] == {}


def test_the_evaluation_is_the_registered_one_and_names_the_served_version(two: Service) -> None:
    found = two.client.get("/v1/model/evaluation", headers=two.bearer("root")).json()
    assert found == {"model": {"name": "small", "version": 1}, **make_evaluation()}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "it was registered without one"),
        ({"no_evaluation": "it was registered without one"}, "it was registered without one"),
        ({"no_evaluation": "it is damaged"}, "it is damaged"),
    ],
)
def test_a_version_without_an_evaluation_says_so_and_predicts_all_the_same(
    serve: Callable[..., Service], facts: dict[str, str], reason: str
) -> None:
    service = serve(facts=facts)
    service.account("ada", "predict")
    ada = service.bearer("ada")
    body = problem(service.client.get("/v1/model/evaluation", headers=ada), 404)
    assert body["detail"] == f"Version 1 of 'small' has no evaluation: {reason}."
    row = service.client.get("/v1/model", headers=ada).json()["example"]
    assert service.client.post("/v1/predict", json={"instances": [row]}, headers=ada).status_code == 200


def test_without_a_model_there_is_nothing_to_evaluate_yet(serve: Callable[..., Service]) -> None:
    service = serve(loaded=False, alias=None)
    service.account("ada", "predict")
    problem(service.client.get("/v1/model/evaluation", headers=service.bearer("ada")), 503)


def test_a_score_that_is_no_number_is_null(two: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scores = two.bearer("root"), {"roc_auc": float("nan"), "log_loss": 0.5}
    monkeypatch.setattr(two.registry, "versions", lambda _name: [{"version": 1, "metrics": scores}])
    two.slot.current = replace(two.slot.require(), facts={"metrics": scores})
    listed = two.client.get("/v1/models", headers=root).json()["versions"][0]["metrics"]
    served = two.client.get("/v1/model", headers=root).json()["metrics"]
    assert listed == served == {"roc_auc": None, "log_loss": 0.5}
