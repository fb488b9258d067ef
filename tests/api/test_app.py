"""The service as a client meets it: real database, real bundle, every answer in its declared shape."""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from service import JSON, PASSWORD, Folder, Service, example, problem

from api.accounts import change_user
from api.app import create_app
from api.serving import ModelSlot
from api.settings import ApiSettings, MissingSettingError
from mlops_core.errors import MLOpsError


def test_a_password_buys_a_short_token_that_is_never_cached(service: Service) -> None:
    response = service.login("ada")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body["token_type"] == "bearer"
    assert body["scope"] == "predict"
    assert 0 < body["expires_in"] <= 900


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(service: Service, name: str) -> None:
    body = problem(service.login(name, "wrong horse walks home"), 401)
    assert body["error"] == "invalid_grant"
    assert name not in body["detail"]


def test_the_sixth_failure_is_throttled_and_says_for_how_long(service: Service) -> None:
    for _ in range(5):
        problem(service.login("ada", "wrong horse walks home"), 401)
    response = service.login("ada", "wrong horse walks home")
    problem(response, 429)
    assert 0 < int(response.headers["retry-after"]) <= 900


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "ada"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
    ],
)
def test_a_grant_that_is_not_offered_is_named_as_oauth_names_it(
    service: Service, form: dict[str, str], error: str
) -> None:
    assert problem(service.client.post("/auth/token", data=form), 400)["error"] == error


def test_credentials_in_json_or_in_the_query_are_not_read(service: Service) -> None:
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    problem(service.client.post("/auth/token", json=form), 415)
    problem(service.client.post("/auth/token", params=form), 415)


def test_a_refresh_token_works_once_and_its_reuse_ends_the_family(service: Service) -> None:
    first = service.login("ada").json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first}
    second = service.client.post("/auth/token", data=form).json()
    assert second["refresh_token"] != first
    problem(service.client.post("/auth/token", data=form), 401)
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    problem(service.client.get("/auth/me", headers=headers), 401)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_revoking_either_token_ends_the_session_at_once(service: Service, kind: str) -> None:
    tokens = service.login("ada").json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert service.client.get("/auth/me", headers=headers).json()["name"] == "ada"
    assert service.client.post("/auth/revoke", data={"token": tokens[kind]}).status_code == 200
    problem(service.client.get("/auth/me", headers=headers), 401)


def test_revoking_garbage_is_no_error(service: Service) -> None:
    assert service.client.post("/auth/revoke", data={"token": "garbage"}).status_code == 200


def test_no_token_and_a_bad_one_are_told_apart_by_the_challenge_only(service: Service) -> None:
    without = service.client.get("/auth/me")
    bad = service.client.get("/auth/me", headers={"Authorization": "Bearer x.y.z"})
    assert without.headers["www-authenticate"] == "Bearer"
    assert bad.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    strip = {"request_id"}
    left, right = (
        {key: value for key, value in problem(item, 401).items() if key not in strip} for item in (without, bad)
    )
    assert left == right


def test_a_disabled_account_gets_the_same_401_with_its_old_token(service: Service) -> None:
    user = service.account("eve", "predict")
    headers = service.bearer("eve")
    change_user(service.engine, user, enabled=False)
    assert problem(service.client.get("/v1/model", headers=headers), 401)["detail"] == "A valid access token is needed."


def test_a_scope_that_was_taken_away_is_gone_on_the_next_request(service: Service) -> None:
    user = service.account("eve", "predict", "monitor")
    headers = service.bearer("eve")
    assert service.client.get("/v1/model", headers=headers).status_code == 200
    change_user(service.engine, user, scopes=["monitor"])
    response = service.client.get("/v1/model", headers=headers)
    problem(response, 403)
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


def test_only_these_paths_answer_without_a_token(service: Service) -> None:
    open_paths = {"/auth/token", "/auth/revoke", "/livez", "/readyz", "/openapi.json"}
    schema = service.client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method in methods:
            response = service.client.request(method, path.replace("{user_id}", "x"))
            assert (response.status_code == 401) != (path in open_paths), (method, path, response.status_code)


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain", "/invocations"])
def test_accounts_without_the_predict_scope_get_no_prediction(service: Service, path: str) -> None:
    service.account("mon", "monitor")
    problem(service.client.post(path, json={"instances": [{}]}, headers=service.bearer("mon")), 403)


def test_only_admins_see_and_change_accounts(service: Service) -> None:
    problem(service.client.get("/admin/users", headers=service.bearer("ada")), 403)
    root = service.bearer("root")
    new = {"name": "Bob", "password": "eleven boats on a lake", "scopes": ["predict"]}
    made = service.client.post("/admin/users", json=new, headers=root)
    assert made.status_code == 201
    assert made.json()["name"] == "bob"
    assert "password" not in made.text
    problem(service.client.post("/admin/users", json=new, headers=root), 409)
    path = f"/admin/users/{made.json()['id']}"
    assert service.client.patch(path, json={"enabled": False}, headers=root).json()["enabled"] is False
    assert service.client.delete(path, headers=root).status_code == 204
    problem(service.client.delete(path, headers=root), 404)


def test_the_last_admin_cannot_remove_itself(service: Service) -> None:
    root = service.bearer("root")
    me = service.client.get("/auth/me", headers=root).json()["id"]
    problem(service.client.delete(f"/admin/users/{me}", headers=root), 409)
    problem(service.client.patch(f"/admin/users/{me}", json={"scopes": ["predict"]}, headers=root), 409)


def test_a_change_of_two_things_is_made_as_a_whole(service: Service) -> None:
    root, other = service.bearer("root"), f"/admin/users/{service.account('eve', 'predict')}"
    me = service.client.get("/auth/me", headers=root).json()
    refused = {"scopes": ["admin", "monitor"], "enabled": False}
    problem(service.client.patch(f"/admin/users/{me['id']}", json=refused, headers=root), 409)
    assert service.client.get("/auth/me", headers=root).json() == me
    changed = service.client.patch(other, json={"scopes": ["monitor"], "enabled": False}, headers=root).json()
    assert (changed["scopes"], changed["enabled"]) == (["monitor"], False)
    assert service.client.patch(other, json={}, headers=root).json() == changed


def test_an_admin_ends_somebodys_sessions_and_the_account_stays(service: Service) -> None:
    root, eve = service.bearer("root"), f"/admin/users/{service.account('eve', 'predict')}"
    held = service.bearer("eve")
    assert service.client.patch(eve, json={"end_sessions": False}, headers=root).status_code == 200
    assert service.client.get("/auth/me", headers=held).status_code == 200
    assert service.client.patch(eve, json={"end_sessions": True}, headers=root).json()["enabled"] is True
    problem(service.client.get("/auth/me", headers=held), 401)
    assert service.client.get("/auth/me", headers=service.bearer("eve")).status_code == 200


@pytest.mark.parametrize("extra", [{"id": "1"}, {"password_hash": "x"}, {"token_version": 9}, {"is_admin": True}])
def test_fields_that_nobody_may_set_are_refused(service: Service, extra: dict[str, Any]) -> None:
    body = {"name": "bob", "password": "eleven boats on a lake", "scopes": ["predict"], **extra}
    problem(service.client.post("/admin/users", json=body, headers=service.bearer("root")), 422)


def test_a_changed_password_ends_every_session(service: Service) -> None:
    headers = service.bearer("ada")
    body = {"current_password": PASSWORD, "new_password": "nine geese over the town"}
    wrong = {**body, "current_password": "wrong horse walks home"}
    problem(service.client.put("/auth/me/password", json=wrong, headers=headers), 403)
    assert service.client.put("/auth/me/password", json=body, headers=headers).status_code == 204
    problem(service.client.get("/auth/me", headers=headers), 401)
    problem(service.login("ada"), 401)


def test_a_password_that_is_refused_is_in_no_answer(service: Service) -> None:
    body = {"name": "bob", "password": "short-canary", "scopes": ["predict"]}
    response = service.client.post("/admin/users", json=body, headers=service.bearer("root"))
    problem(response, 422)
    assert "canary" not in response.text


def test_a_prediction_adds_up_and_names_its_model(service: Service) -> None:
    headers = service.bearer("ada")
    row = example(service, headers)
    body = service.client.post("/v1/predict", json={"instances": [row, row]}, headers=headers).json()
    assert body["model"] == {"name": "small", "version": 1}
    first, second = body["predictions"]
    assert first["id"] != second["id"]
    assert first["probabilities"] == second["probabilities"]
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["confidence"] == first["probabilities"][first["label"]]
    assert set(first["prediction_set"]) <= set(first["probabilities"])


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_an_explanation_adds_up_to_the_answer_of_every_task(serve: Callable[..., Service], task: str) -> None:
    service = serve(task)
    service.account("ada", "predict")
    headers = service.bearer("ada")
    row = example(service, headers)
    found = service.client.post("/v1/explain", json={"instances": [row]}, headers=headers).json()["predictions"][0]
    total = found["base_value"] + sum(found["contributions"].values())
    expected = found["value"] if task == "regression" else max(found["probabilities"].values())
    if task == "binary":
        expected = list(found["probabilities"].values())[-1]
    assert total == pytest.approx(expected, abs=1e-9)
    if task == "regression":
        assert found["interval"][0] < found["value"] < found["interval"][1]


def test_more_rows_than_can_be_explained_are_refused(service: Service) -> None:
    headers = service.bearer("ada")
    row = example(service, headers)
    problem(service.client.post("/v1/explain", json={"instances": [row] * 65}, headers=headers), 413)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"instances": [{"amount": NaN}]}', 422),
        (b'{"instances": [{"amount": Infinity}]}', 422),
        (b'{"instances": [{"amount": 1e400}]}', 422),
        (b'{"instances": [{"amount": "1"}]}', 422),
        (b'{"instances": [{"amount": true}]}', 422),
        (b'{"instances": [{"kind": "\\ud800"}]}', 422),
        (b'{"instances": [{"kind": "\\u0000"}]}', 422),
        (b'{"instances": [{"amount": 1, "amount": 2}]}', 422),
        (b'{"instances": [{"nobody": 1}]}', 422),
        (b'{"instances": []}', 422),
        (b'{"instances": [1]}', 422),
        (b'{"instances": {}}', 422),
        (b'{"rows": []}', 422),
        (b"[]", 422),
        (b"null", 422),
        (b"", 400),
        (b"{", 400),
        (b'{"instances": []} {}', 400),
        (b"[" * 100_000, 400),
        (b'\xef\xbb\xbf{"instances": []}', 400),
        ('{"instances": []}'.encode("utf-16"), 400),
        (b'{"instances": [{"amount": ' + b"9" * 5000 + b"}]}", 400),
    ],
)
def test_a_body_that_cannot_be_used_is_a_short_problem(service: Service, body: bytes, status: int) -> None:
    response = service.client.post("/v1/predict", content=body, headers={**service.bearer("ada"), **JSON})
    problem(response, status)
    assert len(response.content) < 2000


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_another_content_type_is_415(service: Service, kind: str) -> None:
    headers = {**service.bearer("ada"), "content-type": kind}
    problem(service.client.post("/v1/predict", content=b"{}", headers=headers), 415)


def test_a_compressed_body_is_never_inflated(service: Service) -> None:
    headers = {**service.bearer("ada"), **JSON, "content-encoding": "gzip"}
    problem(service.client.post("/v1/predict", content=b"\x1f\x8b", headers=headers), 415)


def test_errors_are_capped_and_counted(service: Service) -> None:
    rows = [{"nobody": 1}] * 500
    body = problem(service.client.post("/v1/predict", json={"instances": rows}, headers=service.bearer("ada")), 422)
    assert (len(body["errors"]), body["error_count"]) == (20, 500)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(service: Service, declared: bool) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * (1 << 20)

    content = b"x" * (20 << 20) if declared else chunks()
    headers = {**service.bearer("ada"), **JSON}
    problem(service.client.post("/v1/predict", content=content, headers=headers), 413)


def test_a_foreign_host_is_refused_and_not_reflected(service: Service) -> None:
    response = service.client.get("/v1/model", headers={"host": "evil.example"})
    problem(response, 400)
    assert "location" not in response.headers


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_balancer_asks_for_health_by_an_address_that_nobody_listed(service: Service, path: str) -> None:
    assert service.client.get(path, headers={"host": "10.2.3.4:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/livez", 405), ("GET", "//evil", 404)]
)
def test_unknown_paths_and_methods_are_problems_too(service: Service, method: str, path: str, status: int) -> None:
    problem(service.client.request(method, path), status)


def test_a_failure_that_nobody_foresaw_says_nothing_and_keeps_serving(service: Service) -> None:
    def broken() -> None:
        raise RuntimeError("canary")

    service.client.app.add_api_route("/broken", broken)  # type: ignore[attr-defined]
    for _ in range(3):
        response = service.client.get("/broken")
        problem(response, 500)
        assert "canary" not in response.text


def test_a_request_id_is_kept_when_it_is_sane(service: Service) -> None:
    assert service.client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert service.client.get("/livez", headers={"x-request-id": "a b\t"}).headers["x-request-id"] != "a b\t"


def test_without_a_model_the_process_lives_and_is_not_ready(serve: Callable[..., Service]) -> None:
    service = serve(loaded=False, alias=None)
    service.account("ada", "predict")
    assert service.client.get("/livez").status_code == 200
    assert service.client.get("/readyz").status_code == 503
    response = service.client.post("/v1/predict", json={"instances": [{}]}, headers=service.bearer("ada"))
    problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    service.registry.alias = 1
    assert service.slot.refresh()
    assert service.client.get("/readyz").json()["model"]["version"] == 1


def test_a_bad_version_is_refused_and_the_old_one_goes_on(
    serve: Callable[..., Service], bundles: dict[str, Path], tmp_path: Path
) -> None:
    bad = shutil.copytree(bundles["binary"], tmp_path / "bad")
    (bad / "model.onnx").write_bytes(b"nonsense")
    service = serve(bundles={2: bad, 3: bundles["binary"]})
    service.registry.alias = 2
    first = time.time()  # the service's own refresh may come between, with the real clock
    service.slot.refresh(now=lambda: first)
    service.slot.refresh(now=lambda: first + 1)
    assert service.registry.fetched.count(2) == 1, "a refused version was fetched again at once"
    ready = service.client.get("/readyz").json()
    assert (ready["model"]["version"], ready["degraded"]) == (1, True)
    assert "model.onnx" in ready["refused"]["2"]
    service.registry.alias = 3
    assert service.slot.refresh()
    assert service.client.get("/readyz").json()["model"]["version"] == 3


def test_a_restart_needs_no_registry(serve: Callable[..., Service]) -> None:
    serve()
    again = serve(loaded=False, down=True)
    assert again.client.get("/readyz").json()["model"]["version"] == 1
    again.slot.refresh()
    assert again.client.get("/readyz").json()["registry_down_since"] is not None


def test_the_evaluation_outlives_a_restart_without_the_registry(serve: Callable[..., Service]) -> None:
    first = serve()
    first.account("ada", "predict")
    told = first.client.get("/v1/model/evaluation", headers=first.bearer("ada"))
    again = serve(loaded=False, down=True)
    assert again.client.get("/v1/model/evaluation", headers=again.bearer("ada")).json() == told.json()


def test_what_mlflow_serve_accepts_is_accepted_here(service: Service) -> None:
    headers = service.bearer("ada")
    row = example(service, headers)
    split = {"columns": list(row), "data": [list(row.values())]}
    answers = [
        service.client.post("/invocations", json=body, headers=headers).json()["predictions"][0]["probabilities"]
        for body in ({"dataframe_records": [row]}, {"dataframe_split": split}, {"instances": [row]})
    ]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "body", [{"inputs": []}, {"dataframe_split": {"columns": ["a", "a"], "data": []}}, {"dataframe_split": 1}]
)
def test_what_it_does_not_accept_is_a_problem(service: Service, body: dict[str, Any]) -> None:
    problem(service.client.post("/invocations", json=body, headers=service.bearer("ada")), 422)


@pytest.mark.parametrize("variable", ["MLOPS_JWT_SECRET", "MLOPS_DATABASE_URL"])
def test_production_makes_nothing_up(tmp_path: Path, variable: str) -> None:
    given = {} if variable == "MLOPS_JWT_SECRET" else {"jwt_secret": SecretStr(secrets.token_urlsafe(48))}
    settings = ApiSettings(env="production", **given)
    with pytest.raises(MissingSettingError, match=variable):
        create_app(settings, tmp_path, ModelSlot("small", "champion", tmp_path, Folder({})))


@pytest.mark.parametrize("secret", ["secret", "x" * 31])
def test_a_weak_secret_stops_the_start(tmp_path: Path, secret: str) -> None:
    settings = ApiSettings(jwt_secret=SecretStr(secret))
    with pytest.raises(MLOpsError, match="MLOPS_JWT_SECRET"):
        create_app(settings, tmp_path, ModelSlot("small", "champion", tmp_path, Folder({})))


def test_a_local_secret_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    first = ApiSettings().secret(tmp_path)
    assert ApiSettings().secret(tmp_path) == first
    assert (tmp_path / ".mlops" / "jwt_secret").stat().st_mode & 0o777 == 0o600


def test_the_openapi_document_is_json_without_surprises(service: Service) -> None:
    document = service.client.get("/openapi.json")
    assert document.status_code == 200
    assert json.loads(document.content)["info"]["title"] == "mlops"
